use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::*;
use crate::collect::Memory;

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

fn container(root: &Path, digit: char, usec: u64) -> PathBuf {
    cgroup(root, &format!("{POD}/{}", digit.to_string().repeat(64)), usec)
}

fn memory(path: &Path, usage: u64, inactive: u64) {
    fs::write(path.join("memory.current"), format!("{}\n", usage * page_size())).unwrap();
    fs::write(path.join("memory.stat"), format!("anon 1\ninactive_file {}\n", inactive * page_size()))
        .unwrap();
}

fn files(root: &Path) -> Cgroupfs {
    Cgroupfs::new(root, Vec::new(), Duration::ZERO)
}

fn take(files: &mut Cgroupfs) -> Vec<Sample> {
    let mut snapshot = Snapshot::default();
    files.snapshot(&mut snapshot).unwrap();
    assert!(snapshot.samples.is_sorted_by_key(|sample| sample.cgroup));
    snapshot.samples
}

fn cpu(samples: &[Sample]) -> Vec<Option<u64>> {
    let mut all: Vec<_> = samples.iter().map(|sample| sample.cpu_ns).collect();
    all.sort_unstable();
    all
}

#[test]
fn counters_of_pods_and_containers_are_read() {
    let root = root();
    let pod = cgroup(root.path(), POD, 500);
    let container = container(root.path(), 'a', 400);
    memory(&pod, 100, 10);
    memory(&container, 60, 5);
    fs::write(container.join("memory.swap.current"), format!("{}\n", 3 * page_size())).unwrap();
    cgroup(root.path(), "not-a-pod", 9);

    let samples = take(&mut files(root.path()));
    assert_eq!(samples.len(), 2);
    let of = |container: bool| samples.iter().find(|s| s.identity.container.is_some() == container).unwrap();
    assert_eq!((of(false).cpu_ns, of(true).cpu_ns), (Some(500_000), Some(400_000)));
    let expected = Memory { usage_pages: 100, inactive_file_pages: 10, swap_pages: None };
    assert_eq!(of(false).memory, Some(expected));
    let expected = Memory { usage_pages: 60, inactive_file_pages: 5, swap_pages: Some(3) };
    assert_eq!(of(true).memory, Some(expected));
}

#[test]
fn pods_that_come_and_go_are_followed() {
    let root = root();
    let mut files = files(root.path());
    assert!(take(&mut files).is_empty());

    let first = cgroup(root.path(), POD, 1);
    let samples = take(&mut files);
    assert_eq!((samples.len(), samples[0].memory), (1, None), "the memory controller is not enabled");

    cgroup(root.path(), &POD.replace("podd6", "podaa"), 2);
    assert_eq!(take(&mut files).len(), 2);

    fs::remove_dir_all(first).unwrap();
    assert_eq!(cpu(&take(&mut files)), [Some(2_000)]);
}

/// A directory that lost one child and gained one between two snapshots has the same inode and the same number of links.
/// Found one snapshot late, the new container's counter would be taken to have been zero when it was not.
#[test]
fn a_container_that_took_anothers_place_is_read_in_the_same_snapshot() {
    let root = root();
    let pod = cgroup(root.path(), POD, 1);
    let before = container(root.path(), 'a', 10);
    let mut files = files(root.path());
    assert_eq!(cpu(&take(&mut files)), [Some(1_000), Some(10_000)]);
    let links = fs::metadata(&pod).map(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata));
    // What the kernel answers on a kept descriptor of a removed cgroup (ENODEV) is what opening it again gives here.
    files.budget = Budget(0);
    for cgroup in files.cgroups.values_mut() {
        let path = cgroup.files.path().to_owned();
        cgroup.files = CgroupFiles::open(path, Fields::ALL, &mut Budget(0)).unwrap();
    }
    fs::remove_dir_all(before).unwrap();
    container(root.path(), 'b', 20);
    let after = fs::metadata(&pod).map(|metadata| std::os::unix::fs::MetadataExt::nlink(&metadata));
    assert_eq!(links.unwrap(), after.unwrap());
    let samples = take(&mut files);
    assert_eq!(cpu(&samples), [Some(1_000), Some(20_000)], "the restarted container, at once");
    assert!(samples.iter().all(|sample| !sample.late));
}

/// Nothing shows in the directory when a container's monitor is exchanged for a container.
#[test]
fn a_pod_with_other_children_is_listed_every_time() {
    let root = root();
    cgroup(root.path(), POD, 1);
    let monitor = root.path().join(format!("kubepods/burstable/{POD}/crio-conmon-{}.scope", "c".repeat(64)));
    fs::create_dir(&monitor).unwrap();
    let mut files = files(root.path());
    assert_eq!(take(&mut files).len(), 1);
    fs::remove_dir(monitor).unwrap();
    container(root.path(), 'b', 20);
    assert_eq!(take(&mut files).len(), 2);
}

