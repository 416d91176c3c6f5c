//! What a snapshot costs: the eBPF walk, files with kept descriptors, files opened for each read.
//!
//! All three run in one process, in turns, over the same cgroups: ratios of one run can be compared, times of
//! different runs cannot. Every method also reads the node's totals, as a snapshot must.
//!
//! `collector_bench [--cgroup-root DIR | --make-below DIR] [--rounds N] [--steady TIME] [--json]`
//!
//! `collector_bench --watch-pid PID --steady TIME` measures another process, for example a running agent.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use waggle_agent::args::duration;
use waggle_agent::collect::bpf::{BpfWalk, LEAST_SLOTS};
use waggle_agent::collect::cgroupfs::Cgroupfs;
use waggle_agent::collect::{Collector, Kubepods, Options, Preference, Snapshot, choose};
use waggle_agent::privilege;

#[allow(dead_code, reason = "shared with a test that uses all of it")]
mod common;
use common::Tree;

const PODS: u32 = 100;
const CONTAINERS: u32 = 3;
/// The steady-state agent's pace.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Parser)]
struct Args {
    /// A cgroup2 mount with a kubepods to measure
    #[arg(long)]
    cgroup_root: Option<PathBuf>,
    /// A cgroup2 directory to make 400 cgroups below, removed at the end; without either, the machine's mount
    #[arg(long)]
    make_below: Option<PathBuf>,
    /// Snapshots of each method
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Also sample once a second for this time in a process of its own
    #[arg(long, value_parser = duration)]
    steady: Option<Duration>,
    /// Measure this process for the time of --steady, nothing else
    #[arg(long)]
    watch_pid: Option<u32>,
    /// Only JSON
    #[arg(long)]
    json: bool,
    /// Be the process that samples, until it is killed
    #[arg(long, hide = true)]
    sample: bool,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if let Some(pid) = args.watch_pid {
        let time = args.steady.unwrap_or(Duration::from_secs(30));
        println!("{}", watch(pid, time)?);
        return Ok(());
    }
    let (root, _made) = if let Some(root) = &args.cgroup_root {
        (root.clone(), None)
    } else {
        let below = args.make_below.clone().or_else(cgroup2_mount);
        let below = below.ok_or_else(|| anyhow::anyhow!("no cgroup2 mount: name one with --make-below"))?;
        let tree = make(&below)?;
        (tree.root.clone(), Some(tree))
    };
    if args.sample {
        return sample(&root);
    }
    let mut report = measure(&root, args.rounds)?;
    if let Some(time) = args.steady {
        report["steady"] = steady(&root, time)?;
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

fn make(below: &Path) -> anyhow::Result<Tree> {
    let tree = Tree::make(below, &format!("waggle-bench-{}", std::process::id()))?;
    for number in 0..PODS {
        let pod = tree.pod(number)?;
        for container in 0..CONTAINERS {
            Tree::container(&pod, number * CONTAINERS + container)?;
        }
    }
    // A little CPU time, so that there is something to fold and to compare.
    let first = tree.kubepods().join("kubepods-burstable.slice");
    let script = format!(
        "echo $$ > {}/cgroup.procs && i=0 && while [ $i -lt 9999 ]; do i=$((i+1)); done",
        some_leaf(&first)?.display()
    );
    Command::new("sh").args(["-c", &script]).status()?;
    Ok(tree)
}

/// A directory without subdirectories: only such a cgroup takes processes when controllers are enabled.
fn some_leaf(directory: &Path) -> std::io::Result<PathBuf> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            return some_leaf(&entry.path());
        }
    }
    Ok(directory.to_owned())
}

/// Wall and CPU time of one method's runs, ns.
#[derive(Default)]
struct Times {
    wall: Vec<u64>,
    cpu: Vec<u64>,
}

impl Times {
    fn run<T>(&mut self, what: impl FnOnce() -> T) -> T {
        let (wall, cpu) = (Instant::now(), thread_cpu());
        let answer = what();
        self.cpu.push(thread_cpu() - cpu);
        self.wall.push(u64::try_from(wall.elapsed().as_nanos()).unwrap_or(u64::MAX));
        answer
    }

    fn report(&mut self, cgroups: usize) -> Value {
        let of = |times: &mut Vec<u64>| {
            times.sort_unstable();
            let median = times.get(times.len() / 2).copied().unwrap_or_default();
            (median, times.iter().sum::<u64>() / (times.len() as u64).max(1))
        };
        let (wall, wall_mean) = of(&mut self.wall);
        let (cpu, cpu_mean) = of(&mut self.cpu);
        json!({
            "wall_median_ns": wall, "wall_mean_ns": wall_mean, "cpu_median_ns": cpu, "cpu_mean_ns": cpu_mean,
            "wall_median_ns_per_cgroup": wall / (cgroups as u64).max(1),
        })
    }
}

fn thread_cpu() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or_default()
}

const METHODS: [&str; 4] = ["walk", "bpf", "kept", "open"];

