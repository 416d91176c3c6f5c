use std::{sync::Arc, time::Duration};

use prost::Message;

use super::{Encoder, LocalRing};
use crate::{
    collect::{BootTime, CgroupId, Memory, NodeTotals, RealTime, Sample, Snapshot},
    identify::{ContainerId, Identity, PodUid},
};

const SECOND: u64 = 1_000_000_000;
const PACE: Duration = Duration::from_secs(1);

fn sample(cgroup: u64, cpu_ns: u64) -> Sample {
    let container = Some(ContainerId::from_bytes([u8::try_from(cgroup % 251).unwrap(); 32]));
    Sample {
        cgroup: CgroupId(cgroup),
        identity: Arc::new(Identity { pod: PodUid::from("0123456789abcdef0123456789abcdef"), container }),
        cpu_ns: Some(cpu_ns),
        late: false,
        memory: Some(Memory { usage_pages: 10_000 + cpu_ns % 97, inactive_file_pages: 10, swap_pages: None }),
    }
}

fn push(ring: &mut LocalRing, second: u64, samples: Vec<Sample>) {
    let boot = BootTime(second * SECOND);
    assert!(ring.push(&Snapshot { boot, real: RealTime(boot.0), samples, ..Snapshot::default() }));
}

fn newest(ring: &LocalRing) -> super::Frame {
    let last = |last: BootTime| ring.next(last, BootTime(u64::MAX), PACE);
    let mut frame = last(BootTime(0)).unwrap();
    while let Some(next) = last(frame.boot) {
        frame = next;
    }
    frame.clone()
}

#[test]
fn a_container_has_the_newest_snapshot_without_it() {
    let mut ring = LocalRing::default();
    push(&mut ring, 1, vec![sample(1, 5)]);
    push(&mut ring, 2, vec![sample(1, 5)]);
    push(&mut ring, 3, vec![sample(1, 5), sample(2, 7)]);
    assert_eq!(ring.history(CgroupId(1)).unwrap().absent, None, "it was in the first snapshot");
    assert_eq!(ring.history(CgroupId(2)).unwrap().absent, Some(BootTime(2 * SECOND)));
    push(&mut ring, 4, vec![sample(1, 5), sample(2, 6)]);
    assert_eq!(ring.history(CgroupId(2)).unwrap().absent, None, "its counter went back");
}

/// A cgroup that was seen before, or may have been, was not absent at the previous snapshot.
#[test]
fn a_container_that_was_only_unreadable_was_not_absent() {
    let unreadable = || Sample { cpu_ns: None, memory: None, ..sample(2, 0) };
    let mut ring = LocalRing::default();
    push(&mut ring, 1, vec![]);
    push(&mut ring, 2, vec![unreadable()]);
    push(&mut ring, 3, vec![sample(2, 9)]);
    assert_eq!(ring.history(CgroupId(2)).unwrap().absent, Some(BootTime(SECOND)), "not at the second one");
    push(&mut ring, 4, vec![sample(2, 9), Sample { late: true, ..sample(3, 9) }]);
    assert_eq!(ring.history(CgroupId(3)).unwrap().absent, None);
}

#[test]
fn the_ring_covers_a_minute_in_fixed_memory() {
    let mut ring = LocalRing::default();
    for second in 1..=200 {
        push(&mut ring, second, vec![sample(1, second)]);
    }
    let mut seen = Vec::new();
    let mut last = BootTime(0);
    while let Some(frame) = ring.next(last, BootTime(u64::MAX), PACE) {
        seen.push(frame.boot.0 / SECOND);
        last = frame.boot;
    }
    assert!(seen.len() <= 32 && seen[0] <= 142 && *seen.last().unwrap() == 200, "{seen:?}");
    assert!(seen.windows(2).all(|two| two[1] - two[0] <= 2), "{seen:?}");
}

