//! What nodes and pods have in common when they are answered: metadata, when, how much.

use super::watch::ResourceVersion;
use crate::{
    inventory::Labels,
    units::{Bytes, NanoCores},
    view::{Measured, Usage},
};

/// A NodeMetrics or PodMetrics: one object of the inventory with its entry of the view.
pub trait Object: Send + 'static {
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
pub trait Objects: Iterator<Item: Object> + Clone + Send + 'static {}

impl<I: Iterator<Item: Object> + Clone + Send + 'static> Objects for I {}

/// What follows the window: `usage` of a node, `containers` of a pod.
#[derive(Debug, Clone, Copy)]
pub enum Numbers<'a> {
    /// The one usage.
    Usage(&'a Usage),
    /// Names and usages, in serving order.
    Containers(&'a [(Box<str>, Usage)]),
}

/// The sum of usages; swap is known where any part's is.
pub fn sum<'a>(parts: impl Iterator<Item = &'a Usage>) -> Usage {
    let nothing = Usage { cpu: NanoCores(0), memory: Bytes(0), swap: None };
    parts.fold(nothing, |total, part| Usage {
        cpu: NanoCores(total.cpu.0.saturating_add(part.cpu.0)),
        memory: Bytes(total.memory.0.saturating_add(part.memory.0)),
        swap: match (total.swap, part.swap) {
            (None, other) | (other, None) => other,
            (Some(one), Some(other)) => Some(Bytes(one.0.saturating_add(other.0))),
        },
    })
}
