//! Takes snapshots as fast as it can while another thread makes and removes pods and containers, and holds every
//! identity against what that thread made.
//!
//! Counts snapshots that failed, cgroups that carried another pod's or container's name, and counters that fell.
//! Prints one JSON line; the caller judges it.
//!
//! `coming_and_going [--make-below DIR] [--walks N] [--files]`

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use parking_lot::Mutex;
use serde_json::json;
use waggle_agent::collect::{Options, Preference, Snapshot, choose};

mod common;
use common::Tree;

/// Pods that are there at any time.
const ALIVE: usize = 40;
/// Pods with a process that computes as long as the test runs.
const BUSY: u32 = 4;
/// Snapshots from one pod to the next are fewer than this: some see a change, some see none, however slow the machine.
const APART: u64 = 32;
/// What the number of snapshots is when it is over.
const OVER: u64 = u64::MAX;

#[derive(Parser)]
struct Args {
    /// The cgroup2 mount, or a cgroup, to make the pods below
    #[arg(long, default_value = "/sys/fs/cgroup")]
    make_below: PathBuf,
    /// Snapshots to take
    #[arg(long, default_value_t = 100_000)]
    walks: u64,
    /// Read files instead of walking
    #[arg(long)]
    files: bool,
}

/// Pod number and, for a container, container number.
type Name = (u32, Option<u32>);
/// Every cgroup that was made, by id.
type Made = Arc<Mutex<HashMap<u64, Name>>>;

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let tree = Tree::make(&args.make_below, "coming-and-going", &["cpu", "memory"])?;
    let made = Made::default();
    let mut busy = Vec::new();
    for number in 0..BUSY {
        let pod = make(&tree, &made, number)?;
        let container = Tree::container(&pod, number)?;
        note(&made, &container, (number, Some(number)))?;
        // Limited to 2 % of a processor where the controller is there, to leave the processors to the walks.
        let _ = fs::write(container.join("cpu.max"), "2000 100000");
        busy.push(work(&container, "while :; do :; done")?);
    }
    let preference = if args.files { Preference::Cgroupfs } else { Preference::Auto };
    let mut collector = choose(&Options { cgroup_root: tree.root.clone(), preference })?;
    let taken = AtomicU64::new(0);
    let sums = thread::scope(|scope| {
        let churn = scope.spawn(|| churn(&tree, &made, &taken));
        let mut sums = Sums::default();
        let mut snapshot = Snapshot::default();
        for _ in 0..args.walks {
            let begun = Instant::now();
            let outcome = collector.snapshot(&mut snapshot);
            sums.longest = sums.longest.max(begun.elapsed());
            match outcome {
                Ok(()) => sums.look_at(&snapshot),
                Err(error) => sums.failed(&error.to_string()),
            }
            taken.fetch_add(1, Ordering::Relaxed);
            churn.thread().unpark();
        }
        taken.store(OVER, Ordering::Relaxed);
        churn.thread().unpark();
        sums.pods = churn.join().map_err(|_| anyhow::anyhow!("the thread that makes pods panicked"))??;
        anyhow::Ok(sums)
    });
    for mut child in busy {
        child.kill().context("cannot end a busy process")?;
        child.wait().context("cannot wait for a busy process")?;
    }
    let sums = sums?;
    let made = made.lock();
    let wrong: Vec<_> = sums.seen.iter().filter(|(id, seen)| made.get(id) != Some(&seen.name)).collect();
    for (id, seen) in wrong.iter().take(5) {
        println!("{}", json!({"cgroup": id, "is": made.get(id), "was_called": seen.name}));
    }
    let refusals: Vec<String> = collector.refusals().iter().map(ToString::to_string).collect();
    println!(
        "{}",
        json!({
            "kernel": rustix::system::uname().release().to_string_lossy(), "collector": collector.name(),
            "refusals": refusals, "walks": args.walks, "failed": sums.errors, "first_error": sums.first_error,
            "pods": sums.pods, "made": made.len(), "identified": sums.seen.len(), "wrong": wrong.len(),
            "negative": sums.negative, "advanced": sums.advanced, "longest_ms": sums.longest.as_millis(),
        })
    );
    Ok(())
}

#[derive(Clone, Copy)]
struct Seen {
    name: Name,
    cpu_ns: u64,
}

#[derive(Default)]
struct Sums {
    seen: HashMap<u64, Seen>,
    errors: u64,
    first_error: Option<String>,
    negative: u64,
    /// Counters that grew from one snapshot to the next: the comparison compared something.
    advanced: u64,
    longest: Duration,
    pods: u32,
}

impl Sums {
    fn failed(&mut self, error: &str) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| error.to_owned());
    }

    fn look_at(&mut self, snapshot: &Snapshot) {
        for sample in &snapshot.samples {
            let pod =
                sample.identity.pod.as_str().get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
            let container = sample.identity.container.map(|id| {
                let text = id.to_string();
                text.get(56..).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(u32::MAX)
            });
            let name = (pod.unwrap_or(u32::MAX), container);
            let cpu_ns = sample.cpu_ns.unwrap_or_default();
            let seen = self.seen.entry(sample.cgroup.0).or_insert(Seen { name, cpu_ns });
            // A name that changes is wrong at least once: the last one is kept.
            seen.name = if seen.name == name { name } else { (u32::MAX, None) };
            self.negative += u64::from(cpu_ns < seen.cpu_ns);
            self.advanced += u64::from(cpu_ns > seen.cpu_ns);
            seen.cpu_ns = cpu_ns;
        }
    }
}

/// Makes pods with two containers and removes the oldest while snapshots are taken. The number of pods made.
fn churn(tree: &Tree, made: &Made, taken: &AtomicU64) -> anyhow::Result<u32> {
    let mut alive: VecDeque<(PathBuf, Option<Child>)> = VecDeque::new();
    let mut number = BUSY;
    while taken.load(Ordering::Relaxed) != OVER {
        let pod = make(tree, made, number)?;
        let mut child = None;
        for container in [number * 2, number * 2 + 1] {
            let path = Tree::container(&pod, container)?;
            note(made, &path, (number, Some(container)))?;
            // A process in some of them: their counters are not 0, and they die as busy cgroups do.
            if container % 32 == 0 {
                child = Some(work(&path, "i=0; while [ $i -lt 300 ]; do i=$((i+1)); done")?);
            }
        }
        alive.push_back((pod, child));
        number += 1;
        if alive.len() >= ALIVE
            && let Some((oldest, child)) = alive.pop_front()
        {
            if let Some(mut child) = child {
                child.wait().context("cannot wait for a process")?;
            }
            common::remove(&oldest)?;
        }
        let due = taken.load(Ordering::Relaxed).saturating_add(u64::from(number) % APART);
        while taken.load(Ordering::Relaxed) < due {
            thread::park();
        }
    }
    for (_, child) in &mut alive {
        if let Some(child) = child {
            child.wait().context("cannot wait for a process")?;
        }
    }
    Ok(number)
}

fn make(tree: &Tree, made: &Made, number: u32) -> anyhow::Result<PathBuf> {
    let pod = tree.pod(number)?;
    note(made, &pod, (number, None))?;
    Ok(pod)
}

fn note(made: &Made, path: &Path, name: Name) -> anyhow::Result<()> {
    let id = fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.ino();
    made.lock().insert(id, name);
    Ok(())
}

/// Runs a shell script in a cgroup.
fn work(cgroup: &Path, script: &str) -> anyhow::Result<Child> {
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("echo 0 > \"$0/cgroup.procs\" && {{ {script}; }}"))
        .arg(cgroup)
        .spawn()
        .context("cannot start /bin/sh")
}