#[test]
fn a_stream_that_lags_gets_frames_at_its_pace() {
    let mut ring = LocalRing::default();
    for second in 1..=20 {
        push(&mut ring, second, vec![sample(1, second)]);
    }
    let opened = BootTime(SECOND);
    let at = |last: u64, pace| {
        ring.next(BootTime(last * SECOND), opened, Duration::from_secs(pace)).map(|f| f.boot.0 / SECOND)
    };
    assert_eq!(at(19, 1), Some(20));
    assert_eq!(at(20, 1), None);
    assert_eq!(at(19, 5), None);
    assert!(at(5, 5).unwrap() >= 9);
}

#[test]
fn handles_come_and_go_and_columns_are_differences() {
    let (mut ring, mut encoder) = (LocalRing::default(), Encoder::default());
    let mut next = |ring: &mut LocalRing, second, samples| {
        push(ring, second, samples);
        encoder.encode(&newest(ring), ring, false)
    };
    let first = next(&mut ring, 1, vec![sample(1, 100), sample(3, 300)]);
    assert_eq!(
        first.introduced.iter().map(|c| (c.handle, c.cgroup_id)).collect::<Vec<_>>(),
        [(1, 1), (2, 3)]
    );
    assert_eq!(first.cpu_ns, [100, 300]);
    // A lower cgroup id than the others: columns stay in the order of handles.
    let second = next(&mut ring, 2, vec![sample(1, 110), sample(2, 7), sample(3, 300)]);
    assert_eq!((second.introduced.len(), second.introduced[0].absent_boot_ns), (1, SECOND));
    assert_eq!((second.cpu_ns, second.retired.len()), (vec![10, 0, 7], 0));
    let third = next(&mut ring, 3, vec![sample(2, 8), sample(3, 299)]);
    assert_eq!(third.retired, [1, 2], "one is gone, the other's counter went back");
    assert_eq!((third.introduced[0].handle, third.introduced[0].absent_boot_ns), (4, 0));
    assert_eq!(third.cpu_ns, [1, 299]);
}

#[test]
fn a_steady_snapshot_needs_at_most_ten_bytes_per_container() {
    let (mut ring, mut encoder) = (LocalRing::default(), Encoder::default());
    let samples = |second: u64| {
        // Half of them nearly idle, the others at a quarter of a core.
        (1..=400).map(|n| sample(n, second * if n % 2 == 0 { SECOND / 4 + n } else { 40_000 + n })).collect()
    };
    push(&mut ring, 1, samples(1));
    encoder.encode(&newest(&ring), &ring, false);
    push(&mut ring, 2, samples(2));
    let steady = encoder.encode(&newest(&ring), &ring, false);
    assert_eq!((steady.cpu_ns.len(), steady.introduced.len()), (400, 0));
    let per_container = steady.encoded_len() as f64 / 400.0;
    println!("{per_container} bytes per container");
    assert!(per_container <= 10.0, "{per_container} bytes per container");
}

#[test]
fn swap_is_reported_where_the_node_has_swap() {
    let swapped = |swap_pages: u64| {
        let mut sample = sample(1, 5);
        sample.memory = sample.memory.map(|memory| Memory { swap_pages: Some(swap_pages), ..memory });
        sample
    };
    let (mut ring, mut encoder) = (LocalRing::default(), Encoder::default());
    let mut message = |second: u64, node: Option<u64>, samples: Vec<Sample>| {
        let boot = BootTime(second * SECOND);
        let node = NodeTotals { cpu_ns: Some(1), working_set_bytes: Some(1), swap_bytes: node };
        assert!(ring.push(&Snapshot { boot, real: RealTime(boot.0), node, samples }));
        let message = encoder.encode(&newest(&ring), &ring, false);
        (message.node.unwrap().swap_bytes, message.swap_pages)
    };
    assert_eq!(message(1, None, vec![swapped(0)]), (None, vec![]), "a node without swap costs nothing");
    assert_eq!(message(2, Some(0), vec![swapped(0)]), (Some(0), vec![0]), "swapon");
    assert_eq!(message(3, Some(9 << 12), vec![swapped(7)]), (Some(9 << 12), vec![7]));
    assert_eq!(message(4, None, vec![swapped(0)]), (None, vec![]), "swapoff");
    assert_eq!(
        message(5, Some(4 << 12), vec![swapped(4)]),
        (Some(4 << 12), vec![-3]),
        "to the last one sent"
    );
    assert_eq!(
        message(6, Some(4 << 12), vec![swapped(4), sample(2, 5)]),
        (Some(4 << 12), vec![]),
        "not of all"
    );
}

