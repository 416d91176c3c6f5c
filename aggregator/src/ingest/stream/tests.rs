//! Streams under clocks that stop, slew and step. All clocks are simulated.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use waggle_proto::ingest::{Clock, Container, Hello, NodeTotals, Snapshot};

use super::{Admitted, IngestState, NodeStream, Now};
use crate::{
    ingest::{Config, Metrics, Review, ReviewError, TokenReviewer},
    inventory::{self, Indexed, Inventory, Labels, Node, Pod, Synced},
    units::{Bytes, ContainerId, NanoCores},
    view::{Measured, Views},
};

const SECOND: u64 = 1_000_000_000;
const UID: &str = "00000001-0000-4000-8000-000000000000";
/// Boot time of the node when the simulation begins.
const UPTIME: u64 = 1000 * SECOND;
/// From a sample to its arrival.
const DELAY: Duration = Duration::from_millis(5);

struct NoReviewer;

impl TokenReviewer for NoReviewer {
    fn review<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Review, ReviewError>> {
        Box::pin(std::future::pending())
    }
}

/// One node with one pod, and an aggregator that it streams to.
struct World {
    state: IngestState,
    views: Views,
    admitted: Admitted,
    /// Both clocks of the aggregator at the beginning.
    start: Now,
    /// What was added to the aggregator's wall clock since, seconds.
    wall_step: i64,
    reported: u64,
}

impl World {
    fn new() -> Self {
        let (inventory, views) = (Inventory::default(), Views::default());
        inventory.apply_node(Node {
            name: "n1".into(),
            uid: "node".into(),
            labels: Labels::new(),
            cpu_capacity: NanoCores(SECOND),
            memory_capacity: Bytes(1 << 30),
            pod_capacity: 110,
        });
        let containers =
            vec![inventory::Container { name: "web".into(), id: Some(ContainerId([1; 32])), running: true }];
        for (name, uid, containers) in [("agent", "agent", vec![]), ("web", UID, containers)] {
            inventory.apply_pod(Pod {
                namespace: "shop".into(),
                name: name.into(),
                uid: uid.into(),
                static_uid: None,
                labels: Labels::new(),
                node: "n1".into(),
                service_account: "default".into(),
                running: true,
                terminating: false,
                containers,
                indexed: Indexed::default(),
            });
        }
        let config = Config {
            window: Duration::from_secs(15),
            interval: Duration::from_secs(1),
            audience: "a".into(),
            namespace: "n".into(),
            service_account: "s".into(),
        };
        let admitted = Admitted {
            pod: inventory.pod("shop", "agent").unwrap(),
            node: inventory.node("n1").unwrap(),
            expires: None,
        };
        let listed = Synced::new(watch::channel(true).1, watch::channel(true).1);
        let (reviewer, metrics) = (Arc::new(NoReviewer), Metrics::default());
        let state = IngestState::new(config, inventory, views.clone(), reviewer, listed, metrics);
        let start = Now { monotonic: Instant::now(), wall: SystemTime::now() };
        Self { state, views, admitted, start, wall_step: 0, reported: 0 }
    }

    /// The aggregator's clocks that long after the beginning.
    fn at(&self, after: Duration) -> Now {
        let wall = self.start.wall + after;
        let step = Duration::from_secs(self.wall_step.unsigned_abs());
        let wall = if self.wall_step < 0 { wall - step } else { wall + step };
        Now { monotonic: self.start.monotonic + after, wall }
    }

    /// A stream whose hello was sent after that time, at `boot_ns`.
    fn open(&mut self, after: Duration, boot_ns: u64) -> NodeStream {
        let hello = Hello {
            protocol: 1,
            boot_id: "0".repeat(36),
            clock: Some(Clock { boot_ns, realtime_ns: 0 }),
            page_size: 4096,
            ..Hello::default()
        };
        self.reported = 0;
        let received = self.at(after + DELAY).monotonic;
        NodeStream::open(&self.state, &self.admitted, &hello, received, received).unwrap().0
    }

    /// A sample taken that long after the beginning, when the node's boot clock said `boot_ns`. Its own wall clock is
    /// right. The container uses a tenth of a core.
    fn report(&mut self, stream: &mut NodeStream, after: Duration, boot_ns: u64) -> Measured {
        let wall = (self.start.wall + after).duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let introduced = Container {
            handle: 1,
            cgroup_id: 7,
            pod_uid: UID.into(),
            container_id: vec![1; 32].into(),
            absent_boot_ns: boot_ns - SECOND,
        };
        let first = self.reported == 0;
        self.reported += 1;
        let message = Snapshot {
            clock: Some(Clock { boot_ns, realtime_ns: u64::try_from(wall.as_nanos()).unwrap() }),
            node: Some(NodeTotals { cpu_ns: boot_ns / 10, working_set_bytes: 9, swap_bytes: None }),
            introduced: if first { vec![introduced] } else { vec![] },
            cpu_ns: vec![SECOND / 10],
            working_set_pages: vec![1],
            ..Snapshot::default()
        };
        stream.take(&message, self.at(after + DELAY)).unwrap();
        self.served()
    }