#[test]
fn an_odd_cgroup_costs_that_cgroup_only() {
    let root = root();
    memory(&cgroup(root.path(), POD, 1), 9, 1);
    let odd = container(root.path(), 'a', 10);
    for (name, text) in
        [("memory.current", "5\n"), ("memory.stat", "anon 5\n"), ("cpu.stat", "nr_periods 0\n")]
    {
        fs::write(odd.join(name), text).unwrap();
        let mut files = files(root.path());
        let samples = take(&mut files);
        assert_eq!(samples.len(), 2, "{name}");
        let of =
            |container: bool| samples.iter().find(|s| s.identity.container.is_some() == container).unwrap();
        assert!(of(false).measured().is_some(), "{name}");
        let broken = !matches!(name, "memory.current");
        assert_eq!(of(true).measured().is_none(), broken || of(true).memory.is_none(), "{name}");
        assert_eq!(files.costs().unreadable, usize::from(broken), "{name}");
    }
    // And it is read again when it is readable.
    fs::write(odd.join("cpu.stat"), "usage_usec 3\n").unwrap();
    memory(&odd, 7, 0);
    assert!(take(&mut files(root.path())).iter().all(|sample| sample.measured().is_some()));
}

#[test]
fn a_container_that_counts_nothing_is_not_measured() {
    let root = root();
    memory(&cgroup(root.path(), POD, 900), 100, 10);
    let empty = container(root.path(), 'a', 0);
    memory(&empty, 0, 0);
    let samples = take(&mut files(root.path()));
    let measured: Vec<bool> = samples.iter().map(|sample| sample.measured().is_some()).collect();
    assert_eq!(measured.iter().filter(|measured| **measured).count(), 1, "the pod's own total");
    assert!(samples.iter().any(|s| s.identity.container.is_some() && s.measured().is_none()));
}

#[test]
fn memory_is_read_more_rarely_than_cpu_and_always_as_a_whole() {
    let root = root();
    let pod = cgroup(root.path(), POD, 1);
    memory(&pod, 100, 10);
    let mut files = Cgroupfs::new(root.path(), Vec::new(), Duration::from_hours(1));
    assert_eq!(take(&mut files)[0].memory.unwrap().working_set_pages(), 90, "at once for a new cgroup");
    fs::write(pod.join("cpu.stat"), "usage_usec 2\n").unwrap();
    memory(&pod, 50, 40);
    let samples = take(&mut files);
    assert_eq!((samples[0].cpu_ns, samples[0].memory.unwrap().working_set_pages()), (Some(2_000), 90));
    files.memory_pace = Duration::ZERO;
    assert_eq!(take(&mut files)[0].memory.unwrap().working_set_pages(), 10);
}

#[test]
fn a_node_without_kubepods_is_an_error_with_a_remedy_until_it_has_one() {
    let root = tempfile::tempdir().unwrap();
    let mut files = files(root.path());
    let error = files.snapshot(&mut Snapshot::default()).unwrap_err();
    assert!(error.to_string().contains("is the kubelet running"), "{error}");
    cgroup(root.path(), POD, 3);
    assert_eq!(cpu(&take(&mut files)), [Some(3_000)]);
    fs::remove_dir_all(root.path().join("kubepods")).unwrap();
    assert!(files.snapshot(&mut Snapshot::default()).is_err(), "the node was reset");
    cgroup(root.path(), POD, 4);
    assert_eq!(cpu(&take(&mut files)), [Some(4_000)]);
}

/// The kubelet uses the systemd driver and the runtime does not.
#[test]
fn containers_outside_kubepods_are_read() {
    let root = root();
    let pod = POD.replace('-', "_");
    let slice = format!("kubepods-burstable-{pod}.slice");
    let pods = root.path().join("kubepods.slice/kubepods-burstable.slice").join(&slice);
    fs::create_dir_all(&pods).unwrap();
    fs::write(pods.join("cpu.stat"), "usage_usec 1\n").unwrap();
    let below = root.path().join("system.slice/containerd.service");
    let name = |digit: char| below.join(format!("{slice}:cri-containerd:{}", digit.to_string().repeat(64)));
    let make = |digit, usec| {
        fs::create_dir_all(name(digit)).unwrap();
        fs::write(name(digit).join("cpu.stat"), format!("usage_usec {usec}\n")).unwrap();
    };
    make('a', 10);
    let mut files = files(root.path());
    assert_eq!(cpu(&take(&mut files)), [Some(1_000), Some(10_000)]);
    fs::remove_dir_all(name('a')).unwrap();
    make('b', 20);
    assert_eq!(cpu(&take(&mut files)), [Some(1_000), Some(20_000)]);
}

#[test]
fn with_no_descriptor_left_every_file_is_opened_for_each_read() {
    let root = root();
    memory(&cgroup(root.path(), POD, 1), 9, 1);
    let mut files = files(root.path());
    files.budget = Budget(0);
    assert_eq!(take(&mut files)[0].memory.unwrap().working_set_pages(), 8);
    assert_eq!(files.cgroups.values().map(|cgroup| cgroup.files.kept()).sum::<usize>(), 0);
}
