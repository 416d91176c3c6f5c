//! The eBPF walk on this machine's kernel, in a subtree of its own below the machine's cgroup2 mount.
//!
//! Needs root and a kernel with the cgroup iterator; fails where they are missing.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as the test does")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracing::field::Visit;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use waggle_agent::collect::bpf::{BpfWalk, LEAST_SLOTS};
use waggle_agent::collect::{
    CollectError, Collector, Costs, Field, Fields, Options, Preference, Reason, Sample, Snapshot, choose,
    page_size,
};
use waggle_agent::privilege;

#[path = "../examples/common/mod.rs"]
mod common;
use common::Tree;

/// A tree below the machine's cgroup2 mount.
fn tree() -> Tree {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    assert!(
        rustix::process::geteuid().is_root(),
        "this test makes cgroups and loads a program: run it as root"
    );
    let Some(mount) = cgroup2_mount() else { panic!("this machine has no cgroup2 mount") };
    let name = format!("waggle-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Tree::make(&mount, &name, &["cpu", "memory"]).unwrap()
}

/// A walk of the tree.
fn walk_of(tree: &Tree) -> BpfWalk {
    BpfWalk::open(&tree.root, LEAST_SLOTS).unwrap()
}

fn cgroup2_mount() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let path = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// Burns some CPU in a cgroup and waits for its end.
fn burn(cgroup: &Path) {
    let script = format!(
        "echo $$ > {}/cgroup.procs && i=0 && while [ $i -lt 30000 ]; do i=$((i+1)); done",
        cgroup.display()
    );
    assert!(Command::new("sh").args(["-c", &script]).status().unwrap().success());
}

fn usage_usec(cgroup: &Path) -> u64 {
    let text = fs::read_to_string(cgroup.join("cpu.stat")).unwrap();
    text.lines().next().unwrap().strip_prefix("usage_usec ").unwrap().parse().unwrap()
}

fn taken(collector: &mut dyn Collector) -> Snapshot {
    let mut snapshot = Snapshot::default();
    collector.snapshot(&mut snapshot).unwrap();
    snapshot
}

fn containers(snapshot: &Snapshot) -> Vec<&Sample> {
    snapshot.samples.iter().filter(|sample| sample.identity.container.is_some()).collect()
}

#[test]
fn the_walk_says_what_the_files_say() {
    let tree = tree();
    let pod = tree.pod(1).unwrap();
    let container = Tree::container(&pod, 7).unwrap();
    let inner = container.join("init.scope");
    fs::create_dir(&inner).unwrap();
    burn(&inner);
    let mut walk = walk_of(&tree);
    let snapshot = taken(&mut walk);
    assert_eq!(
        snapshot.samples.len(),
        2,
        "the pod and its container; what is inside belongs to the container"
    );
    for sample in &snapshot.samples {
        let path = if sample.identity.container.is_some() { &container } else { &pod };
        let cpu_ns = sample.cpu_ns.unwrap();
        assert_eq!(cpu_ns / 1000, usage_usec(path));
        assert!(cpu_ns > 0);
        let current = fs::read_to_string(path.join("memory.current")).ok();
        assert_eq!(
            sample.memory.map(|memory| memory.usage_pages * page_size()),
            current.map(|text| text.trim().parse().unwrap()),
        );
    }
    assert!(walk.records().len() >= 4, "kubepods, the class, the pod, the container");
    assert!(snapshot.node.cpu_ns > Some(0));
}

/// A flush that waits for its lock must not move the instant of what the walk reads after it.
#[test]
fn the_instant_is_the_middle_of_the_walk_without_the_flush() {
    let tree = tree();
    Tree::container(&tree.pod(1).unwrap(), 1).unwrap();
    let mut walk = walk_of(&tree);
    let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap();
    let mut flushes = Vec::new();
    // By how much the instant is later than the beginning, the flush and half of the walk.
    let mut later = Vec::new();
    for _ in 0..201 {
        let before = waggle_agent::collect::clocks().0.0;
        let (instant, _) = walk.walk().unwrap();
        let Costs { flush, walk, .. } = walk.costs();
        assert!(flush > Duration::ZERO && walk > Duration::ZERO);
        flushes.push(nanos(flush));
        later.push(i64::try_from(instant.0 - before).unwrap() - nanos(flush) - nanos(walk) / 2);
    }
    flushes.sort_unstable();
    later.sort_unstable();
    let (flush, later) = (flushes[flushes.len() / 2], later[later.len() / 2]);
    // In the middle of both it would be earlier by half of the flush.
    assert!(later >= -flush / 4, "{later} ns after the middle of the walk, the flush takes {flush} ns");
    assert!(later <= flush + 100_000, "{later} ns after the middle of the walk, the flush takes {flush} ns");
}

#[test]
fn pods_that_come_and_go_are_followed() {
    let tree = tree();
    let mut walk = walk_of(&tree);
    assert!(taken(&mut walk).samples.is_empty());
    let pod = tree.pod(1).unwrap();
    let container = Tree::container(&pod, 1).unwrap();
    let first = taken(&mut walk);
    assert_eq!(containers(&first).len(), 1);
    fs::remove_dir(&container).unwrap();
    let container = Tree::container(&pod, 1).unwrap();
    let second = taken(&mut walk);
    assert_eq!(containers(&second).len(), 1);
    assert_ne!(containers(&first)[0].cgroup, containers(&second)[0].cgroup, "a restart is a new id");
    fs::remove_dir(&container).unwrap();
    fs::remove_dir(&pod).unwrap();
    assert!(taken(&mut walk).samples.is_empty());
}

#[test]
fn without_any_capability_the_walk_goes_on_even_from_a_new_kubepods() {
    let tree = tree();
    Tree::container(&tree.pod(1).unwrap(), 1).unwrap();
    let mut walk = walk_of(&tree);
    std::thread::scope(|scope| {
        // Capabilities are a thread's own, so this one can do without.
        let (replace, replaced) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
        let powerless = scope.spawn(move || {
            privilege::drop_all().unwrap();
            let status = fs::read_to_string("/proc/thread-self/status").unwrap();
            for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
                assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{set} in {status}");
            }
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
            assert_eq!(containers(&taken(&mut walk)).len(), 1);
            replace.0.send(()).unwrap();
            replaced.1.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(containers(&taken(&mut walk)).len(), 2, "the walk starts at the new kubepods");
        });
        replace.1.recv_timeout(Duration::from_secs(10)).unwrap();
        common::remove(&tree.kubepods()).unwrap();
        tree.make_kubepods().unwrap();
        let pod = tree.pod(1).unwrap();
        Tree::container(&pod, 1).unwrap();
        Tree::container(&pod, 2).unwrap();
        replaced.0.send(()).unwrap();
        powerless.join().unwrap();
    });
}

