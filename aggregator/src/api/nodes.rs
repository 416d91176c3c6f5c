//! NodeMetrics: which nodes are served, and how one is found.

use std::{sync::Arc, time::Instant};

use super::{
    Source,
    object::{Numbers, Object},
    query::ListOptions,
    status::{Failure, GROUP},
};
use crate::{
    inventory::{Labels, Node},
    view::{Measured, NodeEntry, Usage},
};

/// A node with its newest entry.
#[derive(Debug, Clone)]
pub struct NodeMetrics {
    node: Arc<Node>,
    entry: NodeEntry,
}

impl NodeMetrics {
    /// All that are selected and not older than the maximum age, by name.
    pub fn list(source: &Source, options: &ListOptions, now: Instant) -> Vec<Self> {
        let selected =
            |node: &Arc<Node>| options.fields.matches("", &node.name) && options.labels.matches(&node.labels);
        source
            .inventory
            .nodes()
            .into_iter()
            .filter(selected)
            .filter_map(|node| Self::of(source, node, now))
            .collect()
    }

    /// The one of that name. A node that does not exist and one without values are different errors.
    pub fn get(source: &Source, name: &str, now: Instant) -> Result<Self, Failure> {
        let node = source.inventory.node(name).ok_or_else(|| Failure::not_found("", "node", name))?;
        Self::of(source, node, now).ok_or_else(|| Failure::not_found(GROUP, "nodemetrics", name))
    }

    fn of(source: &Source, node: Arc<Node>, now: Instant) -> Option<Self> {
        let entry = source.views.node(&node.name)?.node.clone()?;
        source.fresh(&entry.measured, now).then_some(Self { node, entry })
    }
}

impl Object for NodeMetrics {
    const KIND: &'static str = "NodeMetrics";

    fn namespace(&self) -> &'static str {
        ""
    }

    fn name(&self) -> &str {
        &self.node.name
    }

    fn labels(&self) -> &Labels {
        &self.node.labels
    }

    fn measured(&self) -> &Measured {
        &self.entry.measured
    }

    fn total(&self) -> Usage {
        self.entry.usage
    }

    fn numbers(&self) -> Numbers<'_> {
        Numbers::Usage(&self.entry.usage)
    }
}
