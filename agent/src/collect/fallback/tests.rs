use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::*;
use crate::collect::{Counters, Sample};
use crate::identify::{Identity, locate};

/// The stale `inactive_file` of a container that the flush skipped.
const SKIPPED: i64 = 4_000;
const SECOND: u64 = 1_000_000_000;

/// Kubepods with one container whose files contain the given microseconds and pages.
struct Node {
    root: tempfile::TempDir,
    now: Arc<AtomicU64>,
    script: Arc<Mutex<Script>>,
}

/// What the walk finds: counters of the container, or an error.
#[derive(Default)]
struct Script {
    counters: Counters,
    /// Of its pod's own cgroup, if that is there.
    pod: Option<Counters>,
    error: Option<fn() -> CollectError>,
    missing: Vec<(Field, Refusal)>,
    walks: u32,
}

struct ScriptedWalk {
    paths: [Arc<Path>; 2],
    now: Arc<AtomicU64>,
    script: Arc<Mutex<Script>>,
    missing: Vec<(Field, Refusal)>,
}

impl Walk for ScriptedWalk {
    fn walk(&mut self, into: &mut Walked) -> Result<(), CollectError> {
        let mut script = self.script.lock();
        script.walks += 1;
        if let Some(error) = script.error {
            return Err(error());
        }
        into.boot = BootTime(self.now.load(Ordering::Relaxed));
        let path = format!("/kubepods/podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b/{}", "a".repeat(64));
        let identity = locate(&path).unwrap().identity;
        let pod = Some(Arc::new(Identity { container: None, ..identity.clone() }));
        let cgroup = |id, path: &Arc<Path>, identity, counters: Counters| WalkedCgroup {
            id: CgroupId(id),
            path: Arc::clone(path),
            identity,
            late: false,
            skipped: counters.lacks_inactive_file().then_some(SKIPPED),
            counters,
        };
        into.cgroups = vec![cgroup(1, &self.paths[0], None, script.counters)];
        into.cgroups.extend(script.pod.map(|counters| cgroup(3, &self.paths[0], pod, counters)));
        into.cgroups.push(cgroup(5, &self.paths[1], Some(Arc::new(identity)), script.counters));
        Ok(())
    }

    fn missing(&self) -> &[(Field, Refusal)] {
        &self.missing
    }

    fn costs(&self) -> Costs {
        Costs::default()
    }
}

/// Files that have CPU only, one nanosecond more than any in a test.
struct Files;

impl Collector for Files {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        into.samples.clear();
        Ok(())
    }

    fn name(&self) -> &'static str {
        "cgroupfs"
    }
}

fn counters(usec: u64, usage: u64, inactive: u64, swap: u64) -> Counters {
    Counters {
        cpu_ns: Some(usec * 1000),
        usage_pages: Some(usage),
        inactive_file_pages: Some(inactive),
        swap_pages: Some(swap),
    }
}

const ALL: Counters = Counters {
    cpu_ns: Some(7_000_000),
    usage_pages: Some(9_000),
    inactive_file_pages: Some(5_000),
    swap_pages: Some(3),
};

impl Node {
    /// Files and walk agree.
    fn new() -> Self {
        let node = Self {
            root: tempfile::tempdir().unwrap(),
            now: Arc::new(AtomicU64::new(100 * SECOND)),
            script: Arc::new(Mutex::new(Script { counters: ALL, ..Script::default() })),
        };
        fs::create_dir(node.root.path().join("container")).unwrap();
        node.say(counters(7_000, 9_000, 5_000, 3));
        node
    }

    fn say(&self, counters: Counters) {
        for directory in [self.root.path().to_owned(), self.root.path().join("container")] {
            let write = |name: &str, text: String| fs::write(directory.join(name), text).unwrap();
            write("cpu.stat", format!("usage_usec {}\n", counters.cpu_ns.unwrap() / 1000));
            write("memory.current", format!("{}\n", counters.usage_pages.unwrap() * page_size()));
            let inactive = counters.inactive_file_pages.unwrap() * page_size();
            write("memory.stat", format!("anon 1\ninactive_file {inactive}\n"));
            write("memory.swap.current", format!("{}\n", counters.swap_pages.unwrap() * page_size()));
        }
    }

