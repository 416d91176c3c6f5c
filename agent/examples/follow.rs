//! Follows a loaded kubepods and compares the agent's collector with the kernel's files.
//!
//! Once per interval the whole subtree is frozen, the collector takes a snapshot, and the files are read: nothing moves
//! in between, so CPU must be equal to the microsecond. Memory may differ by what the kernel lets a reader of
//! `memory.stat` miss, 64 pages per processor. The snapshot comes first, because reading the files flushes the counters.
//! Then, with everything running, a snapshot is taken between two readings of `cpu.stat`, which must enclose it.
//!
//! Without the walk, memory is read every 5 s only: then a value must be what the files said at one of the samples since.
//!
//! Prints one JSON line per sample and one with the sums. The caller judges them.
//!
//! `follow --kubepods DIR [--cgroup-root DIR] [--samples N] [--every-ms N]`

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Parser;
use serde_json::json;
use waggle_agent::collect::{Collector, Field, Options, Preference, Snapshot, choose, page_size};

#[derive(Parser)]
struct Args {
    /// The kubepods cgroup
    #[arg(long)]
    kubepods: PathBuf,
    /// Where cgroup2 is mounted
    #[arg(long, default_value = "/sys/fs/cgroup")]
    cgroup_root: PathBuf,
    /// Samples to take
    #[arg(long, default_value_t = 11)]
    samples: u32,
    /// Time between samples
    #[arg(long, default_value_t = 1000)]
    every_ms: u64,
}

/// One cgroup at one sample.
#[derive(Clone, Copy, Default)]
struct Values {
    cpu_usec: u64,
    usage_bytes: u64,
    inactive_file_bytes: u64,
}

impl Values {
    const fn working_set(self) -> u64 {
        self.usage_bytes.saturating_sub(self.inactive_file_bytes)
    }
}

/// What all samples together show.
#[derive(Default)]
struct Sums {
    compared: u64,
    missing: u64,
    cpu_differences: u64,
    not_enclosed: u64,
    enclosed: u64,
    worst_working_set_pages: u64,
    zero_working_sets: u64,
    /// The largest change of `inactive_file` between two samples, by the files: that page cache moved at all.
    moved_bytes: u64,
    /// What came into the page cache from the disk while the subtree ran, and how long it ran.
    read_bytes: u64,
    ran: Duration,
}

/// Working sets by the files at the last samples.
#[derive(Default)]
struct History(VecDeque<BTreeMap<u64, u64>>);

impl History {
    /// Samples in the 5 s between two readings of memory.
    const SAMPLES: usize = 6;

    fn add(&mut self, files: &BTreeMap<u64, (PathBuf, Values)>) {
        self.0.truncate(Self::SAMPLES - 1);
        self.0.push_front(files.iter().map(|(id, (_, file))| (*id, file.working_set())).collect());
    }

