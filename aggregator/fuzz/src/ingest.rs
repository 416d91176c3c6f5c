//! What agents send: any bytes as the messages of a stream, decoded, judged and stored as the agent port does. Beside it
//! a ledger of what the accepted messages add up to.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bytes::Bytes as Octets;
use prost::Message as _;
use waggle_aggregator::{
    ingest::{Decoded, Decoder, Limits, Ownership},
    ring::{Moment, Shard},
    units::{BootId, BootTime, Bytes, NanoCores},
};
use waggle_proto::ingest::{
    AgentMessage, Clock, Collector, Container, Hello, NodeTotals, PodTotals, Snapshot, agent_message::Message,
};

use crate::Target;

const SECOND: u64 = 1_000_000_000;
const BOOT: &str = "5b0c7e0e-0000-4000-8000-000000000001";
const LIMITS: Limits = Limits { cpu: NanoCores(4 * SECOND), memory: Bytes(1 << 32), containers: 16, pods: 3 };
/// 16 times the memory: more is nonsense.
const MOST_BYTES: i128 = 16 << 32;

/// Messages, each after its length in two bytes, least significant first. One that cannot be read, or is refused, ends
/// its stream; what follows comes on a new one.
pub const TARGET: Target = Target {
    name: "ingest",
    run,
    seeds,
    words: &["\u{a}\u{4}", "0123456789abcdef0123456789abcdef", "\u{12}", "\u{1a}", "\u{22}", BOOT],
};

/// The live containers of a stream by handle, added up from its messages.
#[derive(Debug, Default, Clone)]
struct Ledger {
    live: Vec<(u32, u64, i128, i128)>,
}

impl Ledger {
    /// `(cgroup, CPU ns, pages)` after an accepted message.
    fn take(&mut self, message: &Snapshot) {
        self.live.retain(|(handle, ..)| !message.retired.contains(handle));
        self.live.extend(message.introduced.iter().map(|new| (new.handle, new.cgroup_id, 0, 0)));
        for (at, (_, _, cpu, pages)) in self.live.iter_mut().enumerate() {
            *cpu += message.cpu_ns.get(at).map_or(0, |ns| i128::from(*ns));
            *pages += message.working_set_pages.get(at).map_or(0, |pages| i128::from(*pages));
        }
    }
}

fn run(bytes: &[u8]) {
    let mut shard = Shard::new(Duration::from_secs(15));
    let mut stream: Option<(Decoder, Ledger)> = None;
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_at_checked(2) {
        let length = length.iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
        let (message, tail) = tail.split_at(length.min(tail.len()));
        rest = tail;
        stream = match (AgentMessage::decode(message).ok().and_then(|message| message.message), stream) {
            (Some(Message::Hello(hello)), None) => open(&hello, &mut shard),
            (Some(Message::Snapshot(snapshot)), Some(stream)) => take(stream, &snapshot, &mut shard),
            _ => None,
        };
    }
}

fn open(hello: &Hello, shard: &mut Shard) -> Option<(Decoder, Ledger)> {
    let boot = BootId::parse(&hello.boot_id)?;
    let read = BootTime(hello.clock?.boot_ns);
    let mut decoder = Decoder::new(hello.page_size, read).ok()?;
    assert!(hello.page_size >= 4096 && hello.page_size.is_power_of_two(), "{hello:?}");
    shard.begin(&boot);
    shard.bound(LIMITS.bounds(u64::from(hello.page_size)));
    decoder.start_after(shard.newest().map_or(BootTime(0), |newest| newest.boot));
    Some((decoder, Ledger::default()))
}

fn take(
    (mut decoder, mut ledger): (Decoder, Ledger),
    message: &Snapshot,
    shard: &mut Shard,
) -> Option<(Decoder, Ledger)> {
    let before = format!("{shard:?}");
    let Ok(taken) = decoder.decode(message, &LIMITS) else {
        assert_eq!(format!("{shard:?}"), before, "a refused message changed the ring: {message:?}");
        return None;
    };
    for live in decoder.live() {
        live.ownership = Ownership::Accepted;
    }
    let moment = Moment { boot: taken.boot, real: taken.real, seen: Instant::now() };
    let applied = shard.apply(moment, taken.node, decoder.readings(taken));
    assert!(applied.is_ok(), "the decoder let an old message pass: {applied:?}");
    ledger.take(message);
    check(shard, &decoder, taken, &ledger);
    Some((decoder, ledger))
}

