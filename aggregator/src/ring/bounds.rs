//! The largest values that are believed, and the check against them. What exceeds its bound is nonsense: it is left
//! out, whatever was reported beside it.

use std::{sync::Arc, time::Duration};

use super::Key;
use crate::units::{BootTime, Bytes, NanoCores};

/// The largest values that a shard stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// CPU time in relation to the span between two samples.
    pub cpu: NanoCores,
    /// CPU time beyond that, whatever the span, ns: samples may follow each other closely.
    pub late_ns: u64,
    /// Working set of a container or of the node.
    pub memory: Bytes,
    /// Unit of the containers' memory, bytes.
    pub page_size: u64,
}

impl Default for Bounds {
    /// Everything is believed.
    fn default() -> Self {
        Self { cpu: NanoCores(u64::MAX), late_ns: u64::MAX, memory: Bytes(u64::MAX), page_size: 1 }
    }
}

impl Bounds {
    fn cpu_ns(&self, span: Duration) -> u64 {
        let in_span = u128::from(self.cpu.0).saturating_mul(span.as_nanos()) / 1_000_000_000;
        u64::try_from(in_span).unwrap_or(u64::MAX).saturating_add(self.late_ns)
    }
}

/// What a value was of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// CPU time since the sample before, ns.
    Cpu,
    /// Working set, bytes.
    Memory,
}

/// A value beyond its bound, both in the unit of the counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImplausibleValue {
    /// Whose; `None` for the node's own.
    pub container: Option<Arc<Key>>,
    /// Of which counter.
    pub counter: Counter,
    /// What was reported.
    pub value: u64,
    /// The most that is believed.
    pub bound: u64,
}

/// The values of one snapshot that were left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Implausible {
    /// Differences of CPU counters.
    pub cpu: u64,
    /// Working sets.
    pub memory: u64,
    /// The first of all.
    pub first: Option<ImplausibleValue>,
}

/// The bounds for one snapshot, and what exceeded them.
#[derive(Debug)]
pub(super) struct Check {
    bounds: Bounds,
    boot: BootTime,
    /// Of CPU time since the snapshot before.
    cpu_ns: u64,
    found: Implausible,
}

impl Check {
    /// For a snapshot at `boot` that follows the one of `last`.
    pub(super) fn new(bounds: Bounds, boot: BootTime, last: Option<BootTime>) -> Self {
        let cpu_ns = last.map_or(u64::MAX, |last| bounds.cpu_ns(boot.since(last)));
        Self { bounds, boot, cpu_ns, found: Implausible::default() }
    }

    /// Whether that much CPU time can have been used since the snapshot before.
    pub(super) fn cpu(&mut self, container: Option<&Arc<Key>>, used_ns: u64) -> bool {
        self.is_within(container, Counter::Cpu, used_ns, self.cpu_ns)
    }

    /// Whether that much CPU time can have been used since the instant at which the container was absent.
    pub(super) fn cpu_since(&mut self, container: &Arc<Key>, absent: BootTime, used_ns: u64) -> bool {
        let bound = self.bounds.cpu_ns(self.boot.since(absent));
        self.is_within(Some(container), Counter::Cpu, used_ns, bound)
    }

    /// The pages, if they are believed.
    pub(super) fn pages(&mut self, container: &Arc<Key>, pages: u32) -> Option<u32> {
        let bytes = u64::from(pages).saturating_mul(self.bounds.page_size);
        self.memory(Some(container), bytes).then_some(pages)
    }

    /// Whether that much memory is believed.
    pub(super) fn memory(&mut self, container: Option<&Arc<Key>>, bytes: u64) -> bool {
        self.is_within(container, Counter::Memory, bytes, self.bounds.memory.0)
    }

    pub(super) fn found(self) -> Implausible {
        self.found
    }

    fn is_within(&mut self, container: Option<&Arc<Key>>, counter: Counter, value: u64, bound: u64) -> bool {
        if value <= bound {
            return true;
        }
        let found = &mut self.found;
        match counter {
            Counter::Cpu => found.cpu += 1,
            Counter::Memory => found.memory += 1,
        }
        let container = || container.map(Arc::clone);
        found.first.get_or_insert_with(|| ImplausibleValue { container: container(), counter, value, bound });
        false
    }
}

#[cfg(test)]
mod tests;
