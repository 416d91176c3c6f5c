//! What a snapshot allocates: nothing, while no cgroup comes or goes. Counts, so the same on every machine.
//!
//! Needs root and a kernel with the cgroup iterator; fails where they are missing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test's helpers fail by panicking, as the test does"
)]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use waggle_agent::collect::cgroupfs::Cgroupfs;
use waggle_agent::collect::{Collector, Options, Preference, Snapshot, choose};

#[path = "../examples/common/mod.rs"]
mod common;
use common::Tree;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const SNAPSHOTS: usize = 10;

fn cgroup2_mount() -> PathBuf {
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    let found = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    });
    found.expect("this machine has no cgroup2 mount")
}

/// Allocations of some snapshots, after those that fill what is filled once.
fn allocations(collector: &mut dyn Collector) -> (u64, usize) {
    let mut snapshot = Snapshot::default();
    for _ in 0..15 {
        collector.snapshot(&mut snapshot).unwrap();
    }
    let _profiler = dhat::Profiler::builder().testing().build();
    for _ in 0..SNAPSHOTS {
        collector.snapshot(&mut snapshot).unwrap();
    }
    (dhat::HeapStats::get().total_blocks, snapshot.samples.len())
}

#[test]
fn a_snapshot_allocates_nothing() {
    let tree = Tree::make(
        &cgroup2_mount(),
        &format!("waggle-allocations-{}", std::process::id()),
        &["cpu", "memory"],
    )
    .unwrap();
    for pod in 0..10 {
        let pod = tree.pod(pod).unwrap();
        for container in 0..3 {
            let path = Tree::container(&pod, container).unwrap();
            let script = format!("echo $$ > {}/cgroup.procs", path.display());
            assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
        }
    }
    let options = Options { cgroup_root: tree.root.clone(), preference: Preference::Bpf };
    let mut walk = choose(&options).unwrap();
    assert_eq!(allocations(walk.as_mut()), (0, 40), "by the walk");
    assert_eq!(walk.name(), "bpf");
    let mut files = Cgroupfs::new(&tree.root, Vec::new(), Duration::ZERO);
    assert_eq!(allocations(&mut files), (0, 40), "by files");
}
