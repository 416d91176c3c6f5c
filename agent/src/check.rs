//! `waggle-agent check`: what this node offers, which collector would run, and why.

use std::io::Write;
use std::process::ExitCode;

use crate::args::NodeArgs;
use crate::collect::{Collector, Kubepods, Snapshot, choose};
use crate::privilege;

/// Prints one fact a line. 0 only if a collector would run: it has then taken a snapshot
/// without any capability, as `run` does.
pub fn check(node: &NodeArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let options = node.options();
    writeln!(out, "kernel        {}", rustix::system::uname().release().to_string_lossy())?;
    writeln!(out, "cgroup root   {}", options.cgroup_root.display())?;
    match Kubepods::find(&options.cgroup_root) {
        Ok(kubepods) => writeln!(out, "kubepods      {}", kubepods.path.display())?,
        Err(error) => writeln!(out, "kubepods      none: {error}")?,
    }
    let mut snapshot = Snapshot::default();
    let taken = choose(&options).map_err(anyhow::Error::from).and_then(|mut collector| {
        privilege::drop_all()?;
        collector.snapshot(&mut snapshot)?;
        Ok(collector)
    });
    match taken {
        Ok(collector) => {
            describe(collector.as_ref(), &snapshot, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            writeln!(out, "collector     none: {error:#}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn describe(collector: &dyn Collector, snapshot: &Snapshot, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "collector     {}", collector.name())?;
    for refusal in collector.refusals() {
        writeln!(out, "not bpf       {refusal}")?;
    }
    let containers = snapshot.samples.iter().filter(|sample| sample.identity.container.is_some()).count();
    writeln!(out, "pods          {}", snapshot.samples.len() - containers)?;
    writeln!(out, "containers    {containers}")?;
    let with = |what: fn(&crate::collect::Memory) -> bool| {
        snapshot
            .samples
            .iter()
            .filter_map(|sample| sample.memory.as_ref())
            .filter(|memory| what(memory))
            .count()
    };
    writeln!(out, "memory        of {} of {} cgroups", with(|_| true), snapshot.samples.len())?;
    let swap = with(|memory| memory.swap_pages.is_some());
    writeln!(out, "swap          of {swap} of {} cgroups", snapshot.samples.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{CollectorArg, LogFormat};

    #[test]
    fn a_node_that_offers_nothing_fails_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let node = NodeArgs {
            cgroup_root: root.path().to_owned(),
            collector: CollectorArg::Auto,
            log_format: LogFormat::Text,
        };
        let mut out = Vec::new();
        let code = check(&node, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(code, ExitCode::FAILURE);
        assert!(text.contains("kubepods      none: no kubepods cgroup below"), "{text}");
        assert!(text.contains("collector     none:") && text.contains("--cgroup-root"), "{text}");
    }
}