const OTHER: &str = "fedcba98-7654-3210-fedc-ba9876543210";

fn pod_sample(cgroup: u64, pod: &str, cpu_ns: u64) -> Sample {
    let identity = Arc::new(Identity { pod: PodUid::from(pod), container: None });
    Sample { identity, ..sample(cgroup, cpu_ns) }
}

fn of_pod(pod: &str, mut sample: Sample) -> Sample {
    let identity = Identity { pod: PodUid::from(pod), container: sample.identity.container };
    sample.identity = Arc::new(identity);
    sample
}

/// A container that gVisor runs: the cgroup exists and counts nothing.
fn unmeasured(sample: Sample) -> Sample {
    Sample { cpu_ns: Some(0), memory: Some(Memory::default()), ..sample }
}

#[test]
fn pods_with_a_container_that_is_not_measured_have_their_totals_beside_the_columns() {
    const POD: &str = "0123456789abcdef0123456789abcdef";
    let (mut ring, mut encoder) = (LocalRing::default(), Encoder::default());
    let mut totals = |second: u64, samples: Vec<Sample>| {
        push(&mut ring, second, samples);
        let message = encoder.encode(&newest(&ring), &ring, false);
        let pods = message.unmeasured_pods.iter().map(|pod| (pod.cgroup_id, pod.cpu_ns)).collect::<Vec<_>>();
        (message.cpu_ns.len(), pods)
    };
    let measured =
        || vec![sample(1, 5), pod_sample(10, POD, 7), of_pod(OTHER, sample(2, 5)), pod_sample(20, OTHER, 9)];
    assert_eq!(totals(1, measured()), (2, vec![]));
    let mut one = measured();
    one.push(unmeasured(of_pod(OTHER, sample(3, 5))));
    assert_eq!(totals(2, one), (2, vec![(20, 9)]), "one container of two is not measured");
    let mut without_memory = measured();
    without_memory[0].memory = None;
    assert_eq!(totals(3, without_memory), (1, vec![(10, 7)]), "no memory controller");
    let kata = vec![sample(1, 5), pod_sample(10, POD, 7), pod_sample(20, OTHER, 9)];
    assert_eq!(totals(4, kata), (1, vec![(20, 9)]), "no container cgroup");
    let silent = vec![unmeasured(sample(1, 5)), unmeasured(pod_sample(10, POD, 7))];
    assert_eq!(totals(5, silent), (0, vec![]), "the pod itself is not measured either");
    assert_eq!(totals(6, measured()), (2, vec![]), "all are measured again");
}

#[test]
fn totals_of_a_pod_are_absolute_and_have_swap_where_the_node_has() {
    let mut ring = LocalRing::default();
    let mut pod = pod_sample(20, OTHER, 9);
    pod.memory = Some(Memory { usage_pages: 1000, inactive_file_pages: 400, swap_pages: Some(3) });
    let totals = |ring: &LocalRing| {
        let message = Encoder::default().encode(&newest(ring), ring, false);
        let [pod] = &message.unmeasured_pods[..] else { panic!("{message:?}") };
        (pod.pod_uid.clone(), pod.cpu_ns, pod.working_set_pages, pod.swap_pages)
    };
    for (second, swap_bytes, swap_pages) in [(1, None, None), (2, Some(1 << 20), Some(3))] {
        let node = NodeTotals { swap_bytes, ..NodeTotals::default() };
        let boot = BootTime(second * SECOND);
        let samples = vec![pod.clone()];
        assert!(ring.push(&Snapshot { boot, real: RealTime(boot.0), node, samples }));
        assert_eq!(totals(&ring), (OTHER.to_owned(), 9, 600, swap_pages));
    }
}
