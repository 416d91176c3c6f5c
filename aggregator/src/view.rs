//! What is served: per node the newest complete entries, made from ring and inventory. Readers take one immutable
//! [`Snapshot`] of all nodes, at the price of one counter, and never wait while a view is made.

mod entries;
mod join;
mod table;
#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use entries::{Entries, OwnedPodEntry, PodEntry};
pub use join::Join;
use parking_lot::RwLock;
pub use table::Snapshot;
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

/// All entries of one node at one generation.
#[derive(Debug, Clone, Default)]
pub struct NodeView {
    /// The node's own entry.
    pub node: Option<NodeEntry>,
    /// Those of its pods.
    pub pods: Entries,
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
            table.insert(&node, &view)
        };
        self.announce(node);
    }

    /// Forgets a node.
    pub fn remove(&self, node: &str) {
        let _removed = {
            let mut table = self.table.write();
            table.remove(node)
        };
        self.announce(node.into());
    }

    /// The names of nodes whose view was published or forgotten. A receiver that lagged looks at everything again.
    pub fn changes(&self) -> broadcast::Receiver<Arc<str>> {
        self.changes.0.subscribe()
    }

    fn announce(&self, node: Arc<str>) {
        // No receiver is the normal state: only watches need to know.
        let _ = self.changes.0.send(node);
    }
}
