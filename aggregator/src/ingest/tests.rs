//! Whatever a message says: the decoder never panics, and what it refuses never reaches the ring.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes as Octets;
use proptest::prelude::*;
use waggle_proto::ingest::{Clock, Collector, Container, NodeTotals, PodTotals, Snapshot};

use super::{Capacity, Decoder, Ownership};
use crate::{
    ring::{Moment, Shard},
    units::{BootTime, Bytes, NanoCores},
};

const SECOND: u64 = 1_000_000_000;

fn capacity() -> Capacity {
    Capacity { cpu: NanoCores(2 * SECOND), memory: Bytes(1 << 30), containers: 64, pods: 4 }
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
    decoder.decode(&self::message(10, vec![container(1)], vec![5]), &capacity()).unwrap();
    decoder.decode(message, &capacity()).err().map(|fault| fault.reason())
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
    assert_eq!(change(&|m| m.cpu_ns[0] = 5 * SECOND), Some("implausible-cpu"));
    assert_eq!(change(&|m| m.working_set_pages[1] = 1 << 18), None);
    assert_eq!(change(&|m| m.working_set_pages[1] = (1 << 18) + 1), Some("implausible-memory"));
    let node = NodeTotals { cpu_ns: 0, working_set_bytes: (1 << 30) + 1, swap_bytes: None };
    assert_eq!(change(&|m| m.node = Some(node)), Some("implausible-memory"));
    assert_eq!(change(&|m| m.introduced = (2..80).map(container).collect()), Some("too-many-containers"));
    assert_eq!(
        change(&|m| (m.replay, m.clock.as_mut().unwrap().boot_ns) = (true, 1001 * SECOND)),
        Some("malformed")
    );
}

