//! What a snapshot costs: the eBPF walk, files with kept descriptors, files opened for each read.
//!
//! All three run in one process, in turns, over the same cgroups: ratios of one run can be compared, times of
//! different runs cannot. Every method also reads the node's totals, as a snapshot must.
//!
//! `collector_bench [--make-below DIR] [--without-memory] [--pods N] [--rounds N] [--json] [--steady TIME -- PROGRAM ARGUMENT…]`
//!
//! With `--steady` it also runs the program, an agent, over the same cgroups and measures it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Parser;
use serde_json::Value;
use waggle_agent::args::duration;

#[path = "../common/mod.rs"]
mod common;
mod steady;
mod ways;
use common::Tree;
use ways::METHODS;

/// Containers of a pod: with the pod's own, four cgroups.
const CONTAINERS: u32 = 3;

#[derive(Parser)]
struct Args {
    /// A cgroup2 directory to make the cgroups below, removed at the end [default: the machine's mount]
    #[arg(long)]
    make_below: Option<PathBuf>,
    /// Make them without the memory controller
    #[arg(long)]
    without_memory: bool,
    /// Pods of three containers, which are four cgroups each
    #[arg(long, default_value_t = 100)]
    pods: u32,
    /// Snapshots of each method
    #[arg(long, default_value_t = 200)]
    rounds: usize,
    /// Also run the program given after `--` over the cgroups, and measure it for this time
    #[arg(long, value_parser = duration, requires = "program")]
    steady: Option<Duration>,
    /// Only JSON
    #[arg(long)]
    json: bool,
    /// Be the process of this container, until it is killed
    #[arg(long, hide = true)]
    tick: Option<PathBuf>,
    /// What --steady measures; it gets --cgroup-root
    #[arg(last = true)]
    program: Vec<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(container) = &args.tick {
        return steady::tick(container);
    }
    let below = args.make_below.clone().or_else(cgroup2_mount);
    let below = below.ok_or_else(|| anyhow::anyhow!("no cgroup2 mount: name one with --make-below"))?;
    let (tree, containers) = make(&below, args.pods, !args.without_memory)?;
    let mut report = ways::measure(&tree.root, args.rounds)?;
    if let Some(time) = args.steady {
        report["steady"] = steady::steady(&tree, &containers, &args.program, time)?;
    }
    if !args.json {
        print(&report);
    }
    println!("{report}");
    Ok(())
}

fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// The tree, and the directories of its containers.
fn make(below: &Path, pods: u32, memory: bool) -> anyhow::Result<(Tree, Vec<PathBuf>)> {
    let controllers: &[&str] = if memory { &["cpu", "memory"] } else { &["cpu"] };
    let tree = Tree::make(below, &format!("waggle-bench-{}", std::process::id()), controllers)?;
    let mut containers = Vec::new();
    for number in 0..pods {
        let pod = tree.pod(number)?;
        for container in 0..CONTAINERS {
            containers.push(Tree::container(&pod, number * CONTAINERS + container)?);
        }
    }
    // A little CPU time, so that there is something to fold and to compare.
    for container in &containers {
        let script = format!("echo $$ > {}/cgroup.procs", container.display());
        Command::new("sh").args(["-c", &script]).status()?;
    }
    Ok((tree, containers))
}

fn print(report: &Value) {
    println!(
        "kernel {}, {} cgroups, {} rounds, files per cgroup: {}",
        report["kernel"], report["cgroups"], report["rounds"], report["files"]
    );
    println!(
        "{:<44} {:>12} {:>12} {:>12} {:>12}",
        "per snapshot", "wall median", "wall mean", "cpu median", "ns/cgroup"
    );
    let names = [
        "eBPF: flush and walk",
        "eBPF: whole snapshot",
        "files, kept descriptors: whole snapshot",
        "files, open/read/close",
    ];
    for (method, name) in METHODS.into_iter().zip(names) {
        let of = |key: &str| report[method][key].as_u64().unwrap_or_default();
        println!(
            "{name:<44} {:>9} µs {:>9} µs {:>9} µs {:>12}",
            of("wall_median_ns") / 1000,
            of("wall_mean_ns") / 1000,
            of("cpu_median_ns") / 1000,
            of("wall_median_ns_per_cgroup"),
        );
    }
    let phase = |name: &str| report["phases"][name].as_f64().unwrap_or_default() / 1000.0;
    println!(
        "phases of a snapshot by eBPF, medians: flush {:.0} µs, walk {:.0} µs, identify {:.0} µs; encoding it {:.0} µs",
        phase("flush_median_ns"),
        phase("walk_median_ns"),
        phase("identify_median_ns"),
        phase("encode_median_ns"),
    );
    let ratio = |name: &str| report["ratios"][name].as_f64().unwrap_or_default();
    println!(
        "kept descriptors / eBPF snapshot {:.1}, open/read/close / eBPF snapshot {:.1}",
        ratio("kept_to_bpf"),
        ratio("open_to_bpf")
    );
    if let Some(share) = report["steady"]["share_of_a_core"].as_f64() {
        println!(
            "steady, one snapshot a second: {:.3} % of a core, {} KiB resident, {} KiB at the peak; {} containers used CPU",
            share * 100.0,
            report["steady"]["rss_kib"],
            report["steady"]["peak_rss_kib"],
            report["steady"]["ticking"]
        );
        match report["steady"]["charged"].as_object() {
            Some(charged) => {
                let kib = |name: &str| charged.get(name).and_then(Value::as_u64).unwrap_or_default() / 1024;
                println!(
                    "its cgroup is charged {} KiB: {} KiB of the kernel's memory, {} KiB anonymous, {} KiB of files",
                    kib("total"),
                    kib("kernel"),
                    kib("anon"),
                    kib("file")
                );
            }
            None => {
                println!("what its cgroup is charged is not known: no memory controller on cgroup v2 here");
            }
        }
        if let Some(node) = report["steady"]["node_memory"].as_object() {
            let us = |name: &str| node.get(name).and_then(Value::as_u64).unwrap_or_default() / 1000;
            println!(
                "the node's memory, read once a second: /proc/meminfo {} µs, the root's memory.stat {} µs",
                us("meminfo_median_ns"),
                us("memory_stat_median_ns")
            );
        }
    }
}
