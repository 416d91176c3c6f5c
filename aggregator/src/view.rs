//! What is served: per node the newest complete entries, made from ring and inventory. Readers take one immutable
//! [`Snapshot`] of all nodes, at the price of one counter, and never wait while a view is made.

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
use tokio::sync::broadcast;

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
    table: Arc<RwLock<Snapshot>>,
    changes: Changes,
}

/// The names of nodes whose views changed.
#[derive(Debug, Clone)]
struct Changes(broadcast::Sender<Arc<str>>);

impl Default for Changes {
    fn default() -> Self {
        Self(broadcast::Sender::new(4096))
    }
}

impl Views {
    /// The newest view of a node. Entries older than the maximum age may still be in it: the reader compares
    /// [`Measured::seen`] with the age that it allows.
    pub fn node(&self, name: &str) -> Option<Arc<NodeView>> {
        self.table.read().node(name).cloned()
    }

    /// The newest view of every node. It stays as it is, for as long as it is held, whatever is published meanwhile.
    pub fn snapshot(&self) -> Snapshot {
        self.table.read().clone()
    }

    /// Publishes a node's view.
    pub fn publish(&self, node: Arc<str>, view: NodeView) {
        let view = Arc::new(view);
        // What it replaces is dropped after the lock.
        let _replaced = {
            let mut table = self.table.write();
            table.nodes_with_mut(&node).and_then(|nodes| nodes.insert(Arc::clone(&node), view))
        };
        self.announce(node);
    }

    /// Forgets a node.
    pub fn remove(&self, node: &str) {
        let _removed = {
            let mut table = self.table.write();
            table.nodes_with_mut(node).and_then(|nodes| nodes.remove(node))
        };
        self.announce(node.into());
    }

    /// The names of nodes whose view was published or forgotten. A receiver that lagged looks at everything anew.
    pub fn changes(&self) -> broadcast::Receiver<Arc<str>> {
        self.changes.0.subscribe()
    }

    fn announce(&self, node: Arc<str>) {
        // No receiver is the normal state: only watches need to know.
        let _ = self.changes.0.send(node);
    }
}

/// Parts of the table: publishing copies at most one of them, and only while a reader holds the table.
const PARTS: usize = 64;

type Part = HashMap<Arc<str>, Arc<NodeView>>;

/// The views of all nodes at one moment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// By hash of the node's name.
    parts: Arc<Vec<Arc<Part>>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { parts: Arc::new(vec![Arc::default(); PARTS]) }
    }
}

impl Snapshot {
    /// The view of a node.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeView>> {
        self.parts.get(part_of(name))?.get(name)
    }

    /// The views of all nodes, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.parts.iter().flat_map(|part| part.values())
    }

    fn nodes_with_mut(&mut self, name: &str) -> Option<&mut Part> {
        Arc::make_mut(&mut self.parts).get_mut(part_of(name)).map(Arc::make_mut)
    }
}

/// Any even spread will do (this is FNV-1a): the maps inside have their own hash.
fn part_of(name: &str) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash % PARTS as u64).unwrap_or_default()
}