    fn collector(&self) -> WalkWithFallback {
        let paths = [self.root.path().into(), self.root.path().join("container").into()];
        let (now, script) = (Arc::clone(&self.now), Arc::clone(&self.script));
        let missing = script.lock().missing.clone();
        let walk = ScriptedWalk { paths, now: Arc::clone(&now), script, missing };
        let clock = Box::new(move || BootTime(now.load(Ordering::Relaxed)));
        WalkWithFallback::new(Box::new(walk), Box::new(|| Box::new(Files)), clock, 1)
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds * SECOND, Ordering::Relaxed);
    }

    fn walk(&self, counters: Counters) {
        self.script.lock().counters = counters;
    }

    fn fail(&self, error: Option<fn() -> CollectError>) {
        self.script.lock().error = error;
    }

    fn walks(&self) -> u32 {
        self.script.lock().walks
    }
}

fn take(collector: &mut WalkWithFallback) -> Option<Sample> {
    let mut snapshot = Snapshot::default();
    collector.snapshot(&mut snapshot).unwrap();
    snapshot.samples.pop()
}

fn reasons(collector: &dyn Collector) -> Vec<String> {
    collector.refusals().iter().map(|refusal| refusal.reason.to_string()).collect()
}

fn truncated() -> CollectError {
    CollectError::Truncated { slots: 8, needed: 11 }
}

fn unpublished() -> CollectError {
    CollectError::Unpublished { why: "test".to_owned() }
}

#[test]
fn a_walk_that_agrees_is_used_from_the_first_snapshot_on() {
    let node = Node::new();
    let mut collector = node.collector();
    assert_eq!(collector.name(), "cgroupfs", "not before it is proven");
    let sample = take(&mut collector).unwrap();
    assert_eq!((sample.cpu_ns, sample.memory), (ALL.cpu_ns, ALL.memory()));
    assert_eq!((collector.name(), collector.fields(), reasons(&collector)), ("bpf", Fields::ALL, vec![]));
    let walks = node.walks();
    take(&mut collector);
    assert_eq!(node.walks(), walks + 1, "nothing is compared any more");
}

#[test]
fn a_field_that_differs_is_read_from_its_file_and_the_others_stay_with_the_walk() {
    let node = Node::new();
    node.walk(Counters { inactive_file_pages: Some(0), ..ALL });
    let mut collector = node.collector();
    for _ in 0..4 {
        let memory = take(&mut collector).unwrap().memory.unwrap();
        assert_eq!(memory.inactive_file_pages, 5_000, "what the file says, at every snapshot");
        node.pass(1);
    }
    assert_eq!(reasons(&collector), ["parity-failed:inactive-file"]);
    assert_eq!((collector.name(), collector.fields()), ("bpf", Fields::ALL.without(Field::InactiveFile)));
    // It is tried again, and then believed.
    node.walk(ALL);
    node.pass(20);
    take(&mut collector);
    assert_eq!((collector.fields(), reasons(&collector)), (Fields::ALL, vec![]));
}

#[test]
fn a_field_that_the_kernel_lacks_is_read_from_its_file_alone() {
    let node = Node::new();
    let missing = Refusal::new(Reason::FieldMissing("mem_cgroup.vmstats"), "test");
    node.script.lock().missing = vec![(Field::InactiveFile, missing)];
    node.walk(Counters { inactive_file_pages: None, ..ALL });
    let mut collector = node.collector();
    let sample = take(&mut collector).unwrap();
    assert_eq!((sample.cpu_ns, sample.memory), (ALL.cpu_ns, ALL.memory()));
    assert_eq!(reasons(&collector), ["field-missing:mem_cgroup.vmstats"]);
    assert_eq!((collector.name(), collector.fields()), ("bpf", Fields::ALL.without(Field::InactiveFile)));
}

/// On 6.16 and newer a flush can skip a cgroup. Its own file is read, and the field stays trusted.
#[test]
fn what_the_flush_skipped_is_read_from_its_file_in_the_same_snapshot() {
    let node = Node::new();
    let mut collector = node.collector();
    take(&mut collector);
    node.walk(Counters { inactive_file_pages: None, ..ALL });
    for seconds in [1, 301, 1] {
        node.pass(seconds);
        assert_eq!(take(&mut collector).unwrap().memory, ALL.memory());
        assert_eq!((collector.fields(), reasons(&collector)), (Fields::ALL, vec![]));
    }
    // The container has 1,000 pages more than its stale value, and so has its pod. If the pod was skipped as well, reading its
    // file flushes all of it.
    for (pod, pages) in [(Some(6_000), 7_000), (None, 5_000)] {
        node.script.lock().pod = Some(Counters { inactive_file_pages: pod, ..ALL });
        let mut snapshot = Snapshot::default();
        collector.snapshot(&mut snapshot).unwrap();
        let found: Vec<_> = snapshot.samples.iter().map(|sample| sample.memory.unwrap()).collect();
        assert_eq!(found.iter().map(|memory| memory.inactive_file_pages).collect::<Vec<_>>(), [pages, 5_000]);
    }
    node.script.lock().pod = None;
    fs::write(node.root.path().join("container/memory.stat"), "torn\n").unwrap();
    assert_eq!(take(&mut collector).unwrap().memory, None, "never a value of before");
    assert_eq!(collector.costs().unreadable, 1);
}

