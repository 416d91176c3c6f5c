//! The types that the `iter/cgroup` program and the agent share. No policy, no I/O; builds for every target.
//!
//! The records array's slot 0 holds a [`Header`], every other slot a [`Record`]. Both are [`SLOT_BYTES`] long and have
//! no padding, so either side can copy a slot as plain words.
#![no_std]
#![deny(missing_docs)]

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 64;

/// Name of the array map of records.
pub const RECORDS_MAP: &str = "WAGGLE_RECORDS";

/// Name of the array map whose one entry is a [`Classes`].
pub const CLASSES_MAP: &str = "WAGGLE_CLASSES";

/// Name of the program.
pub const PROGRAM_NAME: &str = "waggle_cgroups";

/// Name of the program's global of type [`Layout`].
pub const LAYOUT_GLOBAL: &str = "LAYOUT";

/// Slot 0: the state of the walk in progress and the last one published.
///
/// A walk is published by [`Header::session`] and [`Header::count`], written at its very end and only if every cgroup
/// found a slot. A reader that finds another session than before its walk may read slots `1..=count`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Session of the latest walk, published or not.
    pub running_session: u64,
    /// Session of the latest published walk.
    pub session: u64,
    /// Records of the latest walk so far.
    pub running: u32,
    /// Records of the latest published walk, in slots `1..=count`.
    pub count: u32,
    /// Level of the walk's first cgroup in the hierarchy.
    pub start_level: u32,
    /// Level of pods in the subtree of the walk's first cgroup that is being visited.
    pub pod_level: u32,
    /// Records of the latest walk with a group that could not be read.
    pub faulted: u64,
    /// Cgroups of the latest walk for which there was no slot.
    pub dropped: u64,
    /// Zero.
    pub spare: [u64; 2],
}

/// Slots 1 and up: the counters of one cgroup, descendants included. Memory is in pages.
///
/// Counters come in groups ([`group`]). A group that is not in [`Record::valid`] was not read, and its fields are
/// meaningless: absent is not zero.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// The cgroup's id: the inode number of its directory. 0 if it could not be read.
    pub id: u64,
    /// [`group::CPU`]: CPU time in ns as of the last flush.
    pub cpu_ns: u64,
    /// [`group::USAGE`]: pages charged now.
    pub usage: u64,
    /// [`group::INACTIVE_FILE`]: pages on the inactive file list as of the last memory flush; may be negative. Not
    /// valid with more than [`Layout::most_updates`] updates pending.
    pub inactive_file: i64,
    /// [`group::SWAP`]: swap entries charged now.
    pub swap: u64,
    /// Level in the hierarchy, 0 at its root.
    pub level: u32,
    /// Groups that were read.
    pub valid: u32,
    /// Groups that the cgroup has but that could not be read.
    pub faulted: u32,
    /// Zero.
    pub spare: u32,
    /// Zero.
    pub reserved: u64,
}

/// Bits of [`Record::valid`], [`Record::faulted`] and [`Layout::groups`]. A group is resolved, read and trusted as a
/// whole, and independently of the others.
pub mod group {
    /// CPU time. Every cgroup has it.
    pub const CPU: u32 = 1;
    /// `memory.current`, where the cgroup has a memory controller with files.
    pub const USAGE: u32 = 1 << 1;
    /// `inactive_file` of `memory.stat`, likewise.
    pub const INACTIVE_FILE: u32 = 1 << 2;
    /// `memory.swap.current`, likewise.
    pub const SWAP: u32 = 1 << 3;
    /// Those that need the memory controller.
    pub const MEMORY: u32 = USAGE | INACTIVE_FILE | SWAP;
}

/// Ids of the quality-of-service cgroups directly below the start of a walk: pods are one level below these, and
/// directly below the start otherwise. 0 matches no cgroup.
///
/// The program visits pods and their children and nothing deeper: what is below belongs to a container, and a workload
/// that may create cgroups must not be able to fill the array.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Classes {
    /// The ids.
    pub ids: [u64; 2],
}

/// Where the fields lie in the running kernel, and which groups to read. The agent resolves it from BTF and sets it
/// before the program is loaded, so the verifier sees constants and drops the branches of unused groups.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// Bits of [`group`].
    pub groups: u32,
    /// `cgroup.kn`.
    pub cgroup_kn: u32,
    /// `cgroup.level`.
    pub cgroup_level: u32,
    /// `cgroup.bstat.cputime.sum_exec_runtime`.
    pub cgroup_cpu: u32,
    /// `cgroup.subsys[memory_cgrp_id]`.
    pub cgroup_memory_css: u32,
    /// `cgroup_subsys_state.flags`.
    pub css_flags: u32,
    /// `kernfs_node.id`.
    pub kernfs_node_id: u32,
    /// `mem_cgroup.memory.usage`.
    pub mem_cgroup_usage: u32,
    /// `mem_cgroup.swap.usage`.
    pub mem_cgroup_swap: u32,
    /// `mem_cgroup.vmstats`.
    pub mem_cgroup_vmstats: u32,
    /// Not 0: `mem_cgroup.vmstats` is a pointer.
    pub vmstats_is_pointer: u32,
    /// `memcg_vmstats.state[NR_INACTIVE_FILE]`.
    pub vmstats_inactive_file: u32,
    /// `memcg_vmstats.stats_updates`: updates since the last memory flush. 0: not read.
    pub vmstats_updates: u32,
    /// The kernel's flush threshold: with more updates pending, a reader of `memory.stat` flushes.
    pub most_updates: u32,
}

/// Words of a [`Layout`].
pub const LAYOUT_WORDS: usize = size_of::<Layout>() / size_of::<u32>();

impl Layout {
    /// The fields in order, as the program's global holds them.
    pub const fn words(self) -> [u32; LAYOUT_WORDS] {
        let Self {
            groups,
            cgroup_kn,
            cgroup_level,
            cgroup_cpu,
            cgroup_memory_css,
            css_flags,
            kernfs_node_id,
            mem_cgroup_usage,
            mem_cgroup_swap,
            mem_cgroup_vmstats,
            vmstats_is_pointer,
            vmstats_inactive_file,
            vmstats_updates,
            most_updates,
        } = self;
        [
            groups,
            cgroup_kn,
            cgroup_level,
            cgroup_cpu,
            cgroup_memory_css,
            css_flags,
            kernfs_node_id,
            mem_cgroup_usage,
            mem_cgroup_swap,
            mem_cgroup_vmstats,
            vmstats_is_pointer,
            vmstats_inactive_file,
            vmstats_updates,
            most_updates,
        ]
    }
}

const _: () = assert!(size_of::<Header>() == SLOT_BYTES && size_of::<Record>() == SLOT_BYTES);
