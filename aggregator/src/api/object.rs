//! What nodes and pods have in common when they are answered: metadata, when, how much.

use std::ops::ControlFlow;

use super::watch::ResourceVersion;
use crate::{
    inventory::{ContainerNames, Labels},
    units::{Bytes, NanoCores},
    view::{Measured, Usage},
};

/// A NodeMetrics or PodMetrics: one object of the inventory with its entry of the view.
pub trait Object {
    /// `kind`; that of a list has `List` behind it.
    const KIND: &'static str;

    /// `metadata.namespace`; empty for cluster scope.
    fn namespace(&self) -> &str;
    /// `metadata.name`
    fn name(&self) -> &str;
    /// `metadata.labels`
    fn labels(&self) -> &Labels;
    /// Timestamp and window.
    fn measured(&self) -> &Measured;
    /// The whole object's usage: a pod's is the sum over its containers.
    fn total(&self) -> Usage;
    /// What was measured, in the parts in which it is served.
    fn numbers(&self) -> Numbers<'_>;
    /// `metadata.resourceVersion`, where there are versions.
    fn resource_version(&self) -> Option<ResourceVersion>;
}

/// The objects of a list, in its order. A clone gives the same ones again: what is written before the first of them can
/// depend on all of them.
pub trait Objects: Clone + Send + 'static {
    /// What is given: it may be lent from what the list keeps alive.
    type Object<'a>: Object;

    /// Gives the objects to `take`, one after the other, until it breaks or there are no more. The next call goes on behind
    /// the last one that was given.
    fn visit(&mut self, take: impl FnMut(&Self::Object<'_>) -> ControlFlow<()>) -> ControlFlow<()>;

    /// Gives all that are left.
    fn visit_all(mut self, mut take: impl FnMut(&Self::Object<'_>)) {
        // It never breaks.
        let _ = self.visit(|object| {
            take(object);
            ControlFlow::Continue(())
        });
    }

    /// Whether any is so.
    fn any(mut self, is_so: impl Fn(&Self::Object<'_>) -> bool) -> bool {
        self.visit(|object| if is_so(object) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            .is_break()
    }
}

/// Objects that were collected before.
impl<T: Object + Clone + Send + 'static> Objects for std::vec::IntoIter<T> {
    type Object<'a> = T;

    fn visit(&mut self, mut take: impl FnMut(&T) -> ControlFlow<()>) -> ControlFlow<()> {
        self.try_for_each(|object| take(&object))
    }
}

/// What follows the window: `usage` of a node, `containers` of a pod.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// The one usage.
    Usage(&'a Usage),
    /// Names and usages, in serving order.
    Containers(&'a ContainerNames, &'a [Usage]),
}

/// The sum of usages; swap is known where any part's is.
pub fn sum<'a>(parts: impl IntoIterator<Item = &'a Usage>) -> Usage {
    let nothing = Usage { cpu: NanoCores(0), memory: Bytes(0), swap: None };
    parts.into_iter().fold(nothing, |total, part| Usage {
        cpu: NanoCores(total.cpu.0.saturating_add(part.cpu.0)),
        memory: Bytes(total.memory.0.saturating_add(part.memory.0)),
        swap: match (total.swap, part.swap) {
            (None, other) | (other, None) => other,
            (Some(one), Some(other)) => Some(Bytes(one.0.saturating_add(other.0))),
        },
    })
}
