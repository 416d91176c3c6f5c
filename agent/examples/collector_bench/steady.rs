//! What a running agent costs: a program as it ships, over containers that are alive.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};

use crate::common::Tree;

/// Loading is not steady, and a stream needs a moment until it is live.
const SETTLE: Duration = Duration::from_secs(10);

const NODE_MEMORY_ROUNDS: usize = 20;
/// More than the allocator keeps.
const MAPPED: usize = 256 << 10;

/// A process that is killed with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs `command` with `--cgroup-root` of the tree, in a separate cgroup, and measures it over `time`. Meanwhile a process
/// in each of `containers` uses a little CPU and memory twice a second:
/// counters that never change would cost too little to report.
pub fn steady(
    tree: &Tree,
    containers: &[PathBuf],
    command: &[String],
    time: Duration,
) -> anyhow::Result<Value> {
    let [program, arguments @ ..] = command else { anyhow::bail!("--steady needs a program after --") };
    let this = std::env::current_exe()?;
    let ticking: Result<Vec<Running>, _> = containers
        .iter()
        .map(|container| Command::new(&this).arg("--tick").arg(container).spawn().map(Running))
        .collect();
    let ticking = ticking.context("cannot start the containers' processes")?;
    let house = tree.root.join("agent");
    fs::create_dir(&house).context("cannot make the agent's cgroup")?;
    // The shell moves itself, so that everything of the program is charged to its cgroup from the start.
    let script = "echo 0 > \"$0\"/cgroup.procs && exec \"$@\"";
    let child = Command::new("sh")
        .args(["-c", script])
        .arg(&house)
        .arg(program)
        .args(arguments)
        .arg("--cgroup-root")
        .arg(&tree.root)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let mut agent = Running(child);
    std::thread::sleep(SETTLE);
    let mut measured = watch(agent.0.id(), time)?;
    measured["charged"] = charged(&house)?;
    measured["node_memory"] = node_memory()?;
    if let Some(status) = agent.0.try_wait()? {
        anyhow::bail!("{program} ended while it was measured: {status}");
    }
    measured["ticking"] = json!(ticking.len());
    Ok(measured)
}

/// Times in which the node's memory can be read, ns: `/proc/meminfo`, and the root's `memory.stat`, which flushes the counters of
/// every cgroup first. Once a second, as an agent reads it, in turns; null where the root has no `memory.stat`.
fn node_memory() -> anyhow::Result<Value> {
    let root = crate::cgroup2_mount().context("no cgroup2 mount")?;
    let files = [PathBuf::from("/proc/meminfo"), root.join("memory.stat")];
    if !files[1].exists() {
        return Ok(Value::Null);
    }
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..NODE_MEMORY_ROUNDS {
        std::thread::sleep(Duration::from_secs(1));
        let turns = if round.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        for turn in turns {
            let begun = Instant::now();
            std::hint::black_box(fs::read(&files[turn])?);
            times[turn].push(begun.elapsed().as_nanos());
        }
    }
    let [meminfo, memory_stat] = times.map(|mut times| {
        times.sort_unstable();
        u64::try_from(times[times.len() / 2]).unwrap_or(u64::MAX)
    });
    Ok(json!({"meminfo_median_ns": meminfo, "memory_stat_median_ns": memory_stat}))
}

/// Is the process of a container, until it is killed.
pub fn tick(container: &Path) -> anyhow::Result<()> {
    fs::write(container.join("cgroup.procs"), "0").context("cannot enter the container's cgroup")?;
    let mut seed = u64::from(std::process::id());
    loop {
        // Some ten microseconds.
        for _ in 0..10_000 {
            seed = std::hint::black_box(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
        // Memory that is mapped for it and given back: counters that a flush has to fold.
        let mut memory = Vec::<u8>::with_capacity(MAPPED);
        std::hint::black_box(&mut memory).push(1);
        drop(memory);
        std::thread::sleep(Duration::from_millis(500));
    }
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

/// What the cgroup is charged, in bytes; null where it has no memory controller.
fn charged(house: &Path) -> anyhow::Result<Value> {
    let Ok(total) = fs::read_to_string(house.join("memory.current")) else { return Ok(Value::Null) };
    let mut charged = json!({"total": total.trim().parse::<u64>()?});
    let stat = fs::read_to_string(house.join("memory.stat"))?;
    for (name, value) in stat.lines().filter_map(|line| line.split_once(' ')) {
        if ["anon", "file", "kernel"].contains(&name) {
            charged[name] = json!(value.parse::<u64>()?);
        }
    }
    Ok(charged)
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