fn measure(root: &Path, rounds: u32) -> anyhow::Result<Value> {
    let mut bpf = BpfWalk::open(root, LEAST_SLOTS)?;
    let mut kept = Cgroupfs::open(root, Vec::new())?;
    let mut snapshot = Snapshot::default();
    kept.snapshot(&mut snapshot)?;
    bpf.snapshot(&mut snapshot)?;
    let cgroups = snapshot.samples.len();
    let kubepods = Kubepods::find(root)?;
    let paths = all_below(&kubepods.path)?;
    let read = ["cpu.stat", "memory.current", "memory.stat", "memory.swap.current"];
    let files: Vec<&str> =
        read.into_iter().filter(|name| paths.last().is_some_and(|path| path.join(name).exists())).collect();
    let mut times: [Times; 4] = Default::default();
    for _ in 0..rounds {
        let [walk, whole, files_kept, files_opened] = &mut times;
        walk.run(|| bpf.walk())?;
        whole.run(|| bpf.snapshot(&mut snapshot))?;
        files_kept.run(|| kept.snapshot(&mut snapshot))?;
        files_opened.run(|| open_read_close(root, &paths, &files))?;
    }
    anyhow::ensure!(snapshot.samples.len() == cgroups, "the tree changed while it was measured");
    let mut report = json!({
        "kernel": rustix::system::uname().release().to_string_lossy(), "cgroups": cgroups,
        "records": bpf.records().len(), "paths": paths.len(), "files": files, "rounds": rounds,
    });
    for (name, times) in METHODS.into_iter().zip(&mut times) {
        report[name] = times.report(cgroups);
    }
    let ratio = |slow: &str, fast: &str, key: &str| {
        let of = |name: &str| report[name][key].as_f64().unwrap_or_default();
        (of(slow) / of(fast).max(1.0) * 100.0).round() / 100.0
    };
    let key = "wall_median_ns";
    let ratios = json!({
        "kept_to_bpf": ratio("kept", "bpf", key), "open_to_bpf": ratio("open", "bpf", key),
        "kept_to_walk": ratio("kept", "walk", key), "open_to_walk": ratio("open", "walk", key),
        "kept_to_bpf_cpu": ratio("kept", "bpf", "cpu_median_ns"),
        "open_to_bpf_cpu": ratio("open", "bpf", "cpu_median_ns"),
    });
    report["ratios"] = ratios;
    Ok(report)
}

/// The cgroups that a snapshot has: pods and containers.
fn all_below(kubepods: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    let mut left = vec![kubepods.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                left.push(entry.path());
                let path = entry.path();
                let location = path.to_str().and_then(waggle_agent::identify::locate);
                if location.is_some_and(|location| location.below == 0) {
                    all.push(path);
                }
            }
        }
    }
    Ok(all)
}

/// What a simple reader does. The text is not even parsed.
fn open_read_close(root: &Path, paths: &[PathBuf], files: &[&str]) -> std::io::Result<usize> {
    let mut bytes = 0;
    for path in paths {
        for file in files {
            bytes += fs::read(path.join(file))?.len();
        }
    }
    bytes += fs::read(root.join("cpu.stat"))?.len() + fs::read("/proc/meminfo")?.len();
    Ok(bytes + fs::read(root.join("memory.stat")).map_or(0, |text| text.len()))
}

/// The agent's collecting part as it ships: choose, give up capabilities, a snapshot a second.
fn sample(root: &Path) -> anyhow::Result<()> {
    let mut collector = choose(&Options { cgroup_root: root.to_owned(), preference: Preference::Auto })?;
    privilege::drop_all()?;
    let mut snapshot = Snapshot::default();
    loop {
        collector.snapshot(&mut snapshot)?;
        std::thread::sleep(INTERVAL);
    }
}

fn steady(root: &Path, time: Duration) -> anyhow::Result<Value> {
    let mut child =
        Command::new(std::env::current_exe()?).arg("--sample").arg("--cgroup-root").arg(root).spawn()?;
    // Loading is not steady.
    std::thread::sleep(Duration::from_secs(3));
    let measured = match child.try_wait()? {
        Some(status) => Err(anyhow::anyhow!("the sampling process ended: {status}")),
        None => watch(child.id(), time),
    };
    // It may have ended by itself.
    let _ = child.kill();
    child.wait()?;
    measured
}

/// CPU share and memory of a process over a time.
fn watch(pid: u32, time: Duration) -> anyhow::Result<Value> {
    let (start, before) = (Instant::now(), process_cpu(pid)?);
    std::thread::sleep(time);
    let (used, span) = (process_cpu(pid)? - before, start.elapsed());
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = |key: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    Ok(json!({
        "seconds": span.as_secs_f64(), "cpu_ns": used, "share_of_a_core": used as f64 / span.as_nanos() as f64,
        "rss_kib": kib("VmRSS"), "peak_rss_kib": kib("VmHWM"),
    }))
}

/// CPU time of all threads, ns.
fn process_cpu(pid: u32) -> anyhow::Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().unwrap_or_default().parse::<u64>()?;
    }
    Ok(sum)
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
    let ratio = |name: &str| report["ratios"][name].as_f64().unwrap_or_default();
    println!(
        "kept descriptors / eBPF snapshot {:.1}, open/read/close / eBPF snapshot {:.1}",
        ratio("kept_to_bpf"),
        ratio("open_to_bpf")
    );
    if let Some(share) = report["steady"]["share_of_a_core"].as_f64() {
        println!(
            "steady, one snapshot a second: {:.3} % of a core, {} KiB resident",
            share * 100.0,
            report["steady"]["rss_kib"]
        );
    }
}