    /// The one that is nearest.
    fn nearest(&self, id: u64, working_set: u64) -> Option<u64> {
        let known = self.0.iter().filter_map(|sample| sample.get(&id).copied());
        known.min_by_key(|known| known.abs_diff(working_set))
    }
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let options = Options { cgroup_root: args.cgroup_root.clone(), preference: Preference::Auto };
    let mut collector = choose(&options)?;
    let by_walk = collector.name() == "bpf";
    // Its memory shall be read at samples, so that what runs is enclosed by another one.
    let mut other = if by_walk { None } else { Some(choose(&options)?) };
    let mut snapshot = Snapshot::default();
    let mut sums = Sums::default();
    let mut history = History::default();
    let (mut first, mut last, mut before) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::<u64, u64>::new());
    let begun = Instant::now();
    let mut running = (begun, read_from_disk()?);
    for number in 0..args.samples {
        let due = begun + Duration::from_millis(args.every_ms) * number;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        freeze(&args.kubepods, true)?;
        sums.ran += running.0.elapsed();
        sums.read_bytes += read_from_disk()? - running.1;
        let taken = collector.snapshot(&mut snapshot);
        let files = files(&args.kubepods)?;
        freeze(&args.kubepods, false)?;
        running = (Instant::now(), read_from_disk()?);
        taken.with_context(|| format!("snapshot {number} failed"))?;
        let walked = walked(&snapshot);
        history.add(&files);
        compare(&walked, &files, (!by_walk).then_some(&history), &mut sums);
        for (id, (_, file)) in &files {
            if let Some(earlier) = before.insert(*id, file.inactive_file_bytes) {
                sums.moved_bytes = sums.moved_bytes.max(earlier.abs_diff(file.inactive_file_bytes));
            }
        }
        if number == 0 {
            first = pairs(&walked, &files);
        }
        last = pairs(&walked, &files);
        enclose(other.as_mut().unwrap_or(&mut collector).as_mut(), &mut snapshot, &files, &mut sums)?;
    }
    // Per cgroup that used at least 50 ms: the difference between the two ways, in percent of what the files say.
    let mut used = 0u64;
    let worst_cpu_percent = last
        .iter()
        .filter_map(|(id, (walk, file))| {
            let (walk_first, file_first) = first.get(id)?;
            let by_file = file.checked_sub(*file_first).filter(|used| *used >= 50_000)?;
            used += 1;
            Some((walk.abs_diff(*walk_first).abs_diff(by_file)) as f64 * 100.0 / by_file as f64)
        })
        .fold(0.0, f64::max);
    let refusals: Vec<String> = collector.refusals().iter().map(ToString::to_string).collect();
    let processors = thread::available_parallelism()?.get();
    println!(
        "{}",
        json!({
            "kernel": rustix::system::uname().release().to_string_lossy(), "collector": collector.name(),
            "refusals": refusals, "fields": collector.fields().iter().map(Field::name).collect::<Vec<_>>(),
            "processors": processors, "samples": args.samples,
            "compared": sums.compared, "missing": sums.missing,
            "cpu_differences": sums.cpu_differences, "busy": used, "worst_cpu_percent": worst_cpu_percent,
            "enclosed": sums.enclosed, "not_enclosed": sums.not_enclosed,
            "worst_working_set_pages": sums.worst_working_set_pages, "zero_working_sets": sums.zero_working_sets,
            "moved_bytes": sums.moved_bytes,
            "read_mib_per_second": sums.read_bytes as f64 / f64::from(1 << 20) / sums.ran.as_secs_f64(),
        })
    );
    Ok(())
}

/// Bytes that this machine has read from disks into page cache.
fn read_from_disk() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/vmstat").context("cannot read /proc/vmstat")?;
    Ok(field(&text, "pgpgin").context("no pgpgin in /proc/vmstat")? * 1024)
}

fn pairs(
    walked: &BTreeMap<u64, Values>,
    files: &BTreeMap<u64, (PathBuf, Values)>,
) -> BTreeMap<u64, (u64, u64)> {
    let both = |(id, (_, file)): (&u64, &(PathBuf, Values))| {
        walked.get(id).map(|walk| (*id, (walk.cpu_usec, file.cpu_usec)))
    };
    files.iter().filter_map(both).collect()
}

/// Time for a frozen task to be switched out, in which its last running time is charged: some ticks.
const SWITCHED_OUT: Duration = Duration::from_millis(20);

/// Freezes or thaws a subtree, and waits until it is done.
///
/// A task counts as frozen from `cgroup_enter_frozen`, before it calls `schedule()` (`do_freezer_trap`,
/// `kernel/signal.c`). On another processor it can still be running then, with up to a tick of time that is not charged yet.
fn freeze(kubepods: &Path, frozen: bool) -> anyhow::Result<()> {
    let file = kubepods.join("cgroup.freeze");
    fs::write(&file, if frozen { "1" } else { "0" })
        .with_context(|| format!("cannot write {}", file.display()))?;
    let wanted = if frozen { "frozen 1" } else { "frozen 0" };
    let begun = Instant::now();
    loop {
        if fs::read_to_string(kubepods.join("cgroup.events"))?.contains(wanted) {
            thread::sleep(if frozen { SWITCHED_OUT } else { Duration::ZERO });
            return Ok(());
        }
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("{} is not \"{wanted}\" after 20 s", kubepods.display());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The files' values by cgroup id. Opens each file on each call, so that the reference shares nothing with the collectors.
fn files(kubepods: &Path) -> anyhow::Result<BTreeMap<u64, (PathBuf, Values)>> {
    let mut all = BTreeMap::new();
    let mut open = vec![kubepods.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
                if let Some(values) = values(&entry.path()) {
                    all.insert(entry.ino(), (entry.path(), values));
                }
            }
        }
    }
    Ok(all)
}

fn values(cgroup: &Path) -> Option<Values> {
    let current: u64 = fs::read_to_string(cgroup.join("memory.current")).ok()?.trim().parse().ok()?;
    let inactive = field(&fs::read_to_string(cgroup.join("memory.stat")).ok()?, "inactive_file")?;
    Some(Values { cpu_usec: cpu(cgroup)?, usage_bytes: current, inactive_file_bytes: inactive })
}