#[test]
fn without_capabilities_the_program_is_refused_by_name_and_files_are_read() {
    let tree = tree();
    Tree::container(&tree.pod(1).unwrap(), 1).unwrap();
    let options = Options { cgroup_root: tree.root.clone(), preference: Preference::Auto };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            privilege::drop_all().unwrap();
            let mut collector = choose(&options).unwrap();
            assert_eq!(collector.name(), "cgroupfs");
            let refusal = &collector.refusals()[0];
            assert!(matches!(refusal.reason, Reason::MapRefused | Reason::LoadRefused), "{refusal}");
            assert!(refusal.detail.contains("CAP_BPF and CAP_PERFMON are missing"), "{refusal}");
            assert_eq!(containers(&taken(collector.as_mut())).len(), 1);
            let only = Options { preference: Preference::Bpf, ..options.clone() };
            assert!(choose(&only).is_err(), "bpf or nothing");
        });
    });
}

#[test]
fn a_chosen_walk_has_proved_itself() {
    let tree = tree();
    let container = Tree::container(&tree.pod(1).unwrap(), 1).unwrap();
    burn(&container);
    let options = Options { cgroup_root: tree.root.clone(), preference: Preference::Auto };
    let mut collector = choose(&options).unwrap();
    assert_eq!(collector.fields(), Fields::NONE, "nothing is proven before the first snapshot");
    assert!(taken(collector.as_mut()).samples.len() == 2);
    assert_eq!((collector.name(), collector.refusals()), ("bpf", &[][..]));
    assert!(collector.fields().contains(Field::Cpu), "the container has used CPU");
}

