//! Messages of a well-behaved agent on node n1, for tests that change them.

use waggle_agent::collect;
use waggle_proto::ingest::{
    Clock, Container, Hello, NodeTotals, PodTotals, Snapshot, agent_message::Message,
};

use crate::world::{SECOND, uid};

pub fn hello() -> Message {
    let (boot, real) = collect::clocks();
    Message::Hello(Hello {
        protocol: 1,
        boot_id: "0".repeat(36),
        agent_version: "test".into(),
        collector: "cgroupfs".into(),
        refusals: vec![],
        clock: Some(Clock { boot_ns: boot.0, realtime_ns: real.0 }),
        page_size: 4096,
    })
}

/// A good first snapshot of the workload on n1.
pub fn snapshot() -> Snapshot {
    let (boot, real) = collect::clocks();
    Snapshot {
        clock: Some(Clock { boot_ns: boot.0, realtime_ns: real.0 }),
        node: Some(NodeTotals { cpu_ns: SECOND, working_set_bytes: 1 << 30, swap_bytes: None }),
        introduced: vec![Container {
            handle: 1,
            cgroup_id: 77,
            pod_uid: uid("n1"),
            container_id: vec![1; 32].into(),
            absent_boot_ns: boot.0 - SECOND / 10,
        }],
        cpu_ns: vec![1000],
        working_set_pages: vec![5],
        ..Snapshot::default()
    }
}

/// Totals of the workload's pod on n1.
pub fn totals(cgroup_id: u64) -> PodTotals {
    PodTotals { pod_uid: uid("n1"), cgroup_id, cpu_ns: SECOND, working_set_pages: 9, swap_pages: None }
}

/// The next snapshot of the same containers: none used CPU time and their memory is what it was.
pub fn unchanged(containers: usize) -> Snapshot {
    Snapshot {
        introduced: vec![],
        cpu_ns: vec![0; containers],
        working_set_pages: vec![0; containers],
        ..snapshot()
    }
}
