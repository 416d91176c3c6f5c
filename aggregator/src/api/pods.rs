//! PodMetrics: which pods are served, and how one is found.

use std::{hint::black_box, ops::ControlFlow, sync::Arc, time::Instant};

use super::{
    Fresh, Source,
    object::{self, Numbers, Object, Objects},
    query::ListOptions,
    status::{Failure, GROUP},
    watch::{Item, ResourceVersion, Watched},
};
use crate::{
    inventory::{Labels, Pod, Walk},
    view::{Measured, NodeView, OwnedPodEntry, PodEntry, Snapshot, Usage},
};

/// This many pods are looked at together: see [`Pods::look`].
const AHEAD: usize = 32;

/// A pod with its newest complete entry.
#[derive(Debug, Clone)]
pub struct PodMetrics {
    pod: Arc<Pod>,
    entry: OwnedPodEntry,
    version: Option<ResourceVersion>,
}

/// The same, lent by what a list keeps alive.
#[derive(Debug, Clone, Copy)]
pub struct Listed<'a> {
    pod: &'a Pod,
    entry: PodEntry<'a>,
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

impl Objects for Pods {
    type Object<'a> = Listed<'a>;

    fn visit(&mut self, mut take: impl FnMut(&Listed<'_>) -> ControlFlow<()>) -> ControlFlow<()> {
        loop {
            let ahead = self.walk.ahead(AHEAD);
            if ahead.is_empty() {
                return ControlFlow::Continue(());
            }
            let listed = self.look(ahead);
            let mut passed = ahead.len();
            let mut flow = ControlFlow::Continue(());
            for (at, listed) in listed.iter().enumerate() {
                flow = listed.as_ref().map_or(flow, &mut take);
                if flow.is_break() {
                    passed = at + 1;
                    break;
                }
            }
            self.walk.pass(passed);
            if flow.is_break() {
                return flow;
            }
        }
    }
}

impl Pods {
    /// Those of the pods that are selected and served, at their places. Most of a long list's time would be waiting for
    /// memory: pod, entry, name and numbers lie apart, and each is found through the one before. So each step is taken for all
    /// pods before the next one; the processor then fetches for many at once.
    fn look<'a>(&'a self, ahead: &'a [Arc<Pod>]) -> [Option<Listed<'a>>; AHEAD] {
        black_box(ahead.iter().filter(|pod| pod.running).count());
        let mut listed = [None; AHEAD];
        for (place, pod) in listed.iter_mut().zip(ahead) {
            *place = self.listed(pod);
        }
        black_box(listed.iter().flatten().map(Listed::touched).fold(0, u64::wrapping_add));
        listed
    }

    /// A pod, if it is selected and served.
    #[inline]
    fn listed<'a>(&'a self, pod: &'a Pod) -> Option<Listed<'a>> {
        let Self { views, options, fresh, .. } = self;
        let selected = pod.running
            && options.fields.matches(&pod.namespace, &pod.name)
            && options.labels.matches(&pod.labels);
        if !selected {
            return None;
        }
        let entry = views.pod(pod).filter(|entry| fresh.allows(entry.measured))?;
        Some(Listed { pod, entry, version: None })
    }
}

impl Listed<'_> {
    /// Something of all that will be written.
    #[inline]
    fn touched(&self) -> u64 {
        let name = self.pod.name.as_bytes();
        let name = [name.first(), name.last()].into_iter().flatten().map(|byte| u64::from(*byte));
        let usages = [self.entry.usages.first(), self.entry.usages.last()].into_iter().flatten();
        name.chain(usages.map(|usage| usage.cpu.0)).fold(0, u64::wrapping_add)
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
        let entry = view.pods.get(pod).filter(|entry| fresh.allows(entry.measured))?;
        Some(Self { pod: Arc::clone(pod), entry: entry.to_owned(), version: None })
    }

    fn lent(&self) -> Listed<'_> {
        Listed { pod: &self.pod, entry: self.entry.entry(), version: self.version }
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
        self.entry.entry().measured
    }

    fn total(&self) -> Usage {
        self.lent().total()
    }

    fn resource_version(&self) -> Option<ResourceVersion> {
        self.version
    }

    fn numbers(&self) -> Numbers<'_> {
        let entry = self.entry.entry();
        Numbers::Containers(entry.names, entry.usages)
    }
}

impl Object for Listed<'_> {
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
        self.entry.measured
    }

    fn total(&self) -> Usage {
        object::sum(self.entry.usages)
    }

    fn resource_version(&self) -> Option<ResourceVersion> {
        self.version
    }

    fn numbers(&self) -> Numbers<'_> {
        Numbers::Containers(self.entry.names, self.entry.usages)
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
        self.entry == other.entry && self.is_selected_like(other)
    }

    fn versioned(&self, version: ResourceVersion) -> Self {
        Self { version: Some(version), ..self.clone() }
    }
}