fn check(shard: &Shard, decoder: &Decoder, taken: Decoded, ledger: &Ledger) {
    assert_eq!(shard.newest().map(|newest| newest.boot), Some(taken.boot));
    assert!(ledger.live.len() <= LIMITS.containers, "{} containers", ledger.live.len());
    let stored: HashMap<u64, _> =
        shard.columns().iter().map(|column| (column.key().cgroup.0, column)).collect();
    assert_eq!(stored.len(), ledger.live.len(), "a container is missing, or there twice");
    for (_, cgroup, cpu, pages) in &ledger.live {
        let Some(column) = stored.get(cgroup) else { panic!("cgroup {cgroup} is not stored") };
        let believed = Some(*pages).filter(|pages| pages * i128::from(decoder.page_size()) <= MOST_BYTES);
        assert_eq!(column.working_set_pages().map(i128::from), believed, "pages of cgroup {cgroup}");
        if let Some(rate) = shard.rate(column) {
            assert!(!rate.window.is_zero(), "a rate over nothing in cgroup {cgroup}");
            let most = *cpu * i128::from(SECOND);
            assert!(
                i128::from(rate.cpu.0) * i128::try_from(rate.window.as_nanos()).unwrap_or(i128::MAX) <= most,
                "cgroup {cgroup} used more in its window than in its life"
            );
        }
    }
    let pods = decoder.unmeasured_pods();
    assert!(pods.len() <= LIMITS.pods, "totals of {} pods", pods.len());
    for pod in pods {
        assert!(!stored.contains_key(&pod.cgroup.0), "cgroup {} is a pod's and a container's", pod.cgroup.0);
    }
    if let Some((totals, rate)) = shard.node() {
        assert!(!rate.window.is_zero() && i128::from(totals.working_set_bytes) <= MOST_BYTES, "{totals:?}");
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let hello = Message::Hello(Hello {
        protocol: 1,
        boot_id: BOOT.into(),
        clock: Some(Clock { boot_ns: 100 * SECOND, realtime_ns: SECOND }),
        page_size: 4096,
        ..Hello::default()
    });
    let container = |handle: u32| Container {
        handle,
        cgroup_id: u64::from(handle) + 100,
        pod_uid: "0123456789abcdef0123456789abcdef".into(),
        container_id: Octets::from(vec![7; 32]),
        absent_boot_ns: u64::from(handle % 2) * 90 * SECOND,
    };
    let snapshot = |second: u64, introduced: Vec<Container>, retired: Vec<u32>, live: usize| {
        Message::Snapshot(Snapshot {
            clock: Some(Clock { boot_ns: second * SECOND, realtime_ns: second * SECOND }),
            node: Some(NodeTotals { cpu_ns: second * SECOND, working_set_bytes: 1 << 30, swap_bytes: None }),
            introduced,
            retired,
            cpu_ns: vec![SECOND / 4; live],
            working_set_pages: vec![3; live],
            swap_pages: if second.is_multiple_of(2) { vec![1; live] } else { Vec::new() },
            replay: second < 100,
            ..Snapshot::default()
        })
    };
    let unmeasured = |second: u64, pods: u64| {
        let pod = |cgroup_id| PodTotals {
            pod_uid: "0123456789abcdef0123456789abcdef".into(),
            cgroup_id,
            cpu_ns: SECOND,
            working_set_pages: 7,
            swap_pages: Some(1),
        };
        let collector = Collector { name: "cgroupfs".into(), refusals: vec!["no-btf".into()] };
        Message::Snapshot(Snapshot {
            clock: Some(Clock { boot_ns: second * SECOND, realtime_ns: second * SECOND }),
            collector: Some(collector),
            unmeasured_pods: (1..=pods).map(pod).collect(),
            ..Snapshot::default()
        })
    };
    let stream = |messages: &[&Message]| {
        let mut bytes = Vec::new();
        for message in messages {
            let text = AgentMessage { message: Some((*message).clone()) }.encode_to_vec();
            bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
            bytes.extend(text);
        }
        bytes
    };
    let first = snapshot(95, vec![container(1), container(2)], vec![], 2);
    let (second, third) = (snapshot(101, vec![], vec![], 2), snapshot(102, vec![container(5)], vec![1], 2));
    vec![
        stream(&[&hello]),
        stream(&[&hello, &first]),
        stream(&[&hello, &first, &second, &third]),
        stream(&[&hello, &first, &first, &hello, &snapshot(103, vec![container(1)], vec![], 1)]),
        stream(&[&hello, &first, &second, &snapshot(110, vec![], vec![1, 2], 0)]),
        stream(&[&hello, &first, &snapshot(104, (3..16).map(container).collect(), vec![], 15)]),
        stream(&[&hello, &unmeasured(101, 3), &unmeasured(102, 1), &unmeasured(103, 4)]),
    ]
}
