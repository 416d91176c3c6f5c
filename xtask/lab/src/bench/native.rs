//! The agent as it ships on this machine's own kernel: emulation inflates its share of a processor.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use super::{EXAMPLE, PODS, STEADY, split};
use crate::{
    central::Central,
    cluster::agent_pod,
    control::Work,
    layout::Qos,
    paths::Paths,
    scenario::{self, Container, Pod},
};

const CONTAINERS: usize = 3;

/// The agent as it ships, streaming to an aggregator that serves what it reports. `None`, with the reason printed,
/// where this machine does not let a cgroup be made.
pub async fn run(paths: &Paths) -> Result<Option<Value>> {
    let mut central = Central::start(paths, "bench", "60s").await?;
    let agent = agent_pod();
    central.stand_in.apply(this_machine()?)?;
    central.stand_in.apply(agent.object())?;
    for number in 0..PODS {
        central.stand_in.apply(pod(number).object())?;
    }
    central.start_aggregator().await?;
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
    fs::write(&ca, central.stand_in.cluster_ca_pem()).context("cannot write the CA")?;
    fs::write(&token, central.agent_token(&agent)?).context("cannot write the token")?;
    let ingest = central.ingest.to_string();
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
    let (output, live) = tokio::join!(bench, live(&central));
    let output = output.context("cannot wait for collector_bench")?;
    if !output.status.success() {
        println!("cannot be measured here: {}", String::from_utf8_lossy(&output.stderr).trim());
        return Ok(None);
    }
    live?;
    let report = split(&String::from_utf8_lossy(&output.stdout))?;
    // It has just ended: the stream was live to the end if the values are of now.
    let node = central.node_metrics().await?.context("the node is not served at the end")?;
    let age = jiff::Timestamp::now().duration_since(node.timestamp).unsigned_abs();
    anyhow::ensure!(
        age < Duration::from_secs(4),
        "the stream was not live to the end: the newest value is {age:?} old"
    );
    let served = central.pods().await?;
    if memory_was_read(&report) {
        let whole = |pod: &&Value| {
            let containers = pod["containers"].as_array();
            containers.is_some_and(|all| {
                all.len() == CONTAINERS && all.iter().all(|one| one["usage"]["cpu"] != "0")
            })
        };
        let whole = served.iter().filter(whole).count();
        anyhow::ensure!(whole == PODS, "{whole} of {PODS} pods are served whole");
    } else {
        // A container without a memory value is not measured: neither served nor streamed.
        anyhow::ensure!(served.is_empty(), "{} pods are served without memory", served.len());
        println!(
            "memory is on cgroup v1 here: 400 cgroups were read, and the stream had the node's totals only"
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
async fn live(central: &Central) -> Result<()> {
    let begun = Instant::now();
    while central.node_metrics().await?.is_none() {
        // The rounds come first.
        anyhow::ensure!(begun.elapsed() < Duration::from_mins(1), "the agent's node is not served");
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// The object of the pod whose cgroups `collector_bench` makes under this number.
fn pod(number: usize) -> Pod {
    let containers = (0..CONTAINERS).map(|index| {
        let id = format!("{:064x}", number * CONTAINERS + index);
        Container { id, ..Container::new(&format!("c{index}"), Work::Sleep, None) }
    });
    let pod = Pod::new("bench", &format!("pod-{number}"), Qos::Burstable, containers.collect());
    Pod { uid: format!("{number:08x}-1c2d-4e5f-8a9b-0c1d2e3f4a5b"), ..pod }
}
