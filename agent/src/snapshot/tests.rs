use std::sync::Arc;

use super::{rate, report, table};
use crate::collect::{BootTime, CgroupId, Memory, NodeTotals, Sample, Snapshot};
use crate::identify::locate;

fn sample(id: u64, path: &str, cpu_ns: u64) -> Sample {
    let path = path.replace("UID", "d6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b").replace("AAA", &"a".repeat(64));
    Sample {
        cgroup: CgroupId(id),
        identity: Arc::new(locate(&path).unwrap().identity),
        cpu_ns: Some(cpu_ns),
        late: false,
        memory: Some(Memory { usage_pages: 512, inactive_file_pages: 256, swap_pages: Some(0) }),
    }
}

fn at(seconds: u64, cpu_ns: u64) -> Snapshot {
    Snapshot {
        boot: BootTime(seconds * 1_000_000_000),
        node: NodeTotals { cpu_ns: Some(cpu_ns * 10), working_set_bytes: Some(1 << 20), swap_bytes: None },
        // The container's id is the smaller one.
        samples: vec![sample(3, "/kubepods/podUID/AAA", cpu_ns), sample(9, "/kubepods/podUID", cpu_ns)],
        ..Snapshot::default()
    }
}

#[test]
fn a_pod_comes_before_its_containers() {
    let report = report(&at(1, 5), None, 4096);
    let ids: Vec<_> = report.cgroups.iter().map(|cgroup| cgroup.cgroup_id).collect();
    assert_eq!(ids, [9, 3]);
    assert_eq!(report.cgroups[1].memory.as_ref().unwrap().working_set_bytes, 1 << 20);
    assert_eq!(report.cgroups[1].cpu_nanocores, None, "one walk has no rate");
}

#[test]
fn two_walks_have_rates_over_the_time_between_them() {
    let report = report(&at(3, 500_000_000), Some(&at(1, 100_000_000)), 4096);
    assert_eq!(report.cgroups[0].cpu_nanocores, Some(200_000_000));
    assert_eq!(report.node.cpu_nanocores, Some(2_000_000_000));
    assert_eq!(rate(5, 4, 1), None, "a counter that fell has no rate");
    assert_eq!(rate(4, 5, 0), None);
}

#[test]
fn a_container_that_counts_nothing_has_no_values() {
    let mut snapshot = at(1, 0);
    snapshot.samples[0].memory = Some(Memory::default());
    let report = report(&snapshot, None, 4096);
    let container = report.cgroups.iter().find(|cgroup| cgroup.container_id.is_some()).unwrap();
    assert!(container.cpu_ns.is_none() && container.memory.is_none());
    assert!(report.cgroups.iter().any(|cgroup| cgroup.container_id.is_none() && cgroup.memory.is_some()));
}

#[test]
fn the_table_shows_what_the_numbers_are() {
    let mut out = Vec::new();
    table(&report(&at(3, 1_500_000_000), Some(&at(1, 1_000_000_000)), 4096), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let line = text.lines().last().unwrap();
    let cells: Vec<_> = line.split_whitespace().collect();
    assert_eq!(
        cells,
        [
            "d6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b",
            "aaaaaaaaaaaa",
            "1.500",
            "250",
            "1.0",
            "MiB",
            "2.0",
            "MiB",
            "0.0",
            "MiB"
        ]
    );
}
