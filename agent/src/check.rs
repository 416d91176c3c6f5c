//! `waggle-agent check`: what this node offers, which collector would run, and why.

use std::io::Write;
use std::process::ExitCode;

use crate::args::NodeArgs;
use crate::collect::{Collector, Field, Kubepods, Sample, Snapshot, choose};
use crate::privilege;

/// Prints one fact a line. 0 only if a collector would run: it has then taken a snapshot without any capability, as
/// `run` does.
pub fn check(node: &NodeArgs, out: &mut impl Write) -> anyhow::Result<ExitCode> {
    let options = node.options();
    writeln!(out, "kernel        {}", rustix::system::uname().release().to_string_lossy())?;
    writeln!(out, "cgroup root   {}", options.cgroup_root.display())?;
    match Kubepods::find(&options.cgroup_root) {
        Ok(all) => {
            for kubepods in all {
                writeln!(out, "kubepods      {}", kubepods.path.display())?;
            }
        }
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
    let walked = collector.fields();
    let source = |field| if walked.contains(field) { "bpf" } else { "file" };
    let fields: Vec<_> =
        Field::ALL.into_iter().map(|field| format!("{} {}", field.name(), source(field))).collect();
    writeln!(out, "fields        {}", fields.join(", "))?;
    let all = &snapshot.samples;
    let containers = all.iter().filter(|sample| sample.identity.container.is_some()).count();
    writeln!(out, "pods          {}", all.len() - containers)?;
    writeln!(out, "containers    {containers}")?;
    let with = |what: fn(&Sample) -> bool| all.iter().filter(|sample| what(sample)).count();
    writeln!(out, "cpu           of {} of {} cgroups", with(|s| s.cpu_ns.is_some()), all.len())?;
    writeln!(out, "memory        of {} of {} cgroups", with(|s| s.memory.is_some()), all.len())?;
    let swap = with(|s| s.memory.is_some_and(|memory| memory.swap_pages.is_some()));
    writeln!(out, "swap          of {swap} of {} cgroups", all.len())?;
    let uncounted = with(|s| s.identity.container.is_some() && s.measured().is_none());
    if uncounted > 0 {
        writeln!(
            out,
            "not measured  {uncounted} containers: their cgroups count nothing (a sandboxed runtime, or they have ended)"
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{CollectorArg, LogFormat};

    #[test]
    fn a_node_that_offers_nothing_fails_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let node = NodeArgs {
            cgroup_root: root.path().join("none"),
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
