use super::super::btf::Btf;
use super::super::btf::sample::Blob;
use waggle_agent_ebpf::Layout;

use super::Offsets;
use crate::collect::{Field, Fields, Reason, Refusal};

/// How `mem_cgroup.vmstats` is laid out.
#[derive(Clone, Copy)]
enum Stats {
    Array,
    Embedded,
    Pointer,
    PointerToDeclared,
}

/// What differs between kernels. The numbers are those of Debian's builds.
#[derive(Clone, Copy)]
struct Shape {
    iterator: bool,
    flush: &'static str,
    cpu: u32,
    kn: u32,
    kn_id: u32,
    kn_parent: &'static str,
    subsys: u32,
    usage: u32,
    vmstats: u32,
    stats: Stats,
    swap: Option<u32>,
    inactive_file: i32,
    flags: u32,
}

const V5_10: Shape = Shape {
    iterator: false,
    flush: "cgroup_rstat_flush",
    cpu: 792,
    kn: 248,
    kn_id: 104,
    kn_parent: "parent",
    subsys: 376,
    usage: 208,
    vmstats: 1152,
    stats: Stats::Array,
    swap: Some(320),
    inactive_file: 2,
    flags: 84,
};
const V6_1: Shape = Shape {
    iterator: true,
    cpu: 984,
    subsys: 544,
    usage: 256,
    vmstats: 1472,
    stats: Stats::Pointer,
    swap: Some(448),
    ..V5_10
};
const V6_12: Shape =
    Shape { cpu: 1080, kn: 256, kn_id: 96, subsys: 552, vmstats: 1136, swap: Some(512), ..V6_1 };
const V6_18: Shape = Shape {
    cpu: 1008,
    kn_parent: "__parent",
    flush: "css_rstat_flush",
    vmstats: 1024,
    stats: Stats::PointerToDeclared,
    flags: 76,
    ..V6_12
};
const V7_2: Shape = Shape { cpu: 1136, kn: 296, subsys: 640, vmstats: 1040, swap: Some(448), ..V6_18 };

/// A minimised BTF of such a kernel; `leave_out` renames one name.
fn kernel(shape: Shape, leave_out: &str) -> Vec<u8> {
    let mut blob = Blob::new();
    let name = |name: &'static str| if name == leave_out { "renamed" } else { name };
    let long = blob.int("long", 8);
    let int = blob.int("int", 4);
    let void = blob.pointer(0);
    let atomic = blob.structure("atomic64_t", &[("counter", long, 0)]);
    let time = blob.structure("task_cputime", &[("stime", long, 0), (name("sum_exec_runtime"), long, 16)]);
    let base = blob.structure("cgroup_base_stat", &[("cputime", time, 0)]);
    blob.structure(name("kernfs_node"), &[(shape.kn_parent, void, 8), (name("id"), long, shape.kn_id)]);
    let css = blob.structure(
        "cgroup_subsys_state",
        &[("cgroup", void, 0), ("parent", void, 200), (name("flags"), int, shape.flags)],
    );
    let pointers = blob.array(void, 14);
    blob.forward("cgroup");
    blob.structure(
        "cgroup",
        &[
            ("self", css, 0),
            (name("level"), int, 232),
            (name("kn"), void, shape.kn),
            (name("subsys"), pointers, shape.subsys),
            // `bstat` is where it must be for the CPU counter to lie at `cpu`.
            (name("bstat"), base, shape.cpu - 16),
        ],
    );
    let counter = blob.structure("page_counter", &[("usage", atomic, 0)]);
    let slots = blob.array(long, 40);
    let fields = [("local", slots, 320), (name("state"), slots, 0), (name("stats_updates"), atomic, 960)];
    let stats = match shape.stats {
        Stats::Array => blob.array(atomic, 40),
        Stats::Embedded => blob.structure("memcg_vmstats", &fields),
        Stats::Pointer => {
            let target = blob.structure("memcg_vmstats", &fields);
            blob.pointer(target)
        }
        Stats::PointerToDeclared => {
            let target = blob.forward("memcg_vmstats");
            blob.structure("memcg_vmstats", &fields);
            blob.pointer(target)
        }
    };
    let mut members = vec![
        ("css", css, 0),
        (name("memory"), counter, shape.usage),
        (name("vmstats"), stats, shape.vmstats),
    ];
    if let Some(at) = shape.swap {
        let union = blob.union("", &[("swap", counter, 0), ("memsw", counter, 0)]);
        members.push(("", union, at));
    }
    blob.structure(name("mem_cgroup"), &members);
    blob.enumeration("cgroup_subsys_id", &[("cpu_cgrp_id", 1), (name("memory_cgrp_id"), 4)]);
    blob.enumeration("node_stat_item", &[("NR_LRU_BASE", 0), ("NR_INACTIVE_FILE", shape.inactive_file)]);
    if shape.iterator {
        blob.function("bpf_iter_cgroup");
    }
    blob.function(shape.flush);
    blob.bytes()
}

fn resolve(blob: &[u8]) -> Result<Offsets, Refusal> {
    Offsets::resolve(&Btf::parse(blob).unwrap())
}

