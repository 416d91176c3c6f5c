//! The table of `metrics-api.md`, section 6, row by row.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Join, NodeView, PodEntry};
use crate::{
    inventory::{Container, Indexed, Inventory, Labels, Node, Pod},
    ring::{Key, Moment, Reading, Shard, Totals},
    units::{BootId, BootTime, Bytes, CgroupId, ContainerId, NanoCores, RealTime},
};

const SECOND: u64 = 1_000_000_000;
const PAGE: u64 = 4096;

/// One node: its shard, its pods, and what is served.
struct World {
    shard: Shard,
    node: Option<Node>,
    inventory: Inventory,
    view: NodeView,
    start: Instant,
}

fn id(n: u8) -> ContainerId {
    ContainerId([n; 32])
}

fn container(name: &str, n: u8) -> Container {
    Container { name: name.into(), id: Some(id(n)), running: true }
}

fn pod(uid: &str, containers: Vec<Container>) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: uid.into(),
        uid: uid.into(),
        static_uid: None,
        labels: Labels::new(),
        node: "n1".into(),
        service_account: "default".into(),
        running: true,
        terminating: false,
        containers,
        indexed: Indexed::default(),
    }
}

/// A sample: pod UID, container, cgroup, the second of the newest walk without it, CPU ns.
type Sampled<'a> = (&'a str, u8, u64, Option<u64>, u64);

impl World {
    fn new(pods: Vec<Pod>) -> Self {
        let node = Node {
            name: "n1".into(),
            uid: "node-uid".into(),
            labels: Labels::new(),
            cpu_capacity: NanoCores(2 * SECOND),
            memory_capacity: Bytes(1 << 30),
            pod_capacity: 110,
        };
        let inventory = Inventory::default();
        for pod in pods {
            inventory.apply_pod(pod);
        }
        Self {
            shard: Shard::new(Duration::from_secs(15)),
            node: Some(node),
            inventory,
            view: NodeView::default(),
            start: Instant::now(),
        }
    }

    fn sample(&mut self, second: u64, samples: &[Sampled<'_>]) {
        self.sample_at(second, second, Some((second * SECOND, 1000)), samples);
    }

    fn sample_at(&mut self, second: u64, real: u64, node: Option<(u64, u64)>, samples: &[Sampled<'_>]) {
        let seen = self.start + Duration::from_secs(second);
        let moment = Moment { boot: BootTime(second * SECOND), real: RealTime(real * SECOND), seen };
        let keys: Vec<_> = samples
            .iter()
            .map(|(pod, n, cgroup, absent, cpu)| {
                let absent = absent.map(|second| BootTime(second * SECOND));
                let key = Key { cgroup: CgroupId(*cgroup), pod: (*pod).into(), container: id(*n), absent };
                (Arc::new(key), *cpu)
            })
            .collect();
        let readings = keys.iter().map(|(key, cpu_ns)| Reading {
            key,
            cpu_ns: *cpu_ns,
            working_set_pages: 3,
            swap_pages: None,
        });
        let totals =
            node.map(|(cpu_ns, working_set_bytes)| Totals { cpu_ns, working_set_bytes, swap_bytes: None });
        self.shard.apply(moment, totals, readings).unwrap();
        self.rebuild();
    }

    fn rebuild(&mut self) {
        let join = Join::new(&self.shard, PAGE, self.node.as_ref(), &self.inventory.pods_on("n1"));
        self.view = join.view(&self.shard, &self.view);
    }

    fn set(&mut self, pod: Pod) {
        self.inventory.apply_pod(pod);
        self.rebuild();
    }

    fn entry(&self, uid: &str) -> Option<PodEntry<'_>> {
        self.view.pods.iter().find(|entry| &**entry.uid == uid)
    }

    /// `name=nanocores` of each container, then stamp and window in seconds.
    fn served(&self, uid: &str) -> Option<(String, u64, u64)> {
        let entry = self.entry(uid)?;
        let text: Vec<_> = entry.containers().map(|(n, usage)| format!("{n}={}", usage.cpu.0)).collect();
        Some((text.join(" "), entry.measured.timestamp.0 / SECOND, entry.measured.window.as_secs()))
    }
}

#[allow(clippy::unnecessary_wraps, reason = "it is compared with what is served, which may be nothing")]
fn is(text: &str, stamp: u64, window: u64) -> Option<(String, u64, u64)> {
    Some((text.to_owned(), stamp, window))
}

#[test]
fn a_pod_just_started_is_served_after_its_first_walk() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[]);
    assert_eq!(world.served("a"), None);
    world.sample(11, &[("a", 1, 100, Some(10), 500)]);
    assert_eq!(world.served("a"), is("web=500", 11, 1));
    assert_eq!(world.entry("a").unwrap().usages[0].memory, Bytes(3 * PAGE));
}

