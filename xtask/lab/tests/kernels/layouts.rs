//! Every layout, built in one machine: identities by `waggle-agent snapshot` are those that were built, and values are
//! those of the kernel's files by the kubelet's formulas, whichever collector reads them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use waggle_lab::{
    control::{Act, FromNode, Rights},
    layouts::{Expected, Shape, shapes},
    matrix::{ROWS, Row},
    vm::Vm,
};

use crate::{
    machines::{Kind, Machines},
    pods::{field, run},
};

/// The kernel of these tests.
const LINE: &str = "6.12";
/// For one snapshot, on a slow host.
const LIMIT: Duration = Duration::from_mins(3);
const COLLECTORS: [&str; 2] = ["bpf", "cgroupfs"];
/// What the kernel lets a reader of `memory.stat` miss, per processor, with pages of 4 KiB.
const MISSED: u64 = 64 * 4096;
/// What `waggle-agent` itself may use between two readings of the node's files: it parses the kernel's BTF.
const AGENT_BYTES: u64 = 96 << 20;

/// One test for each layout.
pub fn trials(machines: &Arc<Machines>) -> Vec<Trial> {
    let Some(row) = ROWS.iter().find(|row| row.line == LINE) else { return Vec::new() };
    let kind = Kind { row, options: "" };
    shapes()
        .into_iter()
        .map(|shape| {
            machines.trial(format!("layouts::{}", shape.name), kind, move |vm, row| compare(vm, row, shape))
        })
        .collect()
}

async fn compare(vm: Arc<Vm>, row: &'static Row, shape: Shape) -> Result<()> {
    build(&vm, &shape).await?;
    // Both are tried before the verdict: which of them fails says where the fault is.
    let mut faults = Vec::new();
    for collector in COLLECTORS {
        if let Err(error) = with(&vm, row, &shape, collector).await {
            faults.push(format!("{collector}: {error:#}"));
        }
    }
    ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}

/// Makes all cgroups first: what gives controllers to children must have no process.
async fn build(vm: &Vm, shape: &Shape) -> Result<()> {
    for cgroup in &shape.cgroups {
        vm.node.act(Act::MakeCgroup { path: cgroup.path.clone(), limits: Vec::new() }).await?;
    }
    for cgroup in &shape.cgroups {
        let Some(work) = cgroup.work else { continue };
        // The end tells cgroups apart, and the whole path may be too long for the name of a log.
        let name: String = cgroup.path.replace('/', "_").chars().rev().take(160).collect();
        let name: String = name.chars().rev().collect();
        vm.node.act(Act::Start { name: name.clone(), cgroup: cgroup.path.clone(), work }).await?;
        let begun = vm.node.event(Duration::from_secs(10), |event| match &event.what {
            FromNode::FirstInstruction { name: begun, .. } if *begun == name => Some(()),
            _ => None,
        });
        begun.await.with_context(|| format!("{} did not begin", cgroup.path))?;
    }
    // Until what is held is held.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok(())
}

/// What the files say of a cgroup.
#[derive(Debug, Clone, Copy)]
struct Truth {
    cpu_usec: u64,
    working_set: u64,
}

