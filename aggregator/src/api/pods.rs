//! PodMetrics: which pods are served, and how one is found.

use std::{sync::Arc, time::Instant};

use super::{
    Fresh, Source,
    object::{self, Numbers, Object},
    query::ListOptions,
    status::{Failure, GROUP},
    watch::{Item, ResourceVersion, Watched},
};
use crate::{
    inventory::{Labels, Pod, Walk},
    view::{Measured, NodeView, PodEntry, Snapshot, Usage},
};

/// A pod with its newest complete entry.
#[derive(Debug, Clone)]
pub struct PodMetrics {
    pod: Arc<Pod>,
    entry: Arc<PodEntry>,
    version: Option<ResourceVersion>,
}

/// The pods of a list, one after the other. Inventory and views stay as they were when it was begun: a list never mixes
/// generations, and a clone gives the same pods again.
#[derive(Debug, Clone)]
pub struct Pods {
    walk: Walk<Pod>,
    views: Snapshot,
    options: ListOptions,
    fresh: Fresh,
}

impl Iterator for Pods {
    type Item = PodMetrics;

    fn next(&mut self) -> Option<PodMetrics> {
        let Self { walk, views, options, fresh } = self;
        while let Some(pod) = walk.next() {
            let selected = pod.running
                && options.fields.matches(&pod.namespace, &pod.name)
                && options.labels.matches(&pod.labels);
            if !selected {
                continue;
            }
            let found = views.node(&pod.node).and_then(|view| PodMetrics::of(*fresh, pod, view));
            if found.is_some() {
                return found;
            }
        }
        None
    }
}

impl PodMetrics {
    /// All (of one namespace) that run, are selected and not older than the maximum age, by namespace and name.
    pub fn list(source: &Source, namespace: Option<&str>, options: &ListOptions, now: Instant) -> Pods {
        Pods {
            walk: source.inventory.walk_pods(namespace),
            views: source.views.snapshot(),
            options: options.clone(),
            fresh: source.fresh(now),
        }
    }

    /// The one of that name. A pod that does not exist (or does not run) and one without values are different errors.
    pub fn get(source: &Source, namespace: &str, name: &str, now: Instant) -> Result<Self, Failure> {
        let pod = source
            .inventory
            .pod(namespace, name)
            .filter(|pod| pod.running)
            .ok_or_else(|| Failure::not_found("", "pods", name))?;
        source
            .views
            .node(&pod.node)
            .and_then(|view| Self::of(source.fresh(now), &pod, &view))
            .ok_or_else(|| Failure::not_found(GROUP, "podmetrics", &format!("{namespace}/{name}")))
    }

    pub(super) fn of(fresh: Fresh, pod: &Arc<Pod>, view: &NodeView) -> Option<Self> {
        let entry = view.pods.get(&pod.uid).filter(|entry| fresh.allows(&entry.measured))?;
        Some(Self { pod: Arc::clone(pod), entry: Arc::clone(entry), version: None })
    }
}

impl Object for PodMetrics {
    const KIND: &'static str = "PodMetrics";

    fn namespace(&self) -> &str {
        &self.pod.namespace
    }

    fn name(&self) -> &str {
        &self.pod.name
    }

    fn labels(&self) -> &Labels {
        &self.pod.labels
    }

    fn measured(&self) -> &Measured {
        &self.entry.measured
    }

    fn total(&self) -> Usage {
        object::sum(self.entry.containers.iter().map(|(_, usage)| usage))
    }

    fn resource_version(&self) -> Option<ResourceVersion> {
        self.version
    }

    fn numbers(&self) -> Numbers<'_> {
        Numbers::Containers(&self.entry.containers)
    }
}

impl PodMetrics {
    /// The node that it is on.
    pub(super) fn node(&self) -> &str {
        &self.pod.node
    }
}

impl Item for PodMetrics {
    fn is_selected_like(&self, other: &Self) -> bool {
        self.pod.labels == other.pod.labels
    }
}

impl Watched for PodMetrics {
    fn is_served_like(&self, other: &Self) -> bool {
        (Arc::ptr_eq(&self.entry, &other.entry) || self.entry == other.entry) && self.is_selected_like(other)
    }

    fn versioned(&self, version: ResourceVersion) -> Self {
        Self { version: Some(version), ..self.clone() }
    }
}
