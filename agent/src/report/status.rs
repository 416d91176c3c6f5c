//! What takes the agent's snapshots, for the aggregators' metrics: set by the sampling thread, read by every stream.

use std::sync::Arc;

use parking_lot::Mutex;

/// The collector in use and why a better one is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Collector {
    /// `bpf` or `cgroupfs`.
    pub(super) name: String,
    /// Reasons, as in metric labels.
    pub(super) refusals: Vec<String>,
}

/// The newest status. A reader compares pointers to see whether it changed, so that a snapshot without a change costs
/// no allocation.
#[derive(Debug)]
pub(super) struct Status(Mutex<Arc<Collector>>);

impl Status {
    pub(super) fn new(collector: Collector) -> Self {
        Self(Mutex::new(Arc::new(collector)))
    }

    /// Replaces the status. An equal one keeps its pointer: no stream sends it again.
    pub(super) fn set(&self, collector: Collector) {
        let mut current = self.0.lock();
        if **current != collector {
            *current = Arc::new(collector);
        }
    }

    pub(super) fn get(&self) -> Arc<Collector> {
        Arc::clone(&self.0.lock())
    }
}
