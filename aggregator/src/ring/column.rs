//! The samples of one container, beside the instants that the shard keeps once for all of them.

use std::sync::Arc;

use super::{SLOTS, Slot, bounds::Check};
use crate::units::{BootTime, CgroupId, ContainerId};

/// Whose counters they are: fixed for the life of a cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// The pod's UID as the cgroup path has it.
    pub pod: Box<str>,
    /// The container's id.
    pub container: ContainerId,
    /// The agent's newest walk without the cgroup: its CPU counter was zero then. `None` where no such walk is known.
    pub absent: Option<BootTime>,
}

/// The counters of one container at one instant.
#[derive(Debug, Clone, Copy)]
pub struct Reading<'a> {
    /// Whose.
    pub key: &'a Arc<Key>,
    /// CPU time since the cgroup was made, ns.
    pub cpu_ns: u64,
    /// Working set in pages.
    pub working_set_pages: u32,
    /// Swap in pages; `None` without swap accounting.
    pub swap_pages: Option<u32>,
}

/// The samples of one container.
#[derive(Debug)]
pub struct Column {
    key: Arc<Key>,
    /// Sequence number of its first sample: the column has one for each slot from there to the newest. Memory is
    /// served as of the newest sample, so only CPU time needs the past.
    first: u64,
    /// Whether the key's `absent` still is a base: not after the counter started again.
    intact: bool,
    swap_pages: Option<u32>,
    newest_cpu_ns: u64,
    working_set_pages: Option<u32>,
    cpu_ns: [u64; SLOTS],
}

impl Column {
    pub(super) fn new(slot: Slot, reading: &Reading<'_>, check: &mut Check) -> Self {
        let key = Arc::clone(reading.key);
        let believed = |absent| check.cpu_since(&key, absent, reading.cpu_ns);
        let intact = key.absent.is_none_or(believed);
        let mut column = Self {
            key,
            first: slot.sequence,
            intact,
            swap_pages: None,
            newest_cpu_ns: 0,
            working_set_pages: None,
            cpu_ns: [0; SLOTS],
        };
        column.store(slot, reading, check);
        column
    }

    /// Stores the reading in the newest slot. A counter that went back, or ahead by more than is believed, discards all
    /// before it.
    pub(super) fn push(&mut self, slot: Slot, reading: &Reading<'_>, check: &mut Check) {
        let used = reading.cpu_ns.checked_sub(self.newest_cpu_ns);
        if !used.is_some_and(|used_ns| check.cpu(Some(&self.key), used_ns)) {
            self.first = slot.sequence;
            self.intact = false;
        }
        self.store(slot, reading, check);
    }

    fn store(&mut self, slot: Slot, reading: &Reading<'_>, check: &mut Check) {
        self.newest_cpu_ns = reading.cpu_ns;
        self.swap_pages = reading.swap_pages;
        self.working_set_pages = check.pages(&self.key, reading.working_set_pages);
        *slot.of_mut(&mut self.cpu_ns) = reading.cpu_ns;
    }

    /// Whose samples.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Working set at the newest sample, pages; `None` if it exceeds its bound.
    pub fn working_set_pages(&self) -> Option<u32> {
        self.working_set_pages
    }

    /// Swap at the newest sample, pages.
    pub fn swap_pages(&self) -> Option<u32> {
        self.swap_pages
    }

    pub(super) fn newest_cpu_ns(&self) -> u64 {
        self.newest_cpu_ns
    }

    pub(super) fn cpu_ns(&self, slot: &Slot) -> u64 {
        *slot.of(&self.cpu_ns)
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn absent(&self) -> Option<BootTime> {
        self.key.absent.filter(|_| self.intact)
    }
}
