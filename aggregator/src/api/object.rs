//! What nodes and pods have in common when they are answered: metadata, when, how much.

use bytes::BytesMut;

use super::{json, quantity};
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
    /// Appends what follows the window: `"usage":{…}` or `"containers":[…]`.
    fn numbers(&self, out: &mut BytesMut, swap: bool);
}

/// Appends `{"cpu":"…","memory":"…"}`, with `swap` where that is asked for and known.
pub fn usage(out: &mut BytesMut, usage: &Usage, swap: bool) {
    json::raw(out, "{\"cpu\":\"");
    quantity::cpu(out, usage.cpu);
    json::raw(out, "\",\"memory\":\"");
    quantity::memory(out, usage.memory);
    if let Some(bytes) = usage.swap.filter(|_| swap) {
        json::raw(out, "\",\"swap\":\"");
        quantity::memory(out, bytes);
    }
    json::raw(out, "\"}");
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
