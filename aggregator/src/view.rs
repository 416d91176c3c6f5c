//! What is served: per node the newest complete entries, made from ring and inventory. Readers take one immutable
//! [`NodeView`] per node and never wait for a writer.

mod join;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

pub use join::Join;
use parking_lot::RwLock;

use crate::units::{Bytes, NanoCores, RealTime};

/// CPU and memory of one node or container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// CPU rate over the entry's window.
    pub cpu: NanoCores,
    /// Working set at the entry's instant.
    pub memory: Bytes,
    /// Swap at the entry's instant; `None` without swap accounting.
    pub swap: Option<Bytes>,
}

/// When the numbers of an entry were measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// Instant of the newest sample used.
    pub timestamp: RealTime,
    /// True distance between the two samples of the CPU rate; never zero.
    pub window: Duration,
    /// The same instant on this process's clock: what `--max-age` is measured against.
    pub seen: Instant,
}

/// A node's entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEntry {
    /// When.
    pub measured: Measured,
    /// What.
    pub usage: Usage,
}

/// A pod's entry: always complete, every container of the expected set that it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodEntry {
    /// When: the earliest of its containers.
    pub measured: Measured,
    /// In serving order (see [`crate::inventory::Pod::containers`]); never empty.
    pub containers: Vec<(Box<str>, Usage)>,
}

/// All entries of one node at one generation.
#[derive(Debug, Clone, Default)]
pub struct NodeView {
    /// The node's own entry.
    pub node: Option<NodeEntry>,
    /// Entries by `metadata.uid` of the pod.
    pub pods: HashMap<Box<str>, Arc<PodEntry>>,
}

/// The views of all nodes. Cheap to clone: clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Views {
    nodes: Arc<RwLock<HashMap<Arc<str>, Arc<NodeView>>>>,
}

impl Views {
    /// The newest view of a node. Entries older than the maximum age may still be in it: the reader compares
    /// [`Measured::seen`] with the age that it allows.
    pub fn node(&self, name: &str) -> Option<Arc<NodeView>> {
        self.nodes.read().get(name).cloned()
    }

    /// Publishes a node's view.
    pub fn publish(&self, node: Arc<str>, view: NodeView) {
        let view = Arc::new(view);
        self.nodes.write().insert(node, view);
    }

    /// Forgets a node.
    pub fn remove(&self, node: &str) {
        self.nodes.write().remove(node);
    }
}