/// Nothing has swapped yet: the field stays unproven, and its zeros are those of kubepods' own file.
#[test]
fn without_a_witness_a_field_comes_from_the_files() {
    let node = Node::new();
    node.say(counters(7_000, 9_000, 5_000, 0));
    node.walk(Counters { swap_pages: Some(77), ..ALL });
    let mut collector = node.collector();
    assert_eq!(take(&mut collector).unwrap().memory.unwrap().swap_pages, Some(0));
    node.walk(Counters { swap_pages: Some(0), ..ALL });
    for _ in 0..3 {
        take(&mut collector);
        node.pass(1);
    }
    assert_eq!(collector.fields(), Fields::ALL.without(Field::Swap));
    assert!(reasons(&collector).is_empty(), "that is no failure");
    node.say(counters(7_000, 9_000, 5_000, 3));
    node.pass(20);
    node.walk(ALL);
    assert_eq!(take(&mut collector).unwrap().memory.unwrap().swap_pages, Some(3));
    assert_eq!(collector.fields(), Fields::ALL);
}

/// An error of the file reader must not count against the walk.
#[test]
fn an_error_of_the_files_is_not_counted_against_the_walk() {
    let node = Node::new();
    let mut collector = node.collector();
    take(&mut collector);
    for name in ["memory.current", "container/memory.current"] {
        fs::write(node.root.path().join(name), "not a number\n").unwrap();
    }
    node.pass(301);
    for _ in 0..5 {
        assert_eq!(take(&mut collector).unwrap().memory, ALL.memory());
        node.pass(1);
    }
    assert_eq!((collector.fields(), reasons(&collector)), (Fields::ALL, vec![]));
}

#[test]
fn a_proven_field_is_compared_again_later_and_never_used_after_it_differed() {
    let node = Node::new();
    let mut collector = node.collector();
    take(&mut collector);
    node.walk(counters(99_000, 9_000, 5_000, 3));
    node.pass(301);
    for _ in 0..4 {
        assert_eq!(take(&mut collector).unwrap().cpu_ns, ALL.cpu_ns, "what the file says");
        node.pass(1);
    }
    assert_eq!(reasons(&collector), ["parity-failed:cpu"]);
}

#[test]
fn transient_errors_cost_their_snapshots_and_lasting_ones_a_growing_wait() {
    let node = Node::new();
    let mut collector = node.collector();
    take(&mut collector);
    node.fail(Some(unpublished));
    assert!(take(&mut collector).is_none() && reasons(&collector).is_empty(), "files, for this one");
    node.fail(None);
    assert!(take(&mut collector).is_some(), "the walk goes on");
    for wait in [10, 20, 40] {
        node.fail(Some(unpublished));
        for _ in 0..3 {
            take(&mut collector);
        }
        assert_eq!((collector.name(), reasons(&collector)), ("cgroupfs", vec!["iter-refused".to_owned()]));
        let walks = node.walks();
        node.pass(wait - 1);
        take(&mut collector);
        assert_eq!(node.walks(), walks, "not tried before {wait} s");
        node.fail(None);
        node.pass(1);
        assert!(take(&mut collector).is_some(), "tried again after {wait} s");
        assert_eq!((collector.name(), reasons(&collector)), ("bpf", vec![]));
    }
}

#[test]
fn a_tree_that_does_not_fit_means_files_at_once_and_says_how_to_grow() {
    let node = Node::new();
    let mut collector = node.collector();
    take(&mut collector);
    node.fail(Some(truncated));
    assert!(take(&mut collector).is_none(), "never partial data");
    assert_eq!((collector.name(), reasons(&collector)), ("cgroupfs", vec!["truncated".to_owned()]));
    let text = collector.refusals()[0].to_string();
    assert!(text.contains("11 slots") && text.contains("restart the agent"), "{text}");
}

#[test]
fn containers_outside_kubepods_mean_files() {
    let node = Node::new();
    let mut collector = node.collector();
    node.fail(Some(|| CollectError::Outside { path: "/system.slice/x".to_owned() }));
    take(&mut collector);
    assert_eq!(reasons(&collector), ["driver-mismatch"]);
}