    fn served(&self) -> Measured {
        *self.views.node("n1").unwrap().pods.iter().next().unwrap().measured
    }

    /// How old a value looks at that time.
    fn age(&self, measured: Measured, after: Duration) -> Duration {
        (self.start.monotonic + after).saturating_duration_since(measured.seen)
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A virtual machine that its hypervisor pauses: its boot clock stands still.
#[test]
fn a_node_that_was_suspended_is_stamped_rightly_a_few_seconds_later() {
    let mut world = World::new();
    let mut stream = world.open(seconds(0), UPTIME);
    for second in 1..=20 {
        world.report(&mut stream, seconds(second), UPTIME + second * SECOND);
    }
    for second in 51..=120 {
        let measured = world.report(&mut stream, seconds(second), UPTIME + (second - 30) * SECOND);
        let age = world.age(measured, seconds(second) + DELAY);
        assert!(second < 55 || age < seconds(1), "{age:?} old at second {second}");
    }
}

/// Its boot clock counts the time asleep.
#[test]
fn a_node_that_slept_is_stamped_rightly_at_once() {
    let mut world = World::new();
    let mut stream = world.open(seconds(0), UPTIME);
    for second in (1..=20).chain(51..=60) {
        let measured = world.report(&mut stream, seconds(second), UPTIME + second * SECOND);
        assert!(world.age(measured, seconds(second) + DELAY) <= DELAY);
    }
}

#[test]
fn a_slewed_clock_is_followed_for_an_hour() {
    for ppm in [-500_i64, 500] {
        let mut world = World::new();
        let mut stream = world.open(seconds(0), UPTIME);
        for second in 1..=3600 {
            let drift = i64::try_from(second * SECOND / 1_000_000).unwrap() * ppm;
            let boot_ns = (UPTIME + second * SECOND).checked_add_signed(drift).unwrap();
            let measured = world.report(&mut stream, seconds(second), boot_ns);
            let age = world.age(measured, seconds(second) + DELAY);
            assert!(age < Duration::from_millis(50), "{age:?} old at second {second}, {ppm} ppm");
        }
    }
}

/// As after a pause whose time is added afterwards.
#[test]
fn a_boot_clock_that_jumps_ahead_is_believed() {
    let mut world = World::new();
    let mut stream = world.open(seconds(0), UPTIME);
    for second in 1..=5 {
        world.report(&mut stream, seconds(second), UPTIME + second * SECOND);
    }
    for second in 6..=10 {
        let measured = world.report(&mut stream, seconds(second), UPTIME + (second + 60) * SECOND);
        assert!(world.age(measured, seconds(second) + DELAY) <= DELAY);
    }
}

#[test]
fn the_aggregators_clock_steps_back_and_values_go_on() {
    let mut world = World::new();
    let mut stream = world.open(seconds(0), UPTIME);
    let (mut stamps, mut nodes) = (Vec::new(), Vec::new());
    for second in 1..=180 {
        if second == 20 {
            world.wall_step = -60;
        }
        let measured = world.report(&mut stream, seconds(second), UPTIME + second * SECOND);
        let age = world.age(measured, seconds(second) + DELAY);
        assert!(age <= DELAY, "{age:?} old at second {second}");
        stamps.push(measured.timestamp);
        nodes.push(world.views.node("n1").unwrap().node.as_ref().map(|node| node.measured.timestamp));
    }
    assert!(stamps.is_sorted() && nodes.is_sorted(), "stamps of one object went back");
    let distinct: BTreeSet<_> = stamps.iter().collect();
    assert!(distinct.len() >= 115, "they stand still for the minute of the step only: {}", distinct.len());
}

/// Whichever agent wrote them: with samples from the future nothing newer would be taken until the node boots.
#[test]
fn samples_from_the_nodes_future_are_discarded_when_it_says_hello() {
    let mut world = World::new();
    let mut stream = world.open(seconds(0), UPTIME);
    world.report(&mut stream, seconds(1), u64::MAX / 2);
    drop(stream);
    let mut stream = world.open(seconds(2), UPTIME + 2 * SECOND);
    let measured = world.report(&mut stream, seconds(3), UPTIME + 3 * SECOND);
    assert!(world.age(measured, seconds(3) + DELAY) <= DELAY);
}