#[test]
fn at_agent_start_two_walks_are_needed() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, None, 500)]);
    assert_eq!(world.served("a"), None);
    world.sample(11, &[("a", 1, 100, None, 700)]);
    assert_eq!(world.served("a"), is("web=200", 11, 1));
}

#[test]
fn a_container_without_a_sample_holds_the_pod() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1), container("log", 2)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 5), ("a", 2, 101, Some(9), 6)]);
    let complete = is("web=5 log=6", 10, 1);
    assert_eq!(world.served("a"), complete);
    world.sample(11, &[("a", 1, 100, Some(9), 50)]);
    assert_eq!(world.served("a"), complete);
    world.sample(12, &[("a", 1, 100, Some(9), 95), ("a", 2, 101, Some(9), 96)]);
    assert_eq!(world.served("a"), is("web=31 log=32", 12, 3));
}

#[test]
fn a_counter_that_went_back_holds_the_pod() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 500)]);
    world.sample(11, &[("a", 1, 100, Some(9), 400)]);
    assert_eq!(world.served("a"), is("web=500", 10, 1));
    world.sample(12, &[("a", 1, 100, Some(9), 401)]);
    assert_eq!(world.served("a"), is("web=1", 12, 1));
}

#[test]
fn a_restarted_container_is_held_until_status_and_sample_have_the_new_id() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 500)]);
    let old = is("web=500", 10, 1);
    // The new cgroup is sampled, the status still has the old id.
    world.sample(11, &[("a", 2, 200, Some(10), 70)]);
    assert_eq!(world.served("a"), old);
    world.set(pod("a", vec![container("web", 2)]));
    assert_eq!(world.served("a"), is("web=70", 11, 1));
    // The other order: the status first.
    world.set(pod("a", vec![container("web", 3)]));
    assert_eq!(world.served("a"), is("web=70", 11, 1));
    world.sample(12, &[("a", 3, 300, Some(11), 90)]);
    assert_eq!(world.served("a"), is("web=90", 12, 1));
}

#[test]
fn a_terminated_container_leaves_when_the_status_says_so() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1), container("log", 2)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 5), ("a", 2, 101, Some(9), 6)]);
    world.sample(11, &[("a", 1, 100, Some(9), 10)]);
    assert_eq!(world.served("a"), is("web=5 log=6", 10, 1));
    let waiting = Container { running: false, ..container("log", 2) };
    world.set(pod("a", vec![container("web", 1), waiting.clone()]));
    assert_eq!(world.served("a"), is("web=5", 11, 2));
    // Also from a held entry: the status decides, whatever data is missing.
    world.set(pod("b", vec![container("web", 5), container("log", 6)]));
    world.sample(12, &[("b", 5, 105, Some(11), 1), ("b", 6, 106, Some(11), 2)]);
    world.sample(13, &[]);
    assert_eq!(world.served("b"), is("web=1 log=2", 12, 1));
    world.set(pod("b", vec![container("web", 5), waiting]));
    assert_eq!(world.served("b"), is("web=1", 12, 1));
}

