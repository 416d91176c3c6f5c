//! The ways of reading a snapshot, in turns in one process.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use waggle_agent::collect::bpf::{BpfWalk, LEAST_SLOTS};
use waggle_agent::collect::cgroupfs::Cgroupfs;
use waggle_agent::collect::{Collector, Kubepods, Snapshot};

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

/// The rows of a report, in the table's order.
pub const METHODS: [&str; 4] = ["walk", "bpf", "kept", "open"];

/// Measures all ways over the cgroups below `root`, in turns.
pub fn measure(root: &Path, rounds: usize) -> anyhow::Result<Value> {
    let mut bpf = BpfWalk::open(root, LEAST_SLOTS)?;
    let mut kept = Cgroupfs::new(root, Vec::new(), Duration::ZERO);
    let mut snapshot = Snapshot::default();
    kept.snapshot(&mut snapshot)?;
    bpf.snapshot(&mut snapshot)?;
    let cgroups = snapshot.samples.len();
    let mut paths = Vec::new();
    for kubepods in Kubepods::find(root)? {
        paths.extend(all_below(&kubepods.path)?);
    }
    let read = ["cpu.stat", "memory.current", "memory.stat", "memory.swap.current"];
    let files: Vec<&str> =
        read.into_iter().filter(|name| paths.last().is_some_and(|path| path.join(name).exists())).collect();
    let mut times: [Times; 4] = Default::default();
    for round in 0..rounds {
        let [walk, whole, files_kept, files_opened] = &mut times;
        // One way round and then the other, each beginning once: what follows the file readers finds cold caches.
        let step = if (round / METHODS.len()).is_multiple_of(2) { 1 } else { METHODS.len() - 1 };
        for turn in 0..METHODS.len() {
            match (round + turn * step) % METHODS.len() {
                0 => drop(walk.run(|| bpf.walk())?),
                1 => whole.run(|| bpf.snapshot(&mut snapshot))?,
                2 => files_kept.run(|| kept.snapshot(&mut snapshot))?,
                _ => drop(files_opened.run(|| open_read_close(root, &paths, &files))?),
            }
        }
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
