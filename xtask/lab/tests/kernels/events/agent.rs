//! The agent of a machine, and what it says of itself.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tokio::time::sleep;
use waggle_lab::{
    control::{Act, Program, Rights},
    vm::Vm,
};

use super::SECOND;
use crate::pods::run;

/// The name of its process.
pub const AGENT: &str = "waggle-agent";
/// Its cgroup.
pub const HOUSE: &str = "system.slice/agent.service";

/// Starts the agent without an aggregator that could be reached.
pub async fn start_agent(vm: &Vm) -> Result<()> {
    vm.node.act(Act::MakeCgroup { path: HOUSE.to_owned(), limits: Vec::new() }).await?;
    let argv = [
        "/bin/waggle-agent",
        "run",
        "--aggregator",
        "127.0.0.1:1",
        "--aggregator-ca",
        "/etc/none",
        "--token-file",
        "/etc/none",
    ];
    let argv = argv.map(str::to_owned).to_vec();
    let program = Program { argv, environment: Vec::new(), cgroup: HOUSE.to_owned(), rights: Rights::Agent };
    vm.node.act(Act::Spawn { name: AGENT.to_owned(), program }).await.map(drop)
}

/// One page of the agent's port; what came instead while it does not answer. By nc, because the wget of Debian's static
/// busybox crashes; its input stays open for a second, because the agent takes an end for a caller who left.
pub async fn page(vm: &Vm, page: &str) -> Result<std::result::Result<String, String>> {
    let request = format!(
        "{{ printf 'GET /{page} HTTP/1.0\\r\\nHost: agent\\r\\n\\r\\n'; /bin/busybox sleep 1; }} | \
         /bin/busybox nc -w 5 127.0.0.1 10255"
    );
    let (_, text) = run(vm, Rights::Root, &["/bin/busybox", "sh", "-c", &request], SECOND * 20).await?;
    let status = text.split_whitespace().nth(1).map(str::to_owned);
    Ok(if status.as_deref() == Some("200") { Ok(text) } else { Err(text) })
}

pub fn value(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Waits until the agent reports this many cgroups and is alive.
pub async fn reports(vm: &Vm, cgroups: u64, limit: Duration) -> Result<String> {
    let begun = Instant::now();
    let mut last = "nothing".to_owned();
    while begun.elapsed() < limit {
        last = match page(vm, "metrics").await? {
            Ok(metrics) => {
                let seen = value(&metrics, "waggle_agent_cgroups");
                if seen == Some(cgroups) && page(vm, "livez").await?.is_ok() {
                    return Ok(metrics);
                }
                format!("{seen:?}")
            }
            Err(text) => text,
        };
        sleep(SECOND / 4).await;
    }
    let log = vm.node.read(&format!("/run/log/{AGENT}")).await.unwrap_or_default();
    anyhow::bail!("the agent reports {last} cgroups instead of {cgroups} after {limit:?}:\n{log}")
}

/// Waits as [`reports`] does, and wants what it says to be collected by eBPF.
pub async fn reports_by_walk(vm: &Vm, cgroups: u64, limit: Duration) -> Result<String> {
    let metrics = reports(vm, cgroups, limit).await?;
    ensure!(metrics.contains("waggle_agent_collector{name=\"bpf\"} 1"), "not the walk any more:\n{metrics}");
    Ok(metrics)
}

/// The CPU rate of the busiest container over a time, in millicores.
pub async fn burner(vm: &Vm, over: &str) -> Result<u64> {
    let argv = ["/bin/waggle-agent", "snapshot", "-o", "json", "--over", over];
    let (status, output) = run(vm, Rights::Agent, &argv, SECOND * 60).await?;
    ensure!(status == 0, "snapshot ended with {status}: {output}");
    let start = output.find('{').context("no JSON")?;
    let report: Value = serde_json::from_str(output.get(start..).unwrap_or_default()).context("not JSON")?;
    let rates = report["cgroups"].as_array().context("no cgroups")?.iter();
    let rates = rates.filter(|entry| entry["container_id"].is_string());
    let rate = rates.filter_map(|entry| entry["cpu_nanocores"].as_u64()).max();
    Ok(rate.context("no container has a rate")? / 1_000_000)
}
