//! Takes what the inventory says into the views, node by node, and ends streams that lost their right.

use std::{collections::HashSet, sync::Arc};

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::{IngestState, node::NodeState};

/// Runs until `shutdown`. Changes that come together are taken together.
pub async fn follow(state: IngestState, shutdown: CancellationToken) {
    let mut changes = state.shared.inventory.changes();
    state.all_changed();
    loop {
        let first = tokio::select! {
            () = shutdown.cancelled() => return,
            change = changes.recv() => change,
        };
        let mut nodes = HashSet::new();
        let mut all = match first {
            Ok(change) => {
                nodes.insert(change.node);
                false
            }
            Err(RecvError::Lagged(_)) => true,
            Err(RecvError::Closed) => return,
        };
        loop {
            match changes.try_recv() {
                Ok(change) => {
                    nodes.insert(change.node);
                }
                Err(TryRecvError::Lagged(_)) => all = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if all {
            state.all_changed();
        } else {
            for node in &nodes {
                state.changed(node);
                state.shared.admission.inventory_changed(node);
            }
            state.set_pace(state.shared.inventory.nodes().len());
        }
    }
}

impl IngestState {
    fn all_changed(&self) {
        self.shared.admission.inventory_replaced();
        let nodes: Vec<Arc<str>> = self.shared.nodes.read().keys().cloned().collect();
        for node in &nodes {
            self.changed(node);
        }
        self.set_pace(self.shared.inventory.nodes().len());
    }

    /// Takes a change of one node into its view.
    fn changed(&self, name: &Arc<str>) {
        // A node that never streamed has no state and nothing to serve.
        let Some(node) = self.shared.nodes.read().get(name).cloned() else { return };
        let mut node = node.lock();
        node.refresh(&self.shared.inventory);
        if let Some(why) = node.objection(&self.shared.inventory) {
            node.close(why);
        }
        node.publish(&self.shared.views);
        self.forget_if_gone(&mut node);
    }

    /// Takes a node that the inventory no longer has out of the table and the views.
    pub(super) fn forget_if_gone(&self, node: &mut NodeState) {
        if !node.is_gone() {
            return;
        }
        node.forget();
        self.shared.views.remove(node.name());
        if let Some(compatibility) = &self.shared.metrics.compatibility {
            compatibility.forget(node.name());
        }
        self.shared.nodes.write().remove(node.name());
    }
}
