use std::fs;
use std::path::{Path, PathBuf};

use super::Cgroupfs;
use crate::collect::{Collector, Memory, Snapshot, page_size};

const POD: &str = "podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

/// A directory that looks like a hierarchy. The kernel's own is exercised by `tests/` and the virtual machines.
fn root() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("cpu.stat"), "usage_usec 77\n").unwrap();
    fs::create_dir_all(root.path().join("kubepods/burstable")).unwrap();
    root
}

fn cgroup(root: &Path, name: &str, usec: u64) -> PathBuf {
    let path = root.join("kubepods/burstable").join(name);
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("cpu.stat"), format!("usage_usec {usec}\nuser_usec 1\n")).unwrap();
    path
}

fn memory(path: &Path, usage: u64, inactive: u64) {
    fs::write(path.join("memory.current"), format!("{}\n", usage * page_size())).unwrap();
    fs::write(path.join("memory.stat"), format!("anon 1\ninactive_file {}\n", inactive * page_size()))
        .unwrap();
}

#[test]
fn counters_of_pods_and_containers_are_read() {
    let root = root();
    let pod = cgroup(root.path(), POD, 500);
    let container = cgroup(root.path(), &format!("{POD}/{}", "a".repeat(64)), 400);
    memory(&pod, 100, 10);
    memory(&container, 60, 5);
    fs::write(container.join("memory.swap.current"), format!("{}\n", 3 * page_size())).unwrap();
    cgroup(root.path(), "not-a-pod", 9);

    let mut files = Cgroupfs::open(root.path(), Vec::new()).unwrap();
    let mut snapshot = Snapshot::default();
    files.snapshot(&mut snapshot).unwrap();
    assert!(snapshot.samples.is_sorted_by_key(|sample| sample.cgroup));
    assert_eq!(snapshot.samples.len(), 2);
    assert_eq!(snapshot.node.cpu_ns, Some(77_000));
    let of = |container: bool| {
        snapshot.samples.iter().find(|s| s.identity.container.is_some() == container).unwrap()
    };
    assert_eq!(of(false).cpu_ns, Some(500_000));
    assert_eq!(
        of(false).memory,
        Some(Memory { usage_pages: 100, inactive_file_pages: 10, swap_pages: None })
    );
    assert_eq!(
        of(true).memory,
        Some(Memory { usage_pages: 60, inactive_file_pages: 5, swap_pages: Some(3) })
    );
}

#[test]
fn pods_that_come_and_go_are_followed() {
    let root = root();
    let mut files = Cgroupfs::open(root.path(), Vec::new()).unwrap();
    let mut snapshot = Snapshot::default();
    files.snapshot(&mut snapshot).unwrap();
    assert!(snapshot.samples.is_empty());

    let first = cgroup(root.path(), POD, 1);
    files.snapshot(&mut snapshot).unwrap();
    assert_eq!(snapshot.samples.len(), 1);
    assert_eq!(snapshot.samples[0].memory, None, "the memory controller is not enabled");

    cgroup(root.path(), &POD.replace("podd6", "podaa"), 2);
    files.snapshot(&mut snapshot).unwrap();
    assert_eq!(snapshot.samples.len(), 2);

    fs::remove_dir_all(first).unwrap();
    files.snapshot(&mut snapshot).unwrap();
    assert_eq!(snapshot.samples.len(), 1);
    assert_eq!(snapshot.samples[0].cpu_ns, Some(2_000));
}

#[test]
fn nothing_is_made_up_where_a_file_says_nothing() {
    let root = root();
    let pod = cgroup(root.path(), POD, 1);
    fs::write(pod.join("memory.current"), "5\n").unwrap();
    fs::write(pod.join("memory.stat"), "anon 5\n").unwrap();
    let mut files = Cgroupfs::open(root.path(), Vec::new()).unwrap();
    let error = files.snapshot(&mut Snapshot::default()).unwrap_err();
    assert!(error.to_string().contains("memory.stat: it has no inactive_file"), "{error}");
}

#[test]
fn a_node_without_kubepods_is_an_error_with_a_remedy() {
    let root = tempfile::tempdir().unwrap();
    let error = Cgroupfs::open(root.path(), Vec::new()).unwrap_err();
    assert!(error.to_string().contains("is the kubelet running"), "{error}");
}

#[test]
fn with_no_descriptor_left_every_file_is_opened_for_each_read() {
    let root = root();
    memory(&cgroup(root.path(), POD, 1), 9, 1);
    let mut files = Cgroupfs::open(root.path(), Vec::new()).unwrap();
    files.budget = 0;
    let mut snapshot = Snapshot::default();
    files.snapshot(&mut snapshot).unwrap();
    assert_eq!(files.cgroups.values().map(super::Cgroup::kept).sum::<usize>(), 0);
    assert_eq!(snapshot.samples[0].memory.unwrap().working_set_pages(), 8);
}
