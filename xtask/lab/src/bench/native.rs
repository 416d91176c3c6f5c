//! The agent as it ships on this machine's own kernel: emulation inflates its share of a processor.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{EXAMPLE, PODS, STEADY, served::Served, split};
use crate::{paths::Paths, scenario};

/// The agent as it ships, streaming to an aggregator that serves what it reports. `None`, with the reason printed,
/// where this machine does not let a cgroup be made.
pub async fn run(paths: &Paths) -> Result<Option<Value>> {
    let served = Served::start(paths, "bench", this_machine()?).await?;
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
    fs::write(&ca, &served.ca).context("cannot write the CA")?;
    fs::write(&token, &served.token).context("cannot write the token")?;
    let ingest = served.central.ingest.to_string();
    let program = paths.program("waggle-agent");
    let mut command = Command::new(paths.program(EXAMPLE));
    command.args(["--rounds", "40", "--steady", STEADY, "--"]).arg(program).args([
        "run",
        "--aggregator",
        &ingest,
    ]);
    command.arg("--aggregator-ca").arg(&ca).arg("--token-file").arg(&token);
    command.args(["--metrics-bind", "127.0.0.1:0"]).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let bench = command.spawn().context("cannot start collector_bench")?.wait_with_output();
    let (output, live) = tokio::join!(bench, live(&served));
    let output = output.context("cannot wait for collector_bench")?;
    if !output.status.success() {
        println!("cannot be measured here: {}", String::from_utf8_lossy(&output.stderr).trim());
        return Ok(None);
    }
    live?;
    let report = split(&String::from_utf8_lossy(&output.stdout))?;
    served.was_live(Duration::from_secs(4)).await?;
    let whole = served.whole_pods().await?;
    if memory_was_read(&report) {
        anyhow::ensure!(whole == PODS, "{whole} of {PODS} pods are served whole");
    } else {
        anyhow::ensure!(whole == 0, "{whole} pods are served without memory");
        println!(
            "memory is on cgroup v1 here: 400 cgroups were read, and of the stream there were the node's totals only, \
             for a container without memory is not measured"
        );
    }
    Ok(Some(report))
}

/// Whether the machine has the memory controller on cgroup v2.
pub fn memory_was_read(report: &Value) -> bool {
    report["files"].as_array().is_some_and(|files| files.len() > 1)
}

/// The Node object with this machine's size: an aggregator refuses what is more than a node has.
fn this_machine() -> Result<Value> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let memory = format!("{}Ki", total.context("no MemTotal in /proc/meminfo")?);
    let processors = std::thread::available_parallelism().context("cannot count the processors")?;
    let mut node = scenario::node_object();
    for size in ["capacity", "allocatable"] {
        node["status"][size] = json!({"cpu": processors.to_string(), "memory": memory, "pods": "110"});
    }
    Ok(node)
}

/// Waits until what the agent streams is served.
async fn live(served: &Served) -> Result<()> {
    let begun = Instant::now();
    while served.central.node_metrics().await?.is_none() {
        // The rounds come first.
        anyhow::ensure!(begun.elapsed() < Duration::from_mins(1), "the agent's node is not served");
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}