#[test]
fn a_pod_that_is_deleted_is_held_while_something_of_it_runs() {
    let both = || vec![container("web", 1), container("log", 2)];
    let mut world = World::new(vec![pod("a", both()), pod("b", vec![container("web", 3)])]);
    let b = ("b", 3, 102, Some(9), 7);
    world.sample(10, &[("a", 1, 100, Some(9), 5), ("a", 2, 101, Some(9), 6), b]);
    for name in ["a", "b"] {
        let containers = world.inventory.pod("shop", name).unwrap().containers.clone();
        world.set(Pod { terminating: true, ..pod(name, containers) });
    }
    // Its containers may be given a while to end: until then it is served like any other, also while its agent is silent.
    world.sample(11, &[("a", 1, 100, Some(9), 10), ("a", 2, 101, Some(9), 10), b]);
    assert_eq!(world.served("a"), is("web=5 log=5", 11, 2));
    world.rebuild();
    world.sample(12, &[("a", 1, 100, Some(9), 15), b]);
    assert_eq!(world.served("a"), is("web=5 log=5", 11, 2));
    // The status still says that they run: nothing of it is left to have a value.
    world.sample(13, &[b]);
    assert_eq!(world.served("a"), None);
    assert_eq!(world.served("b"), is("web=1", 13, 4));
    // Its agent was started again: what runs has no rate yet, and is held.
    world.sample(14, &[("b", 3, 103, None, 7)]);
    assert_eq!(world.served("b"), is("web=1", 13, 4));
    // Its node was started again, and nobody has looked yet.
    assert!(world.shard.begin(&BootId::parse(&"0".repeat(36)).unwrap()));
    world.rebuild();
    assert_eq!(world.served("b"), is("web=1", 13, 4));
    world.sample(15, &[]);
    assert_eq!(world.served("b"), None);
}

#[test]
fn a_pod_whose_containers_all_wait_is_absent() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 5)]);
    world.set(pod("a", vec![Container { running: false, ..container("web", 1) }]));
    assert_eq!(world.served("a"), None);
}

#[test]
fn zero_is_a_value() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1), container("log", 2)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 0), ("a", 2, 101, Some(9), 6)]);
    assert_eq!(world.served("a"), is("web=0 log=6", 10, 1));
}

#[test]
fn a_missing_node_reading_holds_the_node_and_not_its_pods() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 5)]);
    assert_eq!(world.view.node, None);
    world.sample(11, &[("a", 1, 100, Some(9), 9)]);
    let held = world.view.node.clone().unwrap();
    assert_eq!((held.usage.cpu, held.usage.memory), (NanoCores(SECOND), Bytes(1000)));
    for (second, reading) in [(12, None), (13, Some((0, 0)))] {
        world.sample_at(second, second, reading, &[("a", 1, 100, Some(9), 9)]);
        assert_eq!(world.view.node.as_ref(), Some(&held));
        assert_eq!(world.served("a").unwrap().1, second);
    }
}

#[test]
fn silence_keeps_the_stamp_and_the_age() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 5)]);
    let entry = world.entry("a").unwrap().to_owned();
    world.rebuild();
    assert_eq!(world.entry("a"), Some(entry.entry()));
    assert_eq!(entry.entry().measured.seen, world.start + Duration::from_secs(10));
}

#[test]
fn the_uid_decides_and_a_namesake_gets_nothing() {
    let mut namesake = pod("b", vec![container("web", 1)]);
    namesake.name = "a".into();
    let mut world = World::new(vec![namesake]);
    world.sample(10, &[("a", 1, 100, Some(9), 5)]);
    assert_eq!(world.view.pods.len(), 0);
}