fn cpu(cgroup: &Path) -> Option<u64> {
    field(&fs::read_to_string(cgroup.join("cpu.stat")).ok()?, "usage_usec")
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn walked(snapshot: &Snapshot) -> BTreeMap<u64, Values> {
    let page = page_size();
    let samples = snapshot.samples.iter().filter_map(|sample| {
        let memory = sample.memory?;
        let values = Values {
            cpu_usec: sample.cpu_ns? / 1000,
            usage_bytes: memory.usage_pages * page,
            inactive_file_bytes: memory.inactive_file_pages * page,
        };
        Some((sample.cgroup.0, values))
    });
    samples.collect()
}

fn compare(
    walked: &BTreeMap<u64, Values>,
    files: &BTreeMap<u64, (PathBuf, Values)>,
    history: Option<&History>,
    sums: &mut Sums,
) {
    let mut worst: Option<(u64, &Path, Values, Values)> = None;
    for (id, (path, file)) in files.iter().filter(|(_, (path, _))| is_pod_or_container(path)) {
        let Some(walk) = walked.get(id) else {
            println!("{}", json!({"cgroup": path, "difference": "not in the snapshot"}));
            sums.missing += 1;
            continue;
        };
        sums.compared += 1;
        if walk.cpu_usec != file.cpu_usec {
            sums.cpu_differences += 1;
            println!(
                "{}",
                json!({"cgroup": path, "cpu_usec": {"walk": walk.cpu_usec, "file": file.cpu_usec}})
            );
        }
        sums.zero_working_sets += u64::from(walk.working_set() == 0 && file.working_set() > 0);
        let expected = match history {
            Some(history) => history.nearest(*id, walk.working_set()),
            None => by_containers(path, file, files).map(Values::working_set),
        };
        let expected = expected.unwrap_or_else(|| file.working_set());
        let pages = walk.working_set().abs_diff(expected) / page_size();
        if worst.is_none_or(|(least, ..)| pages > least) {
            worst = Some((pages, path, *walk, *file));
        }
    }
    if let Some((pages, path, walk, file)) = worst {
        sums.worst_working_set_pages = sums.worst_working_set_pages.max(pages);
        println!(
            "{}",
            json!({
                "worst": path, "pages": pages,
                "walk": {"usage": walk.usage_bytes, "inactive_file": walk.inactive_file_bytes, "working_set": walk.working_set()},
                "file": {"usage": file.usage_bytes, "inactive_file": file.inactive_file_bytes, "working_set": file.working_set()},
            })
        );
    }
}

/// A pod's values with the sum of its containers' `inactive_file`, or `None` without containers.
///
/// A pod's own `memory.stat` can be stale from 6.15 on: `memcg_rstat_updated` stops at a container that is over the flush
/// threshold, so a reader of the pod's file may not flush.
fn by_containers(pod: &Path, file: &Values, files: &BTreeMap<u64, (PathBuf, Values)>) -> Option<Values> {
    let containers = || files.values().filter(|(path, _)| path.parent() == Some(pod));
    containers().next()?;
    let inactive_file_bytes = containers().map(|(_, container)| container.inactive_file_bytes).sum();
    Some(Values { inactive_file_bytes, ..*file })
}

/// Below the quality-of-service classes: the names of pods and containers have at least 32 characters.
fn is_pod_or_container(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.len() >= 32)
}

/// A snapshot of the running subtree lies between two readings of the files.
fn enclose(
    collector: &mut dyn Collector,
    snapshot: &mut Snapshot,
    known: &BTreeMap<u64, (PathBuf, Values)>,
    sums: &mut Sums,
) -> anyhow::Result<()> {
    let read = || -> BTreeMap<u64, u64> {
        known.iter().filter_map(|(id, (path, _))| Some((*id, cpu(path)?))).collect()
    };
    let before = read();
    collector.snapshot(snapshot).context("a snapshot of the running subtree failed")?;
    let after = read();
    for (id, walk) in walked(snapshot) {
        let (Some(before), Some(after)) = (before.get(&id), after.get(&id)) else { continue };
        if (*before..=*after).contains(&walk.cpu_usec) {
            sums.enclosed += 1;
        } else {
            sums.not_enclosed += 1;
            println!("{}", json!({"cgroup": id, "not_enclosed": [before, walk.cpu_usec, after]}));
        }
    }
    Ok(())
}
