use super::super::btf::Btf;
use super::super::btf::sample::Blob;
use super::Offsets;
use crate::collect::{Reason, Refusal};

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
    cpu: u32,
    kn: u32,
    kn_id: u32,
    kn_parent: &'static str,
    subsys: u32,
    usage: u32,
    watermark: u32,
    vmstats: u32,
    stats: Stats,
    swap: Option<u32>,
    inactive_file: i32,
    flags: u32,
}

const V5_10: Shape = Shape {
    iterator: false,
    cpu: 792,
    kn: 248,
    kn_id: 104,
    kn_parent: "parent",
    subsys: 376,
    usage: 208,
    watermark: 304,
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
    watermark: 368,
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
        &[(name("cgroup"), void, 0), (name("parent"), void, 200), (name("flags"), int, shape.flags)],
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
    let counter = blob.structure(
        "page_counter",
        &[("usage", atomic, 0), (name("watermark"), long, shape.watermark - shape.usage)],
    );
    let slots = blob.array(long, 40);
    let fields = [("local", slots, 320), (name("state"), slots, 0)];
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
    blob.bytes()
}

fn resolve(blob: &[u8]) -> Result<Offsets, Refusal> {
    Offsets::resolve(&Btf::parse(blob).unwrap())
}

fn value(offsets: &Offsets, name: &str) -> u32 {
    offsets.globals().iter().find(|(found, _)| *found == name).unwrap().1
}

#[test]
fn each_kernel_resolves_to_its_own_offsets() {
    for (what, shape) in [("6.1", V6_1), ("6.12", V6_12), ("6.18", V6_18), ("7.2", V7_2)] {
        let offsets = resolve(&kernel(shape, "")).unwrap();
        for (name, expected) in [
            ("OFF_CGROUP_CPU", shape.cpu),
            ("OFF_CGROUP_KN", shape.kn),
            ("OFF_CGROUP_LEVEL", 232),
            ("OFF_CGROUP_PARENT_CSS", 200),
            ("OFF_CGROUP_MEMORY_CSS", shape.subsys + 32),
            ("OFF_CSS_FLAGS", shape.flags),
            ("OFF_KN_ID", shape.kn_id),
            ("OFF_MEMCG_USAGE", shape.usage),
            ("OFF_MEMCG_WATERMARK", shape.watermark),
            ("OFF_MEMCG_SWAP", shape.swap.unwrap()),
            ("OFF_MEMCG_VMSTATS", shape.vmstats),
            ("OFF_VMSTATS_INACTIVE_FILE", 16),
            ("VMSTATS_IS_POINTER", 1),
            ("HAS_SWAP", 1),
        ] {
            assert_eq!(value(&offsets, name), expected, "{what}: {name}");
        }
    }
}

#[test]
fn a_kernel_without_the_iterator_is_refused_before_anything_else() {
    assert_eq!(resolve(&kernel(V5_10, "kn")).unwrap_err().reason, Reason::NoCgroupIter);
}

#[test]
fn inline_statistics_are_told_from_a_pointer() {
    for stats in [Stats::Array, Stats::Embedded] {
        let offsets = resolve(&kernel(Shape { iterator: true, stats, ..V5_10 }, "")).unwrap();
        assert_eq!(value(&offsets, "VMSTATS_IS_POINTER"), 0);
        assert_eq!(value(&offsets, "OFF_MEMCG_VMSTATS"), 1152);
        assert_eq!(value(&offsets, "OFF_VMSTATS_INACTIVE_FILE"), 16);
    }
}

#[test]
fn every_missing_field_of_the_core_is_named() {
    for (renamed, reported) in [
        ("kn", "cgroup.kn"),
        ("level", "cgroup.level"),
        ("subsys", "cgroup.subsys"),
        ("bstat", "cgroup.bstat"),
        ("sum_exec_runtime", "cgroup.bstat"),
        ("parent", "cgroup.self.parent"),
        ("cgroup", "cgroup_subsys_state.cgroup"),
        ("flags", "cgroup_subsys_state.flags"),
        ("kernfs_node", "kernfs_node"),
        ("id", "kernfs_node.id"),
        ("mem_cgroup", "mem_cgroup"),
        ("memory", "mem_cgroup.memory.usage"),
        ("watermark", "mem_cgroup.memory.watermark"),
        ("vmstats", "mem_cgroup.vmstats"),
        ("state", "memcg_vmstats.state"),
        ("memory_cgrp_id", "memory_cgrp_id"),
    ] {
        let refusal = resolve(&kernel(V6_12, renamed)).unwrap_err();
        assert_eq!(refusal.reason, Reason::FieldMissing(reported), "{renamed}");
    }
}

#[test]
fn the_kernels_own_parent_link_may_be_called_anything() {
    assert!(resolve(&kernel(Shape { kn_parent: "__parent_of_7", ..V7_2 }, "")).is_ok());
}

#[test]
fn missing_swap_costs_only_swap() {
    let offsets = resolve(&kernel(Shape { swap: None, ..V6_12 }, "")).unwrap();
    assert!(!offsets.has_swap());
    assert_eq!(value(&offsets, "OFF_CGROUP_CPU"), 1080);
}

#[test]
fn an_item_beyond_the_lru_lists_has_no_known_slot() {
    let refusal = resolve(&kernel(Shape { inactive_file: 5, ..V6_12 }, "")).unwrap_err();
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