async fn with(vm: &Vm, row: &Row, shape: &Shape, collector: &str) -> Result<()> {
    let root = format!("/sys/fs/cgroup/{}", shape.root);
    let root = root.trim_end_matches('/');
    let before = truth(vm, &shape.expected).await?;
    let node_before = node(vm, root).await?;
    let argv =
        ["/bin/waggle-agent", "snapshot", "-o", "json", "--collector", collector, "--cgroup-root", root];
    let (status, output) = run(vm, Rights::Agent, &argv, LIMIT).await?;
    let node_after = node(vm, root).await?;
    let after = truth(vm, &shape.expected).await?;
    ensure!(status == 0, "snapshot ended with {status}: {output}");
    let start = output.find('{').context("no JSON")?;
    let report: Value = serde_json::from_str(output.get(start..).unwrap_or_default()).context("not JSON")?;
    // The walk does not reach containers outside kubepods: files are read, and the reason is named.
    let expected = if shape.name == "driver_mismatch" { "cgroupfs" } else { collector };
    ensure!(report["collector"] == expected, "another collector: {output}");
    let seen = seen(&report)?;
    for ((expected, before), after) in shape.expected.iter().zip(&before).zip(&after) {
        let name = (expected.pod.clone(), expected.container.clone());
        let entry = seen.get(&name);
        if !expected.measured {
            let memory = entry.and_then(|entry| entry["memory"]["usage_bytes"].as_u64());
            ensure!(memory.is_none(), "memory {memory:?} of {}, which is accounted elsewhere", expected.path);
            continue;
        }
        let entry = entry.with_context(|| format!("{} is missing: {output}", expected.path))?;
        let cpu = entry["cpu_ns"].as_u64().with_context(|| format!("no CPU of {}", expected.path))? / 1000;
        ensure!(
            (before.cpu_usec..=after.cpu_usec).contains(&cpu),
            "{}: CPU {cpu} µs is not between {} and {}",
            expected.path,
            before.cpu_usec,
            after.cpu_usec
        );
        let memory = entry["memory"]["working_set_bytes"].as_u64();
        let memory = memory.with_context(|| format!("no memory of {}", expected.path))?;
        within(
            &expected.path,
            memory,
            before.working_set,
            after.working_set,
            MISSED * u64::from(row.processors),
        )?;
    }
    let unexpected: Vec<_> = seen
        .keys()
        .filter(|(pod, container)| {
            !shape.expected.iter().any(|expected| expected.pod == *pod && expected.container == *container)
        })
        .collect();
    ensure!(unexpected.is_empty(), "reported and not there: {unexpected:?}");
    let node_cpu = report["node"]["cpu_ns"].as_u64().context("no CPU of the node")? / 1000;
    ensure!(
        (node_before.cpu_usec..=node_after.cpu_usec).contains(&node_cpu),
        "node: CPU {node_cpu} µs is not between {} and {}",
        node_before.cpu_usec,
        node_after.cpu_usec
    );
    let memory = report["node"]["working_set_bytes"].as_u64().context("no memory of the node")?;
    // The agent's own memory is in the machine's root, not in another one.
    let slack = if shape.root.is_empty() { AGENT_BYTES } else { MISSED * u64::from(row.processors) };
    within("node", memory, node_before.working_set, node_after.working_set, slack)
}

fn within(what: &str, seen: u64, before: u64, after: u64, slack: u64) -> Result<()> {
    let (least, most) = (before.min(after).saturating_sub(slack), before.max(after) + slack);
    if !(least..=most).contains(&seen) {
        bail!("{what}: working set {seen} is not between {least} and {most}");
    }
    Ok(())
}

fn seen(report: &Value) -> Result<BTreeMap<(String, Option<String>), &Value>> {
    let entries = report["cgroups"].as_array().context("no cgroups in the report")?;
    let mut seen = BTreeMap::new();
    for entry in entries {
        let pod = entry["pod_uid"].as_str().context("an entry without pod")?.to_owned();
        let container = entry["container_id"].as_str().map(str::to_owned);
        ensure!(seen.insert((pod, container), entry).is_none(), "reported twice: {entry}");
    }
    Ok(seen)
}

/// Containers and pods as the kubelet computes them: `usage_usec`, and `memory.current` without `inactive_file`.
async fn truth(vm: &Vm, expected: &[Expected]) -> Result<Vec<Truth>> {
    let mut paths = Vec::new();
    for cgroup in expected {
        paths.extend(
            ["cpu.stat", "memory.current", "memory.stat"]
                .map(|file| format!("/sys/fs/cgroup/{}/{file}", cgroup.path)),
        );
    }
    let texts = vm.node.read_all(paths).await?;
    let of = |texts: &[Option<String>]| {
        let [Some(cpu), Some(current), Some(stat)] = texts else { return None };
        let current: u64 = current.trim().parse().ok()?;
        let working_set = current.saturating_sub(field(stat, "inactive_file")?);
        Some(Truth { cpu_usec: field(cpu, "usage_usec")?, working_set })
    };
    texts
        .chunks(3)
        .zip(expected)
        .map(|(texts, cgroup)| of(texts).with_context(|| format!("no files of {}", cgroup.path)))
        .collect()
}

/// The node as the kubelet computes it (opencontainers/cgroups `fs2/memory.go`): where the root has no `memory.current`,
/// `anon + file` take its place.
async fn node(vm: &Vm, root: &str) -> Result<Truth> {
    let texts = vm
        .node
        .read_all(["cpu.stat", "memory.stat", "memory.current"].map(|file| format!("{root}/{file}")).to_vec())
        .await?;
    let [Some(cpu), Some(stat), current] = texts.as_slice() else { bail!("no files of the node") };
    let of = |name| field(stat, name).with_context(|| format!("the node's memory.stat has no {name}"));
    let usage = match current {
        Some(current) => current.trim().parse().context("an odd memory.current")?,
        None => of("anon")? + of("file")?,
    };
    let cpu_usec = field(cpu, "usage_usec").context("the node's cpu.stat has no usage_usec")?;
    Ok(Truth { cpu_usec, working_set: usage.saturating_sub(of("inactive_file")?) })
}