#[test]
fn totals_of_pods_are_held_to_what_the_node_has() {
    let after = |pods: Vec<PodTotals>| {
        let mut decoder = decoder();
        let message = Snapshot { unmeasured_pods: pods, ..message(10, vec![container(1)], vec![5]) };
        let outcome = decoder.decode(&message, &capacity()).map_err(|fault| fault.reason());
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
    let memory = |working_set_pages| after(vec![PodTotals { working_set_pages, ..pod(1) }]);
    assert_eq!((memory(1 << 18), memory((1 << 18) + 1)), (Ok(1), Err("implausible-memory")));
    // Two cores for the ten seconds since boot, a tenth and the slack more.
    let cpu = |cpu_ns| after(vec![PodTotals { cpu_ns, ..pod(1) }]);
    assert_eq!((cpu(24 * SECOND), cpu(24 * SECOND + 2)), (Ok(1), Err("implausible-cpu")));
}

#[test]
fn totals_are_those_of_the_newest_message() {
    let mut decoder = decoder();
    let mut next = |second, pods: Vec<PodTotals>| {
        let message = Snapshot { unmeasured_pods: pods, ..message(second, vec![], vec![]) };
        decoder.decode(&message, &capacity()).unwrap();
        decoder.unmeasured_pods().iter().map(|pod| (pod.cgroup.0, pod.cpu_ns)).collect::<Vec<_>>()
    };
    assert_eq!(next(10, vec![pod(1), pod(2)]), [(1, SECOND), (2, SECOND)]);
    assert_eq!(next(11, vec![pod(2)]), [(2, SECOND)]);
    assert_eq!(next(12, vec![]), []);
}

#[test]
fn a_container_since_its_absence_may_use_what_the_node_has() {
    let mut fresh = container(2);
    fresh.absent_boot_ns = 10 * SECOND;
    let used = |cpu_ns| reason(&message(11, vec![fresh.clone()], vec![0, cpu_ns]));
    assert_eq!(used(2 * SECOND), None);
    assert_eq!(used(5 * SECOND), Some("implausible-cpu"));
}

/// The node has two cores.
#[test]
fn time_that_is_accounted_late_is_believed_but_not_for_ever() {
    let after = |claims: &[u64]| {
        let mut decoder = decoder();
        let mut boot = 10;
        decoder.decode(&message(boot, vec![container(1)], vec![0]), &capacity()).unwrap();
        for (at, milliseconds) in claims.iter().enumerate() {
            boot += 1;
            let message = message(boot, vec![], vec![milliseconds * 1_000_000]);
            if let Err(fault) = decoder.decode(&message, &capacity()) {
                return Some((at, fault.reason()));
            }
        }
        None
    };
    assert_eq!(after(&[2000, 3000, 1000, 2000]), None, "half a second that was read early");
    assert_eq!(after(&[2000, 500, 3500, 2000]), None, "a second that was accounted late");
    assert_eq!(after(&[0, 0, 0, 0, 4200]), None, "no more than the slack is kept from a time at rest");
    assert_eq!(after(&[0, 0, 0, 0, 4300]), Some((4, "implausible-cpu")));
    assert_eq!(after(&[2200; 100]), None, "the tenth more");
    assert_eq!(
        after(&[2400; 100]),
        Some((10, "implausible-cpu")),
        "a fifth more, until the slack is used up"
    );
}

#[test]
fn the_nodes_own_counter_is_held_to_the_same() {
    let after = |claims: &[u64]| {
        let mut decoder = decoder();
        let mut cpu_ns = 0;
        let said = claims.iter().enumerate().map(|(at, milliseconds)| {
            cpu_ns += milliseconds * 1_000_000;
            let node = Some(NodeTotals { cpu_ns, working_set_bytes: 0, swap_bytes: None });
            decoder.decode(&Snapshot { node, ..message(10 + at as u64, vec![], vec![]) }, &capacity())
        });
        said.map(|outcome| outcome.err().map(|fault| fault.reason())).collect::<Vec<_>>()
    };
    assert_eq!(after(&[0, 2000, 3500, 500]), [None; 4]);
    assert_eq!(after(&[0, 2000, 4300]), [None, None, Some("implausible-cpu")]);
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
            let Ok(decoded) = decoder.decode(message, &capacity()) else {
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
    let capacity = Capacity { containers: 1000, ..capacity() };
    let first = message(1, (1..=400).map(container).collect(), vec![0; 400]);
    let steady: Vec<_> = (2..202).map(|second| message(second, vec![], vec![123_456; 400])).collect();
    let mut take = |message: &Snapshot| {
        let taken = decoder.decode(message, &capacity).unwrap();
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

#[test]
fn what_all_containers_claim_together_is_limited_too() {
    // Two cores and 1 GiB: three containers that are plausible one by one.
    let begun = || {
        let mut decoder = decoder();
        let all = (1..=3).map(container).collect();
        decoder.decode(&message(10, all, vec![5, 5, 5]), &capacity()).unwrap();
        decoder
    };
    let say = |cpu_ns: Vec<u64>, pages: i64| {
        let change = Snapshot { working_set_pages: vec![pages; 3], ..message(20, vec![], cpu_ns) };
        begun().decode(&change, &capacity()).err().map(|fault| fault.reason())
    };
    assert_eq!(say(vec![7 * SECOND; 3], 0), None, "21 s of 20 s, within the tenth that is believed");
    assert_eq!(say(vec![9 * SECOND; 3], 0), Some("implausible-cpu"));
    assert_eq!(say(vec![5; 3], 90_000), None, "just over 1 GiB, within the tenth");
    assert_eq!(say(vec![5; 3], 100_000), Some("implausible-memory"));

    // Introduced ones used their time since they were absent, which may be long before the last message.
    let mut late = vec![container(4), container(5)];
    for one in &mut late {
        one.absent_boot_ns = 5 * SECOND;
    }
    let introduce = |cpu: u64| {
        let change = message(20, late.clone(), vec![5, 5, 5, cpu, cpu]);
        begun().decode(&change, &capacity()).err().map(|fault| fault.reason())
    };
    assert_eq!(introduce(15 * SECOND), None);
    assert_eq!(introduce(20 * SECOND), Some("implausible-cpu"));
}
