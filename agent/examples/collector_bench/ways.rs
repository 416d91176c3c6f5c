//! The ways of reading a snapshot, in turns in one process, and the phases of the one by eBPF.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message as _;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use waggle_agent::collect::bpf::{BpfWalk, LEAST_SLOTS};
use waggle_agent::collect::cgroupfs::Cgroupfs;
use waggle_agent::collect::{BootTime, Collector, Costs, Kubepods, Snapshot};
use waggle_agent::report::{Encoder, LocalRing};

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
        let mean = |times: &[u64]| times.iter().sum::<u64>() / (times.len() as u64).max(1);
        let (wall, cpu) = (median(&mut self.wall), median(&mut self.cpu));
        json!({
            "wall_median_ns": wall, "wall_mean_ns": mean(&self.wall),
            "cpu_median_ns": cpu, "cpu_mean_ns": mean(&self.cpu),
            "wall_median_ns_per_cgroup": wall / (cgroups as u64).max(1),
        })
    }
}

fn median(times: &mut [u64]) -> u64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The phases of the snapshots by eBPF: what the collector measured itself, and from snapshot to bytes of the stream.
#[derive(Default)]
struct Phases {
    flush: Vec<u64>,
    walk: Vec<u64>,
    identify: Vec<u64>,
    encode: Vec<u64>,
    ring: LocalRing,
    encoder: Encoder,
    sent: BootTime,
}

impl Phases {
    fn add(&mut self, costs: &Costs, snapshot: &Snapshot) -> anyhow::Result<()> {
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.flush.push(ns(costs.flush));
        self.walk.push(ns(costs.walk));
        self.identify.push(ns(costs.identify));
        let begun = Instant::now();
        self.ring.push(snapshot);
        let frame = self.ring.next(self.sent, snapshot.boot, Duration::ZERO);
        let frame = frame.ok_or_else(|| anyhow::anyhow!("the ring has no frame to send"))?;
        self.sent = frame.boot;
        let bytes = self.encoder.encode(frame, &self.ring, false).encode_to_vec();
        std::hint::black_box(bytes);
        self.encode.push(ns(begun.elapsed()));
        Ok(())
    }

    fn report(&mut self) -> Value {
        json!({
            "flush_median_ns": median(&mut self.flush), "walk_median_ns": median(&mut self.walk),
            "identify_median_ns": median(&mut self.identify), "encode_median_ns": median(&mut self.encode),
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
    let mut phases = Phases::default();
    for round in 0..rounds {
        let [walk, whole, files_kept, files_opened] = &mut times;
        // One way round and then the other, each beginning once: what follows the file readers finds cold caches.
        let step = if (round / METHODS.len()).is_multiple_of(2) { 1 } else { METHODS.len() - 1 };
        for turn in 0..METHODS.len() {
            match (round + turn * step) % METHODS.len() {
                0 => drop(walk.run(|| bpf.walk())?),
                1 => {
                    whole.run(|| bpf.snapshot(&mut snapshot))?;
                    phases.add(&Collector::costs(&bpf), &snapshot)?;
                }
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
    report["phases"] = phases.report();
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