/// Keeps the text of all events.
#[derive(Clone, Default)]
struct Messages(Arc<Mutex<Vec<String>>>);

impl<S: tracing::Subscriber> Layer<S> for Messages {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if field.name() == "message" {
                    self.0 = format!("{value:?}");
                }
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().push(text.0);
    }
}

#[test]
fn a_tree_that_does_not_fit_is_never_published_and_the_program_says_so() {
    let tree = tree();
    let messages = Messages::default();
    let _logged = tracing::subscriber::set_default(tracing_subscriber::registry().with(messages.clone()));
    let pod = tree.pod(1).unwrap();
    // Twice the three cgroups there are, one slot of them the header.
    let mut walk = BpfWalk::open(&tree.root, 1).unwrap();
    for container in 0..2 {
        Tree::container(&pod, container).unwrap();
    }
    assert_eq!(containers(&taken(&mut walk)).len(), 2, "the array is full to the last slot");
    Tree::container(&pod, 2).unwrap();
    Tree::container(&pod, 3).unwrap();
    let error = walk.snapshot(&mut Snapshot::default()).unwrap_err();
    assert!(matches!(error, CollectError::Truncated { slots: 6, needed: 8 }), "{error}");
    let said = messages.0.lock().clone();
    assert!(said.iter().any(|text| text.contains("too small for the cgroup tree: 2 cgroups")), "{said:?}");
}

/// A workload with a writable cgroupfs must not be able to fill the array or to force listings, whatever its class:
/// containers of a Guaranteed pod are a level higher than others.
#[test]
fn cgroups_below_a_container_take_no_slots_in_any_class() {
    let tree = tree();
    let burstable = Tree::container(&tree.pod(1).unwrap(), 1).unwrap();
    let pod = tree.kubepods().join("kubepods-pod00000002_1c2d_4e5f_8a9b_0c1d2e3f4a5b.slice");
    fs::create_dir(&pod).unwrap();
    let guaranteed = Tree::container(&pod, 2).unwrap();
    let mut walk = walk_of(&tree);
    assert_eq!(containers(&taken(&mut walk)).len(), 2);
    let before = walk.records().len();
    for container in [burstable, guaranteed] {
        for inner in 0..20 {
            fs::create_dir_all(container.join(format!("inner-{inner}/deeper"))).unwrap();
        }
    }
    assert_eq!(containers(&taken(&mut walk)).len(), 2);
    assert_eq!(walk.records().len(), before);
    assert_eq!(walk.costs().unlisted, 0);
}

/// The kubelet may make the classes again while the agent runs.
#[test]
fn pods_of_a_class_that_was_made_again_are_in_the_next_snapshot() {
    let tree = tree();
    Tree::container(&tree.pod(1).unwrap(), 1).unwrap();
    let mut walk = walk_of(&tree);
    assert_eq!(containers(&taken(&mut walk)).len(), 1);
    common::remove(&tree.burstable()).unwrap();
    tree.make_class().unwrap();
    let pod = tree.pod(2).unwrap();
    Tree::container(&pod, 2).unwrap();
    Tree::container(&pod, 3).unwrap();
    let snapshot = taken(&mut walk);
    assert_eq!(containers(&snapshot).len(), 2);
    assert!(snapshot.samples.iter().all(|sample| !sample.late), "they did not exist at the snapshot before");
}

/// After a change of the cgroup driver pods run in both trees until the node is drained.
#[test]
fn both_kubepods_of_a_node_are_walked() {
    let tree = tree();
    Tree::container(&tree.pod(1).unwrap(), 1).unwrap();
    let pod = tree.root.join("kubepods/podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b");
    fs::create_dir_all(pod.join("b".repeat(64))).unwrap();
    let mut walk = walk_of(&tree);
    let snapshot = taken(&mut walk);
    assert_eq!(containers(&snapshot).len(), 2);
    assert!(snapshot.samples.is_sorted_by_key(|sample| sample.cgroup));
}
