//! NodeMetrics: which nodes are served, and how one is found.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use super::{
    Fresh, Source,
    object::{Numbers, Object, Objects},
    query::ListOptions,
    status::{Failure, GROUP},
    watch::{Item, ResourceVersion, Watched},
};
use crate::{
    inventory::{Labels, Node, Walk},
    view::{Measured, NodeEntry, NodeView, Snapshot, Usage},
};

/// A node with its newest entry.
#[derive(Debug, Clone)]
pub struct NodeMetrics {
    node: Arc<Node>,
    entry: NodeEntry,
    version: Option<ResourceVersion>,
}

/// The nodes of a list, one after the other; see [`super::pods::Pods`].
#[derive(Debug, Clone)]
pub struct Nodes {
    walk: Walk<Node>,
    views: Snapshot,
    options: ListOptions,
    fresh: Fresh,
}

impl Objects for Nodes {
    type Object<'a> = NodeMetrics;

    fn visit(&mut self, mut take: impl FnMut(&NodeMetrics) -> ControlFlow<()>) -> ControlFlow<()> {
        while let [node, ..] = self.walk.ahead(1) {
            let listed = self.listed(node);
            self.walk.pass(1);
            if let Some(node) = listed {
                take(&node)?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Nodes {
    /// A node, if it is selected and served.
    fn listed(&self, node: &Arc<Node>) -> Option<NodeMetrics> {
        let Self { views, options, fresh, .. } = self;
        if !options.fields.matches("", &node.name) || !options.labels.matches(&node.labels) {
            return None;
        }
        views.node(&node.name).and_then(|view| NodeMetrics::of(*fresh, node, view))
    }
}

impl NodeMetrics {
    /// All that are selected and not older than the maximum age, by name.
    pub fn list(source: &Source, options: &ListOptions, now: Instant) -> Nodes {
        Nodes {
            walk: source.inventory.walk_nodes(),
            views: source.views.snapshot(),
            options: options.clone(),
            fresh: source.fresh(now),
        }
    }

    /// The one of that name. A node that does not exist and one without values are different errors.
    pub fn get(source: &Source, name: &str, now: Instant) -> Result<Self, Failure> {
        let node = source.inventory.node(name).ok_or_else(|| Failure::not_found("", "node", name))?;
        source
            .views
            .node(name)
            .and_then(|view| Self::of(source.fresh(now), &node, &view))
            .ok_or_else(|| Failure::not_found(GROUP, "nodemetrics", name))
    }

    pub(super) fn of(fresh: Fresh, node: &Arc<Node>, view: &NodeView) -> Option<Self> {
        let entry = view.node.clone().filter(|entry| fresh.allows(&entry.measured))?;
        Some(Self { node: Arc::clone(node), entry, version: None })
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

    fn resource_version(&self) -> Option<ResourceVersion> {
        self.version
    }

    fn numbers(&self) -> Numbers<'_> {
        Numbers::Usage(&self.entry.usage)
    }
}

impl Item for NodeMetrics {
    fn is_selected_like(&self, other: &Self) -> bool {
        self.node.labels == other.node.labels
    }
}

impl Watched for NodeMetrics {
    fn is_served_like(&self, other: &Self) -> bool {
        self.entry == other.entry && self.is_selected_like(other)
    }

    fn versioned(&self, version: ResourceVersion) -> Self {
        Self { version: Some(version), ..self.clone() }
    }
}
