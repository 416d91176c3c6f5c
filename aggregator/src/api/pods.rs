//! PodMetrics: which pods are served, and how one is found.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
    time::Instant,
};

use super::{
    Source,
    object::{self, Numbers, Object},
    query::ListOptions,
    status::{Failure, GROUP},
};
use crate::{
    inventory::{Labels, Pod},
    view::{Measured, NodeView, PodEntry, Usage},
};

/// A pod with its newest complete entry.
#[derive(Debug, Clone)]
pub struct PodMetrics {
    pod: Arc<Pod>,
    entry: Arc<PodEntry>,
}

impl PodMetrics {
    /// All (of one namespace) that run, are selected and not older than the maximum age, by namespace and name. Each
    /// node's view is taken once: a list never mixes generations of one node.
    pub fn list(source: &Source, namespace: Option<&str>, options: &ListOptions, now: Instant) -> Vec<Self> {
        let mut views: HashMap<Arc<str>, Option<Arc<NodeView>>> = HashMap::new();
        let pods = source.inventory.pods(namespace);
        let mut served = Vec::with_capacity(pods.len());
        for pod in pods {
            let selected = pod.running
                && options.fields.matches(&pod.namespace, &pod.name)
                && options.labels.matches(&pod.labels);
            if !selected {
                continue;
            }
            let view = match views.entry(Arc::clone(&pod.node)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) => free.insert(source.views.node(&pod.node)),
            };
            served.extend(view.as_ref().and_then(|view| Self::of(source, pod, view, now)));
        }
        served
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
            .and_then(|view| Self::of(source, pod, &view, now))
            .ok_or_else(|| Failure::not_found(GROUP, "podmetrics", &format!("{namespace}/{name}")))
    }

    fn of(source: &Source, pod: Arc<Pod>, view: &NodeView, now: Instant) -> Option<Self> {
        let entry = view.pods.get(&pod.uid)?;
        source.fresh(&entry.measured, now).then(|| Self { pod, entry: Arc::clone(entry) })
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

    fn numbers(&self) -> Numbers<'_> {
        Numbers::Containers(&self.entry.containers)
    }
}
