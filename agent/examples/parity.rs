//! Compares every cgroup below kubepods, walk against files: CPU to the microsecond, memory to the byte.
//!
//! The sums name the cgroups that hold no memory, so that the caller can tell an expected zero from a counter that was
//! not read.
//!
//! The subtree must be idle: what the files say must be the same before and after the walk, else the comparison is
//! made again. Prints one JSON line for each difference and one with the sums; ends with 0 only if something was
//! compared and nothing differed.
//!
//! `parity [--cgroup-root DIR] [--tries N]`

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use waggle_agent::collect::bpf::{BpfWalk, LEAST_SLOTS};
use waggle_agent::collect::{Counters, Kubepods, page_size};
use waggle_agent_ebpf::Record;

/// Levels below kubepods that the walk visits.
const DEPTH: u32 = 3;

#[derive(Parser)]
struct Args {
    /// Where cgroup2 is mounted
    #[arg(long, default_value = "/sys/fs/cgroup")]
    cgroup_root: PathBuf,
    /// Comparisons to make while the subtree is not idle
    #[arg(long, default_value_t = 10)]
    tries: u32,
}

/// What the files of a cgroup say; the names are the output's.
type Values = BTreeMap<&'static str, u64>;

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    let mut walk = match BpfWalk::open(&args.cgroup_root, LEAST_SLOTS) {
        Ok(walk) => walk,
        Err(error) => {
            println!("{}", json!({"collector": "none", "refusal": error.to_string()}));
            return Ok(ExitCode::FAILURE);
        }
    };
    let kubepods = Kubepods::find(&args.cgroup_root)?;
    let [kubepods] = &kubepods[..] else { anyhow::bail!("more than one kubepods: {kubepods:?}") };
    let mut tried = 0;
    loop {
        tried += 1;
        let before = files(kubepods)?;
        walk.walk()?;
        let after = files(kubepods)?;
        let moved = before != after;
        if moved && tried < args.tries {
            std::thread::sleep(Duration::from_millis(500));
            continue;
        }
        let (differences, sums) = compare(&after, walk.records());
        for line in &differences {
            println!("{line}");
        }
        let compared = sums["compared"].as_u64().unwrap_or_default();
        let mut sums = sums;
        sums["collector"] = json!("bpf");
        sums["idle"] = json!(!moved);
        sums["tries"] = json!(tried);
        sums["kernel"] = json!(rustix::system::uname().release().to_string_lossy());
        println!("{sums}");
        let equal = compared > 0 && differences.is_empty() && !moved;
        return Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
}

/// All cgroups of the walk's depth by id, each with its path.
fn files(kubepods: &Kubepods) -> anyhow::Result<BTreeMap<u64, (PathBuf, Values)>> {
    let mut all = BTreeMap::new();
    let mut level = vec![(kubepods.id.0, kubepods.path.clone())];
    for depth in 0..=DEPTH {
        let mut next = Vec::new();
        for (id, path) in level {
            if depth < DEPTH {
                for entry in fs::read_dir(&path)? {
                    let entry = entry?;
                    if entry.file_type()?.is_dir() {
                        next.push((entry.ino(), entry.path()));
                    }
                }
            }
            let values = values(&path);
            all.insert(id, (path, values));
        }
        level = next;
    }
    Ok(all)
}

fn values(cgroup: &Path) -> Values {
    let line = |file: &str, key: &str| {
        let text = fs::read_to_string(cgroup.join(file)).ok()?;
        let line =
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ').map(str::to_owned))?;
        line.parse().ok()
    };
    let single = |file: &str| fs::read_to_string(cgroup.join(file)).ok()?.trim().parse().ok();
    [
        ("cpu_usec", line("cpu.stat", "usage_usec")),
        ("memory_current", single("memory.current")),
        ("inactive_file", line("memory.stat", "inactive_file")),
        ("swap_current", single("memory.swap.current")),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn walked(record: &Record) -> Values {
    let page = page_size();
    let Counters { cpu_ns, usage_pages, inactive_file_pages, swap_pages } = Counters::of(record);
    [
        ("cpu_usec", cpu_ns.map(|ns| ns / 1000)),
        ("memory_current", usage_pages.map(|pages| pages * page)),
        ("inactive_file", inactive_file_pages.map(|pages| pages * page)),
        ("swap_current", swap_pages.map(|pages| pages * page)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn compare(files: &BTreeMap<u64, (PathBuf, Values)>, records: &[Record]) -> (Vec<Value>, Value) {
    let mut differences = Vec::new();
    let mut nonzero = BTreeMap::from([
        ("cpu_usec", 0u64),
        ("memory_current", 0),
        ("inactive_file", 0),
        ("swap_current", 0),
    ]);
    let (mut compared, mut values) = (0u64, 0u64);
    let mut without_memory = Vec::new();
    let by_id: BTreeMap<u64, &Record> = records.iter().map(|record| (record.id, record)).collect();
    for (id, (path, by_file)) in files {
        let Some(record) = by_id.get(id) else {
            differences.push(json!({"cgroup": path, "id": id, "difference": "not in the walk"}));
            continue;
        };
        compared += 1;
        if by_file.get("memory_current") == Some(&0) {
            without_memory.push(path);
        }
        let by_walk = walked(record);
        let names: std::collections::BTreeSet<_> = by_file.keys().chain(by_walk.keys()).collect();
        for name in names {
            let (file, walk) = (by_file.get(name), by_walk.get(name));
            values += 1;
            if let Some(count) = nonzero.get_mut(name) {
                *count += u64::from(file.is_some_and(|value| *value > 0));
            }
            // Without a swap file there is no swap accounting: the counter is there and 0.
            let no_swap = *name == "swap_current" && file.is_none() && walk == Some(&0);
            if file != walk && !no_swap {
                differences
                    .push(json!({"cgroup": path, "id": id, "value": name, "file": file, "walk": walk}));
            }
        }
    }
    for record in records.iter().filter(|record| !files.contains_key(&record.id)) {
        differences.push(json!({"id": record.id, "level": record.level, "difference": "no such directory"}));
    }
    let sums = json!({
        "compared": compared,
        "values": values,
        "mismatches": differences.len(),
        "nonzero": nonzero,
        "without_memory": without_memory,
        "records": records.len(),
    });
    (differences, sums)
}
