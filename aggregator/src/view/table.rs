//! The table of all nodes' views: by name, and by the row that the inventory gave a node's pods. Readers hold it as it was;
//! a change copies the part that it touches, and only while somebody holds that.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc};

use super::{NodeView, PodEntry};
use crate::inventory::Pod;

/// Parts by name, and rows in one part.
const PARTS: usize = 64;

type Named = HashMap<Arc<str>, Arc<NodeView>>;
type Rows = Vec<Option<Arc<NodeView>>>;

/// The views of all nodes at one moment. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// By hash of the node's name.
    names: Arc<Vec<Arc<Named>>>,
    /// By row.
    rows: Arc<Vec<Arc<Rows>>>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { names: Arc::new(vec![Arc::default(); PARTS]), rows: Arc::default() }
    }
}

impl Snapshot {
    /// The view of a node.
    pub fn node(&self, name: &str) -> Option<&Arc<NodeView>> {
        self.names.get(part_of(name))?.get(name)
    }

    /// The entry of a pod, found without looking for a name.
    #[inline]
    pub fn pod(&self, pod: &Pod) -> Option<PodEntry<'_>> {
        let row = pod.indexed.place?.node();
        self.rows.get(row / PARTS)?.get(row % PARTS)?.as_ref()?.pods.get(pod)
    }

    /// The views of all nodes, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Arc<NodeView>> {
        self.names.iter().flat_map(|part| part.values())
    }

    /// Adds a node's view. What it replaces is returned.
    pub(super) fn insert(&mut self, name: &Arc<str>, view: &Arc<NodeView>) -> Option<Arc<NodeView>> {
        let replaced =
            self.named_mut(name).and_then(|named| named.insert(Arc::clone(name), Arc::clone(view)));
        let row = view.pods.row();
        if let Some(old) = replaced.as_ref().filter(|old| old.pods.row() != row) {
            self.vacate(old);
        }
        if let Some(row) = row {
            self.row_mut(row).replace(Arc::clone(view));
        }
        replaced
    }

    /// Removes a node's view, which is returned.
    pub(super) fn remove(&mut self, name: &str) -> Option<Arc<NodeView>> {
        let removed = self.named_mut(name)?.remove(name)?;
        self.vacate(&removed);
        Some(removed)
    }

    /// Takes a view out of its row, unless the row is another node's by now.
    fn vacate(&mut self, view: &Arc<NodeView>) {
        let Some(row) = view.pods.row() else { return };
        let row = self.row_mut(row);
        if row.as_ref().is_some_and(|current| Arc::ptr_eq(current, view)) {
            *row = None;
        }
    }

    fn named_mut(&mut self, name: &str) -> Option<&mut Named> {
        Arc::make_mut(&mut self.names).get_mut(part_of(name)).map(Arc::make_mut)
    }

    fn row_mut(&mut self, row: usize) -> &mut Option<Arc<NodeView>> {
        let parts = Arc::make_mut(&mut self.rows);
        let (part, row) = (row / PARTS, row % PARTS);
        if parts.len() <= part {
            parts.resize_with(part + 1, Arc::default);
        }
        let rows = Arc::make_mut(&mut parts[part]);
        if rows.len() <= row {
            rows.resize(row + 1, None);
        }
        &mut rows[row]
    }
}

/// Any even spread will do (this is FNV-1a): the maps inside have their own hash.
fn part_of(name: &str) -> usize {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash % PARTS as u64).unwrap_or_default()
}
