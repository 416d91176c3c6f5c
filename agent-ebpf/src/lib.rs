//! The record layout that the `iter/cgroup` program and the agent share. No policy, no I/O; builds everywhere.
//!
//! The array's slot 0 holds a [`Header`], every other slot a [`Record`]. Both are [`SLOT_BYTES`] long and have no
//! padding, so that either side can copy a slot as plain words.
#![no_std]
#![deny(missing_docs)]

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 64;

/// Name of the array map.
pub const MAP_NAME: &str = "WAGGLE_RECORDS";

/// Name of the program.
pub const PROGRAM_NAME: &str = "waggle_cgroups";

/// Slot 0: the state of the walk under way and the last one published.
///
/// A walk is published by [`Header::session`] and [`Header::count`], written at its very end and only if every cgroup
/// found a slot. So a reader that sees a session other than before its walk may read slots `1..=count`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header {
    /// Session of the walk that wrote last, published or not.
    pub running_session: u64,
    /// Session of the newest published walk.
    pub session: u64,
    /// Records of the walk that wrote last.
    pub running: u32,
    /// Records of the newest published walk, in slots `1..=count`.
    pub count: u32,
    /// Level of the walk's first cgroup in the hierarchy.
    pub start_level: u32,
    /// Not 0: the walk that wrote last did not fit into the array.
    pub truncated: u32,
    /// Records of the walk that wrote last with a failed read.
    pub faulted: u64,
    /// Cgroups of the walk that wrote last for which there was no slot.
    pub dropped: u64,
    /// Zero.
    pub spare: [u64; 2],
}

/// Slots 1 and up: the counters of one cgroup, descendants included. Memory is in pages.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record {
    /// The cgroup's id: the inode number of its directory.
    pub id: u64,
    /// The parent's id; 0 at the root of the hierarchy.
    pub parent: u64,
    /// CPU time in ns as of the last flush.
    pub cpu_ns: u64,
    /// Pages charged now. Meaningful with [`flag::MEMORY`].
    pub usage: u64,
    /// Pages on the inactive file list as of the last memory flush; may be negative. Meaningful with [`flag::MEMORY`].
    pub inactive_file: i64,
    /// Most pages ever charged. Meaningful with [`flag::MEMORY`].
    pub watermark: u64,
    /// Swap entries charged now. Meaningful with [`flag::SWAP`].
    pub swap: u64,
    /// Level in the hierarchy, 0 at its root.
    pub level: u32,
    /// Bits of [`flag`].
    pub flags: u32,
}

/// Bits of [`Record::flags`].
pub mod flag {
    /// The cgroup has a memory controller of its own, with files.
    pub const MEMORY: u32 = 1;
    /// `swap` was read.
    pub const SWAP: u32 = 1 << 1;
    /// A read failed: the record's numbers must not be used.
    pub const FAULT: u32 = 1 << 2;
}

const _: () = assert!(size_of::<Header>() == SLOT_BYTES && size_of::<Record>() == SLOT_BYTES);
