//! Whatever a message says: the decoder never panics, and what it refuses never reaches the ring.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes as Octets;
use proptest::prelude::*;
use waggle_proto::ingest::{Clock, Collector, Container, NodeTotals, PodTotals, Snapshot};

use super::{Decoder, Limits, Ownership};
use crate::{
    ring::{Moment, Shard},
    units::{BootTime, NanoCores},
};

const SECOND: u64 = 1_000_000_000;

fn limits() -> Limits {
    Limits { containers: 64, pods: 4, ..Limits::of(None) }
}

fn decoder() -> Decoder {
    Decoder::new(4096, BootTime(1000 * SECOND)).unwrap()
}

fn container(handle: u32) -> Container {
    Container {
        handle,
        cgroup_id: u64::from(handle) + 100,
        pod_uid: "0123456789abcdef0123456789abcdef".into(),
        container_id: Octets::from(vec![7; 32]),
        absent_boot_ns: 0,
    }
}

fn message(second: u64, introduced: Vec<Container>, cpu_ns: Vec<u64>) -> Snapshot {
    let pages = cpu_ns.iter().map(|_| 3).collect();
    Snapshot {
        clock: Some(Clock { boot_ns: second * SECOND, realtime_ns: 0 }),
        introduced,
        cpu_ns,
        working_set_pages: pages,
        ..Snapshot::default()
    }
}

fn pod(cgroup_id: u64) -> PodTotals {
    PodTotals {
        pod_uid: "0123456789abcdef0123456789abcdef".into(),
        cgroup_id,
        cpu_ns: SECOND,
        working_set_pages: 3,
        swap_pages: None,
    }
}

fn reason(message: &Snapshot) -> Option<&'static str> {
    let mut decoder = decoder();
    decoder.decode(&self::message(10, vec![container(1)], vec![5]), &limits()).unwrap();
    decoder.decode(message, &limits()).err().map(|fault| fault.reason())
}

#[test]
fn messages_against_the_rules_are_refused() {
    let good = || message(11, vec![container(2)], vec![5, 6]);
    let change = |change: &dyn Fn(&mut Snapshot)| {
        let mut message = good();
        change(&mut message);
        reason(&message)
    };
    assert_eq!(change(&|_| ()), None);
    assert_eq!(change(&|m| m.clock = None), Some("malformed"));
    assert_eq!(
        change(&|m| m.clock = Some(Clock { boot_ns: 10 * SECOND, realtime_ns: 0 })),
        Some("out-of-order")
    );
    assert_eq!(change(&|m| m.retired = vec![9]), Some("malformed"));
    assert_eq!(change(&|m| m.retired = vec![1, 1]), Some("malformed"));
    assert_eq!(change(&|m| m.introduced[0].handle = 1), Some("malformed"));
    assert_eq!(change(&|m| m.introduced[0].cgroup_id = 101), Some("malformed"));
    assert_eq!(change(&|m| m.introduced[0].pod_uid = "../../etc/passwd".into()), Some("malformed"));
    assert_eq!(change(&|m| m.introduced[0].container_id = Octets::from(vec![7; 31])), Some("malformed"));
    assert_eq!(change(&|m| m.introduced[0].absent_boot_ns = 11 * SECOND), Some("malformed"));
    assert_eq!(change(&|m| m.cpu_ns.push(1)), Some("malformed"));
    assert_eq!(change(&|m| m.working_set_pages[0] = -4), Some("malformed"));
    assert_eq!(change(&|m| m.swap_pages = vec![1]), Some("malformed"));
    assert_eq!(change(&|m| m.working_set_pages[1] = i64::from(u32::MAX) + 1), Some("malformed"));
    assert_eq!(change(&|m| m.cpu_ns[0] = u64::MAX), Some("malformed"));
    assert_eq!(change(&|m| m.introduced = (2..80).map(container).collect()), Some("too-many-containers"));
    assert_eq!(
        change(&|m| (m.replay, m.clock.as_mut().unwrap().boot_ns) = (true, 1001 * SECOND)),
        Some("malformed")
    );
}

#[test]
fn totals_of_pods_are_those_of_pods_and_limited() {
    let after = |pods: Vec<PodTotals>| {
        let mut decoder = decoder();
        let message = Snapshot { unmeasured_pods: pods, ..message(10, vec![container(1)], vec![5]) };
        let outcome = decoder.decode(&message, &limits()).map_err(|fault| fault.reason());
        outcome.map(|_| decoder.unmeasured_pods().len())
    };
    assert_eq!(after(vec![]), Ok(0));
    assert_eq!(after((1..=4).map(pod).collect()), Ok(4), "one pod may have several, stale ones among them");
    assert_eq!(after((1..=5).map(pod).collect()), Err("too-many-pods"));
    assert_eq!(after(vec![pod(1), pod(1)]), Err("malformed"));
    assert_eq!(after(vec![pod(101)]), Err("malformed"), "a container's cgroup");
    for uid in ["", "../../etc/passwd", "0123456789abcdef0123456789abcdeg"] {
        assert_eq!(after(vec![PodTotals { pod_uid: uid.into(), ..pod(1) }]), Err("malformed"), "{uid}");
    }
}