#[test]
fn each_kernel_resolves_to_its_own_offsets() {
    for (what, shape) in [("6.1", V6_1), ("6.12", V6_12), ("6.18", V6_18), ("7.2", V7_2)] {
        let offsets = resolve(&kernel(shape, "")).unwrap();
        let expected = Layout {
            groups: Fields::ALL.bits(),
            cgroup_kn: shape.kn,
            cgroup_level: 232,
            cgroup_cpu: shape.cpu,
            cgroup_memory_css: shape.subsys + 32,
            css_flags: shape.flags,
            kernfs_node_id: shape.kn_id,
            mem_cgroup_usage: shape.usage,
            mem_cgroup_swap: shape.swap.unwrap(),
            mem_cgroup_vmstats: shape.vmstats,
            vmstats_is_pointer: 1,
            vmstats_inactive_file: 16,
            vmstats_updates: if shape.flush == V5_10.flush { 0 } else { 960 },
            most_updates: 0,
        };
        assert_eq!((offsets.layout, offsets.missing), (expected, vec![]), "{what}");
    }
}

/// Reading `cpu.stat` flushes memory as well where it ends in `cgroup_rstat_flush`, and only there.
#[test]
fn memory_is_flushed_where_the_cpu_flush_leaves_it_stale() {
    for (what, shape, flush) in [("6.12", V6_12, false), ("6.18", V6_18, true), ("7.2", V7_2, true)] {
        assert_eq!(resolve(&kernel(shape, "")).unwrap().flush_memory, flush, "{what}");
    }
    let unknown = Shape { flush: "some_other_flush", ..V6_12 };
    assert!(resolve(&kernel(unknown, "")).unwrap().flush_memory, "a flush too many harms nothing");
}

#[test]
fn a_kernel_without_the_iterator_is_refused_before_anything_else() {
    assert_eq!(resolve(&kernel(V5_10, "kn")).unwrap_err().reason, Reason::NoCgroupIter);
}

#[test]
fn inline_statistics_are_told_from_a_pointer() {
    for stats in [Stats::Array, Stats::Embedded] {
        let layout = resolve(&kernel(Shape { iterator: true, stats, ..V5_10 }, "")).unwrap().layout;
        assert_eq!(
            (layout.vmstats_is_pointer, layout.mem_cgroup_vmstats, layout.vmstats_inactive_file),
            (0, 1152, 16)
        );
    }
}

/// Nothing then says which cgroups a flush passed by.
#[test]
fn a_kernel_that_does_not_count_changes_costs_no_field() {
    let offsets = resolve(&kernel(V6_18, "stats_updates")).unwrap();
    assert_eq!((offsets.layout.vmstats_updates, offsets.missing), (0, vec![]));
}

#[test]
fn every_missing_field_of_the_core_is_named() {
    for (renamed, reported) in [
        ("kn", "cgroup.kn"),
        ("level", "cgroup.level"),
        ("kernfs_node", "kernfs_node"),
        ("id", "kernfs_node.id"),
    ] {
        let refusal = resolve(&kernel(V6_12, renamed)).unwrap_err();
        assert_eq!(refusal.reason, Reason::FieldMissing(reported), "{renamed}");
    }
}

/// Whatever else is missing costs the fields that need it and nothing more.
#[test]
fn a_missing_field_costs_that_field_alone() {
    let memory = [Field::Usage, Field::InactiveFile, Field::Swap];
    for (renamed, reported, lost) in [
        ("bstat", "cgroup.bstat", &[Field::Cpu][..]),
        ("sum_exec_runtime", "cgroup.bstat", &[Field::Cpu]),
        ("memory", "mem_cgroup.memory.usage", &[Field::Usage]),
        ("vmstats", "mem_cgroup.vmstats", &[Field::InactiveFile]),
        ("state", "memcg_vmstats.state", &[Field::InactiveFile]),
        ("subsys", "cgroup.subsys", &memory),
        ("flags", "cgroup_subsys_state.flags", &memory),
        ("mem_cgroup", "mem_cgroup", &memory),
        ("memory_cgrp_id", "memory_cgrp_id", &memory),
    ] {
        let offsets = resolve(&kernel(V6_12, renamed)).unwrap();
        let found: Vec<_> = offsets.missing.iter().map(|(field, _)| *field).collect();
        assert_eq!(found, lost, "{renamed}");
        for (_, refusal) in &offsets.missing {
            assert_eq!(refusal.reason, Reason::FieldMissing(reported), "{renamed}");
        }
        let left = lost.iter().fold(Fields::ALL, |fields, field| fields.without(*field));
        assert_eq!(offsets.layout.groups, left.bits(), "{renamed}");
    }
}

#[test]
fn the_kernels_own_parent_link_may_be_called_anything() {
    assert!(resolve(&kernel(Shape { kn_parent: "__parent_of_7", ..V7_2 }, "")).is_ok());
}

#[test]
fn missing_swap_costs_only_swap() {
    let offsets = resolve(&kernel(Shape { swap: None, ..V6_12 }, "")).unwrap();
    assert_eq!(offsets.layout.groups, Fields::ALL.without(Field::Swap).bits());
    assert_eq!(offsets.layout.cgroup_cpu, 1080);
}

#[test]
fn an_item_beyond_the_lru_lists_has_no_known_slot() {
    let offsets = resolve(&kernel(Shape { inactive_file: 5, ..V6_12 }, "")).unwrap();
    let [(Field::InactiveFile, refusal)] = &offsets.missing[..] else { panic!("{offsets:?}") };
    assert_eq!(refusal.reason, Reason::FieldMissing("NR_INACTIVE_FILE"));
}

/// Where this machine shows its BTF, the real thing resolves.
#[test]
fn this_machines_kernel_resolves() {
    let Ok(blob) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        println!("SKIPPED: this machine has no /sys/kernel/btf/vmlinux");
        return;
    };
    let started = std::time::Instant::now();
    match resolve(&blob) {
        Ok(offsets) => println!("{offsets:?} in {:?}", started.elapsed()),
        Err(refusal) => assert_eq!(refusal.reason, Reason::NoCgroupIter, "{refusal}"),
    }
}
