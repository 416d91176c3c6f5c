//! What collecting costs: the three ways in one virtual machine, where ratios can be compared, and the agent's share of
//! a processor natively, because emulation inflates it.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::process::Command;

use crate::{
    control::{Act, Program},
    paths::Paths,
    vm::{Boot, Vm},
};

const EXAMPLE: &str = "examples/collector_bench";

/// Runs both and prints them beside their targets; whether all targets are met.
pub async fn run(paths: &Paths) -> Result<bool> {
    println!(
        "bench: 400 cgroups in a virtual machine, kernel 6.12 (emulated: only the ratios say something)"
    );
    let emulated = in_machine(paths).await?;
    println!("\nbench: the agent's steady state over 400 cgroups on this machine's own kernel, 30 s");
    let native = natively(paths).await?;
    println!("\n{:<58} {:>10} {:>10}", "", "measured", "target");
    let ratio = |name: &str| emulated["ratios"][name].as_f64().unwrap_or_default();
    let cgroups = emulated["cgroups"].as_f64().unwrap_or_default();
    let mut met = line("cgroups measured", cgroups, "≥ 400", cgroups >= 400.0);
    let (kept, open) = (ratio("kept_to_bpf"), ratio("open_to_bpf"));
    met &= line("eBPF against kept descriptors, times faster", kept, "≥ 8", kept >= 8.0);
    met &= line("eBPF against open/read/close, times faster", open, "≥ 20", open >= 20.0);
    if let Some(steady) = native {
        let share = steady["share_of_a_core"].as_f64().unwrap_or(1.0) * 100.0;
        let resident = steady["rss_kib"].as_f64().unwrap_or(f64::MAX) / 1024.0;
        met &= line("agent's share of a core at one snapshot a second, %", share, "< 0.3", share < 0.3);
        met &= line("agent resident, MiB", resident, "< 24", resident < 24.0);
    } else {
        met = false;
    }
    Ok(met)
}

fn line(what: &str, measured: f64, target: &str, met: bool) -> bool {
    println!("{what:<58} {measured:>10.2} {target:>10} {}", if met { "met" } else { "MISSED" });
    met
}

async fn in_machine(paths: &Paths) -> Result<Value> {
    let program = paths.program(EXAMPLE);
    let content = std::fs::read(&program).with_context(|| format!("cannot read {}", program.display()))?;
    let boot = Boot {
        label: "bench".to_owned(),
        kernel: "6.12".to_owned(),
        files: vec![("bin/collector_bench".to_owned(), 0o755, content)],
        ..Boot::default()
    };
    let vm = Vm::boot(paths, boot).await?;
    let cgroup = "system.slice/lab.service".to_owned();
    vm.node.act(Act::MakeCgroup { path: cgroup.clone(), limits: Vec::new() }).await?;
    let argv = ["/bin/collector_bench", "--make-below", "/sys/fs/cgroup", "--rounds", "60"];
    let program = Program {
        argv: argv.map(str::to_owned).to_vec(),
        environment: vec![("PATH".to_owned(), "/bin".to_owned())],
        cgroup,
        confined: false,
    };
    let (status, output) = vm.node.run(program).await?;
    if status != 0 {
        bail!("collector_bench ended with {status} in the machine:\n{output}");
    }
    split(&output)
}

/// `None`, with the reason printed, where this machine does not let a cgroup be made.
async fn natively(paths: &Paths) -> Result<Option<Value>> {
    let output = Command::new(paths.program(EXAMPLE))
        .args(["--rounds", "40", "--steady", "30s"])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start collector_bench")?;
    if !output.status.success() {
        println!("cannot be measured here: {}", String::from_utf8_lossy(&output.stderr).trim());
        return Ok(None);
    }
    let report = split(&String::from_utf8_lossy(&output.stdout))?;
    Ok(Some(report["steady"].clone()))
}

/// Prints the table and returns the JSON that is the last line.
fn split(output: &str) -> Result<Value> {
    let (table, last) = output.trim_end().rsplit_once('\n').context("collector_bench printed no report")?;
    println!("{table}");
    serde_json::from_str(last).with_context(|| format!("collector_bench's last line is not JSON: {last}"))
}