#[test]
fn totals_are_those_of_the_newest_message() {
    let mut decoder = decoder();
    let mut next = |second, pods: Vec<PodTotals>| {
        let message = Snapshot { unmeasured_pods: pods, ..message(second, vec![], vec![]) };
        decoder.decode(&message, &limits()).unwrap();
        decoder.unmeasured_pods().iter().map(|pod| pod.cgroup.0).collect::<Vec<_>>()
    };
    assert_eq!(next(10, vec![pod(1), pod(2)]), [1, 2]);
    assert_eq!(next(11, vec![pod(2)]), [2]);
    assert_eq!(next(12, vec![]), [0; 0]);
}

fn arbitrary_message() -> impl Strategy<Value = Snapshot> {
    let small = || prop_oneof![0..4u32, any::<u32>()];
    let introduced =
        (small(), 0..4u64, any::<bool>(), 0..40u64).prop_map(|(handle, cgroup, ok, absent)| Container {
            cgroup_id: cgroup,
            container_id: Octets::from(vec![1; if ok { 32 } else { 3 }]),
            absent_boot_ns: absent * SECOND,
            ..container(handle)
        });
    let clock =
        prop::option::weighted(0.95, (0..40u64).prop_map(|s| Clock { boot_ns: s * SECOND, realtime_ns: 0 }));
    let node = prop::option::of(any::<(u64, u64)>().prop_map(|(cpu_ns, working_set_bytes)| NodeTotals {
        cpu_ns,
        working_set_bytes,
        swap_bytes: None,
    }));
    let cpu = prop_oneof![8 => 0..SECOND, 1 => any::<u64>()];
    let pages = prop_oneof![8 => 0..100i64, 1 => any::<i64>()];
    let pods = (0..4u64, prop_oneof![4 => 0..SECOND, 1 => any::<u64>()], any::<(u32, Option<u32>)>())
        .prop_map(|(cgroup, cpu_ns, (working_set_pages, swap_pages))| PodTotals {
            cpu_ns,
            working_set_pages,
            swap_pages,
            ..pod(cgroup)
        });
    let collector = prop::option::of(
        ("\\PC{0,80}", prop::collection::vec("\\PC{0,80}", 0..4))
            .prop_map(|(name, refusals)| Collector { name, refusals }),
    );
    (
        (clock, node, any::<bool>(), collector),
        prop::collection::vec(small(), 0..2),
        prop::collection::vec(introduced, 0..3),
        prop::collection::vec(cpu, 0..4),
        prop::collection::vec(pages.clone(), 0..4),
        prop::collection::vec(pages, 0..3),
        prop::collection::vec(pods, 0..3),
    )
        .prop_map(
            |(one, retired, introduced, cpu_ns, working_set_pages, swap_pages, unmeasured_pods)| {
                let (clock, node, replay, collector) = one;
                Snapshot {
                    clock,
                    node,
                    retired,
                    introduced,
                    cpu_ns,
                    working_set_pages,
                    swap_pages,
                    replay,
                    collector,
                    unmeasured_pods,
                }
            },
        )
}

fn contents(shard: &Shard) -> String {
    format!("{shard:?}")
}

proptest! {
    #[test]
    fn arbitrary_messages_never_panic_and_refused_ones_change_nothing(
        messages in prop::collection::vec(arbitrary_message(), 1..20)
    ) {
        let (mut decoder, mut shard) = (decoder(), Shard::new(Duration::from_secs(15)));
        let mut stored = contents(&shard);
        for message in &messages {
            let Ok(decoded) = decoder.decode(message, &limits()) else {
                prop_assert_eq!(contents(&shard), stored);
                break;
            };
            decoder.live().iter_mut().for_each(|live| live.ownership = Ownership::Accepted);
            let moment = Moment { boot: decoded.boot, real: decoded.real, seen: Instant::now() };
            shard.apply(moment, decoded.node, decoder.readings(decoded)).unwrap();
            prop_assert_eq!(shard.columns().len(), message.cpu_ns.len());
            stored = contents(&shard);
        }
    }
}

/// Time per snapshot of 400 containers in the steady state; printed by `--nocapture`.
#[test]
fn a_steady_node_of_400_containers_is_taken_without_change_of_composition() {
    let (mut decoder, mut shard) = (decoder(), Shard::new(Duration::from_secs(15)));
    let limits = Limits { containers: 1000, ..limits() };
    let first = message(1, (1..=400).map(container).collect(), vec![0; 400]);
    let steady: Vec<_> = (2..202).map(|second| message(second, vec![], vec![123_456; 400])).collect();
    let mut take = |message: &Snapshot| {
        let taken = decoder.decode(message, &limits).unwrap();
        decoder.live().iter_mut().for_each(|live| live.ownership = Ownership::Accepted);
        let moment = Moment { boot: taken.boot, real: taken.real, seen: Instant::now() };
        shard.apply(moment, taken.node, decoder.readings(taken)).unwrap();
        shard.composition()
    };
    // A page count that grows by 3 each second stays within the node's memory.
    let composition = take(&first);
    let start = Instant::now();
    assert!(steady.iter().all(|message| take(message) == composition));
    println!("decode and apply, 400 containers: {:?} per snapshot", start.elapsed() / 200);
    let rate = shard.rate(&shard.columns()[399]).unwrap();
    assert_eq!((rate.cpu, rate.window), (NanoCores(123_456), Duration::from_secs(15)));
    assert_eq!(Arc::strong_count(&decoder.live()[0].key), 2);
}