#[test]
fn a_pod_that_is_not_running_is_absent() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 5)]);
    assert!(world.served("a").is_some());
    world.set(Pod { running: false, ..pod("a", vec![container("web", 1)]) });
    assert_eq!(world.served("a"), None);
}

#[test]
fn an_ephemeral_container_is_held_for_and_then_complete() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 5)]);
    world.set(pod("a", vec![container("web", 1), container("debug", 2)]));
    assert_eq!(world.served("a"), is("web=5", 10, 1));
    world.sample(11, &[("a", 1, 100, Some(9), 6), ("a", 2, 101, Some(10), 7)]);
    assert_eq!(world.served("a"), is("web=3 debug=7", 11, 1));
}

#[test]
fn a_static_pod_is_joined_by_its_hash_but_never_over_a_uid() {
    let hash = "0123456789abcdef0123456789abcdef";
    let mirror = Pod { static_uid: Some(hash.into()), ..pod("mirror", vec![container("etcd", 1)]) };
    let mut world = World::new(vec![mirror]);
    world.sample(10, &[(hash, 1, 100, Some(9), 5)]);
    assert_eq!(world.served("mirror"), is("etcd=5", 10, 1));
    // An annotation that names another pod's UID takes nothing from it.
    let thief = Pod { static_uid: Some("victim".into()), ..pod("thief", vec![container("web", 2)]) };
    world.set(thief);
    world.set(pod("victim", vec![container("web", 2)]));
    world.sample(11, &[("victim", 2, 200, Some(10), 7)]);
    assert_eq!(world.served("victim"), is("web=7", 11, 1));
    assert_eq!(world.served("thief"), None);
}

#[test]
fn the_pause_container_is_never_a_container() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 9, 99, Some(9), 5), ("a", 1, 100, Some(9), 5)]);
    assert_eq!(world.served("a"), is("web=5", 10, 1));
}

#[test]
fn deletion_takes_entries_at_once() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(10, &[("a", 1, 100, Some(9), 5)]);
    world.sample(11, &[("a", 1, 100, Some(9), 5)]);
    world.node = None;
    world.rebuild();
    assert!(world.view.node.is_none() && world.view.pods.len() == 1);
    world.inventory.delete_pod("shop", "a", "a");
    world.rebuild();
    assert_eq!(world.view.pods.len(), 0);
}

#[test]
fn the_pods_window_is_its_shortest() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1), container("log", 2)])]);
    world.sample(10, &[("a", 1, 100, None, 0)]);
    world.sample(14, &[("a", 1, 100, None, 8), ("a", 2, 101, Some(13), 3)]);
    assert_eq!(world.served("a"), is("web=2 log=3", 14, 1));
}

#[test]
fn a_timestamp_does_not_go_back_with_a_clock_while_values_go_on() {
    let mut world = World::new(vec![pod("a", vec![container("web", 1)])]);
    world.sample(1010, &[("a", 1, 100, Some(1009), 5)]);
    world.sample(1011, &[("a", 1, 100, Some(1009), 7)]);
    let mut step = |second: u64, real: u64, cpu_ns: u64| {
        world.sample_at(second, real, Some((second * SECOND, 1)), &[("a", 1, 100, Some(1009), cpu_ns)]);
        let node = world.view.node.clone().unwrap();
        let seen = (node.measured.seen - world.start).as_secs();
        (world.served("a").unwrap(), node.measured.timestamp.0 / SECOND, seen)
    };
    let is = |text: &str, stamp, window| (text.to_owned(), stamp, window);
    assert_eq!(step(1012, 952, 12), (is("web=4", 1011, 3), 1011, 1012), "a minute back");
    assert_eq!(step(1013, 953, 16), (is("web=4", 1011, 4), 1011, 1013));
    assert_eq!(step(1014, 1012, 20), (is("web=4", 1012, 5), 1012, 1014), "its time has come again");
    assert_eq!(step(1015, 711, 24), (is("web=4", 711, 6), 711, 1015), "the clock was wrong before");
}
