//! `waggle-agent snapshot`: one walk of the machine it runs on, as a table or JSON.

use std::collections::HashMap;
use std::io::{self, Write};

use serde::Serialize;

use crate::args::{Output, SnapshotArgs};
use crate::collect::{CgroupId, Sample, Snapshot, choose, page_size};
use crate::privilege;

/// What is printed: every number with its unit in its name.
#[derive(Debug, Serialize)]
struct Report {
    collector: &'static str,
    refusals: Vec<String>,
    boot_ns: u64,
    realtime_ns: u64,
    node: NodeReport,
    cgroups: Vec<CgroupReport>,
}

#[derive(Debug, Serialize)]
struct NodeReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_nanocores: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    working_set_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
}

#[derive(Debug, Serialize)]
struct CgroupReport {
    cgroup_id: u64,
    pod_uid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_nanocores: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryReport>,
}

#[derive(Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "the names are the output's, with their unit")]
struct MemoryReport {
    working_set_bytes: u64,
    usage_bytes: u64,
    inactive_file_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    swap_bytes: Option<u64>,
}

/// Walks once, or twice with `--over`, and prints.
pub fn snapshot(args: &SnapshotArgs, out: &mut impl Write) -> anyhow::Result<()> {
    let SnapshotArgs { node, output, over } = args;
    let mut collector = choose(&node.options())?;
    privilege::drop_all()?;
    let mut first = None;
    let mut newest = Snapshot::default();
    collector.snapshot(&mut newest)?;
    if let Some(time) = over {
        first = Some(std::mem::take(&mut newest));
        std::thread::sleep(*time);
        collector.snapshot(&mut newest)?;
    }
    let mut report = report(&newest, first.as_ref(), page_size());
    report.collector = collector.name();
    report.refusals = collector.refusals().iter().map(ToString::to_string).collect();
    match output {
        Output::Table => table(&report, out)?,
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
        }
    }
    Ok(())
}

/// Pods with their containers behind them, by pod UID.
fn report(newest: &Snapshot, first: Option<&Snapshot>, page: u64) -> Report {
    let earlier: HashMap<CgroupId, u64> = first
        .into_iter()
        .flat_map(|first| &first.samples)
        .filter_map(|sample| Some((sample.cgroup, sample.cpu_ns?)))
        .collect();
    let span = first.map(|first| newest.boot.0.saturating_sub(first.boot.0));
    let mut samples: Vec<&Sample> = newest.samples.iter().collect();
    samples.sort_by(|a, b| {
        (&a.identity.pod, a.identity.container).cmp(&(&b.identity.pod, b.identity.container))
    });
    let cgroups = samples.into_iter().map(|sample| {
        // Do not print zeros for a container whose cgroup is not charged.
        let counts = sample.memory.is_none_or(|memory| memory.usage_pages > 0);
        let cpu_ns = sample.cpu_ns.filter(|_| counts);
        CgroupReport {
            cgroup_id: sample.cgroup.0,
            pod_uid: sample.identity.pod.as_str().to_owned(),
            container_id: sample.identity.container.map(|id| id.to_string()),
            cpu_ns,
            cpu_nanocores: earlier.get(&sample.cgroup).and_then(|before| rate(*before, cpu_ns?, span?)),
            memory: sample.memory.filter(|_| counts).map(|memory| MemoryReport {
                working_set_bytes: memory.working_set_pages() * page,
                usage_bytes: memory.usage_pages * page,
                inactive_file_bytes: memory.inactive_file_pages * page,
                swap_bytes: memory.swap_pages.map(|pages| pages * page),
            }),
        }
    });
    Report {
        collector: "",
        refusals: Vec::new(),
        boot_ns: newest.boot.0,
        realtime_ns: newest.real.0,
        node: NodeReport {
            cpu_ns: newest.node.cpu_ns,
            cpu_nanocores: first.and_then(|first| rate(first.node.cpu_ns?, newest.node.cpu_ns?, span?)),
            working_set_bytes: newest.node.working_set_bytes,
            swap_bytes: newest.node.swap_bytes,
        },
        cgroups: cgroups.collect(),
    }
}

/// Nanocores; `None` if no time passed or the counter fell.
fn rate(before: u64, after: u64, span_ns: u64) -> Option<u64> {
    let used = u128::from(after.checked_sub(before)?) * 1_000_000_000;
    u64::try_from(used.checked_div(u128::from(span_ns))?).ok()
}

fn table(report: &Report, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "collector {}", report.collector)?;
    for refusal in &report.refusals {
        writeln!(out, "not bpf: {refusal}")?;
    }
    let node = &report.node;
    writeln!(
        out,
        "{:<36}  {:<12}  {:>12}  {:>7}  {:>12}  {:>12}  {:>12}",
        "POD", "CONTAINER", "CPU(s)", "CPU(m)", "WORKING SET", "USAGE", "SWAP"
    )?;
    let line = |out: &mut dyn Write, pod: &str, container: &str, cpu, rate, memory: [Option<u64>; 3]| {
        let [set, usage, swap] = memory.map(mebibytes);
        let (cpu, rate) = (seconds(cpu), millicores(rate));
        writeln!(out, "{pod:<36}  {container:<12}  {cpu:>12}  {rate:>7}  {set:>12}  {usage:>12}  {swap:>12}")
    };
    let memory = [node.working_set_bytes, None, node.swap_bytes];
    line(out, "(node)", "", node.cpu_ns, node.cpu_nanocores, memory)?;
    for cgroup in &report.cgroups {
        let container = cgroup.container_id.as_deref().unwrap_or("(pod)");
        let short = container.get(..12).unwrap_or(container);
        let memory = cgroup.memory.as_ref().map_or([None; 3], |memory| {
            [Some(memory.working_set_bytes), Some(memory.usage_bytes), memory.swap_bytes]
        });
        line(out, &cgroup.pod_uid, short, cgroup.cpu_ns, cgroup.cpu_nanocores, memory)?;
    }
    Ok(())
}

fn seconds(ns: Option<u64>) -> String {
    let text = |ns| format!("{}.{:03}", ns / 1_000_000_000, ns / 1_000_000 % 1000);
    ns.map_or_else(|| "-".to_owned(), text)
}

fn millicores(nanocores: Option<u64>) -> String {
    nanocores.map_or_else(|| "-".to_owned(), |rate| (rate / 1_000_000).to_string())
}

fn mebibytes(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1} MiB", bytes as f64 / (1024.0 * 1024.0)))
}

#[cfg(test)]
mod tests;
