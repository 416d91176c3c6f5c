//! The last minute or so of one node's samples, in memory: per node a [`Shard`] with a fixed number of slots, per
//! container a [`Column`] beside the slots' shared instants. Owns what a rate is ([`Shard::rate`], [`Shard::node`]) and how long
//! samples live. Pure: never reads a clock, never does I/O, never extrapolates, clamps or makes up a value.

mod bounds;
mod column;
mod slots;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bounds::Check;
pub use bounds::{Bounds, Counter, Implausible, ImplausibleValue};
pub use column::{Column, Key, Reading};
use slots::{Slot, Slots};

use crate::units::{BootId, BootTime, NanoCores, RealTime};

/// Slots of a shard. They cover the window at whatever pace samples come: where they are too few, those inside the
/// window are thinned.
pub const SLOTS: usize = 32;

/// One instant of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// On the node's boot clock: for differences and order.
    pub boot: BootTime,
    /// For stamps.
    pub real: RealTime,
    /// On the aggregator's own clock: for age.
    pub seen: Instant,
}

/// Totals of the node at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// CPU time since boot, ns.
    pub cpu_ns: u64,
    /// Working set, bytes.
    pub working_set_bytes: u64,
    /// Swap in use, bytes; `None` where the node has none.
    pub swap_bytes: Option<u64>,
}

/// CPU use over the true span between two samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// `(newest − base) / span`, truncated.
    pub cpu: NanoCores,
    /// The span; never zero.
    pub window: Duration,
}

/// A sample was not newer than the newest one of its boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sample of boot time {} ns came after one of {} ns", .offered.0, .newest.0)]
pub struct OutOfOrder {
    /// The instant that was refused.
    pub offered: BootTime,
    /// The newest one held.
    pub newest: BootTime,
}

/// The samples of one node.
#[derive(Debug)]
pub struct Shard {
    boot: Option<BootId>,
    slots: Slots,
    node: Option<NodeColumn>,
    columns: Vec<Column>,
    composition: u64,
    bounds: Bounds,
    implausible: Implausible,
}

#[derive(Debug)]
struct NodeColumn {
    totals: Totals,
    /// Whether the newest working set is believed.
    memory: bool,
    first: u64,
    cpu_ns: [u64; SLOTS],
}

impl Shard {
    /// An empty shard for rates over `window`.
    pub fn new(window: Duration) -> Self {
        Self {
            boot: None,
            slots: Slots::new(window),
            node: None,
            columns: Vec::new(),
            composition: 0,
            bounds: Bounds::default(),
            implausible: Implausible::default(),
        }
    }

    /// Says which boot the samples that follow belong to. A new boot clears the shard: neither counters nor cgroup ids
    /// survive one. Returns whether it was cleared.
    pub fn begin(&mut self, boot: &BootId) -> bool {
        if self.is_of(boot) {
            return false;
        }
        self.clear(boot);
        true
    }

    /// Whether the samples are of that boot.
    pub fn is_of(&self, boot: &BootId) -> bool {
        self.boot.as_ref() == Some(boot)
    }

    /// Discards all samples; those that follow are of that boot.
    pub fn clear(&mut self, boot: &BootId) {
        let (composition, bounds) = (self.composition + 1, self.bounds);
        *self = Self { boot: Some(boot.clone()), composition, bounds, ..Self::new(self.slots.window()) };
    }

    /// Sets the bounds of the samples that follow. A new shard believes everything.
    pub fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// The values of the newest sample that were left out because they exceed their bounds.
    pub fn implausible(&self) -> &Implausible {
        &self.implausible
    }

    /// The newest instant held.
    pub fn newest(&self) -> Option<Moment> {
        self.slots.newest().map(|slot| slot.moment)
    }

    /// The containers of the newest sample, in the order in which they came.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Grows with every change of the containers or of their order: indexes into [`Shard::columns`] hold for as long
    /// as this number stays.
    pub fn composition(&self) -> u64 {
        self.composition
    }

    /// Adds one instant with all of the node's containers. A container that is not among them is forgotten; one whose
    /// CPU counter went back, or ahead by more than its bound, starts again. A working set beyond its bound is unknown.
    /// Nothing is allocated while containers and order stay the same.
    pub fn apply<'a>(
        &mut self,
        moment: Moment,
        node: Option<Totals>,
        readings: impl Iterator<Item = Reading<'a>>,
    ) -> Result<(), OutOfOrder> {
        if let Some(newest) = self.newest().filter(|newest| moment.boot <= newest.boot) {
            return Err(OutOfOrder { offered: moment.boot, newest: newest.boot });
        }
        let mut check = Check::new(self.bounds, moment.boot, self.newest().map(|newest| newest.boot));
        let slot = self.slots.turn(moment);
        self.apply_readings(slot, readings, &mut check);
        self.apply_node(slot, node, &mut check);
        self.implausible = check.found();
        Ok(())
    }

    /// CPU rate of a container over the window that ends at the newest sample; `None` while there is no base.
    pub fn rate(&self, column: &Column) -> Option<Rate> {
        let newest = self.newest()?;
        let sample = self.slots.base(column.first()).map(|slot| (slot.moment.boot, column.cpu_ns(slot)));
        let base = match (column.absent(), sample) {
            (Some(absent), _) if newest.boot.since(absent) <= self.slots.window() => (absent, 0),
            (_, Some(sample)) => sample,
            (Some(absent), None) => (absent, 0),
            (None, None) => return None,
        };
        rate(base, (newest.boot, column.newest_cpu_ns()))
    }

    /// The node's newest totals and CPU rate; `None` while there is no base, or its working set is not believed.
    pub fn node(&self) -> Option<(Totals, Rate)> {
        let newest = self.newest()?;
        let node = self.node.as_ref().filter(|node| node.memory)?;
        let base = self.slots.base(node.first)?;
        let rate = rate((base.moment.boot, *base.of(&node.cpu_ns)), (newest.boot, node.totals.cpu_ns))?;
        Some((node.totals, rate))
    }

    fn apply_node(&mut self, slot: Slot, totals: Option<Totals>, check: &mut Check) {
        let Some(totals) = totals else {
            self.node = None;
            return;
        };
        let new = NodeColumn { totals, memory: true, first: slot.sequence, cpu_ns: [0; SLOTS] };
        let node = self.node.get_or_insert(new);
        let used = totals.cpu_ns.checked_sub(node.totals.cpu_ns);
        if !used.is_some_and(|used_ns| check.cpu(None, used_ns)) {
            node.first = slot.sequence;
        }
        node.totals = totals;
        node.memory = check.memory(None, totals.working_set_bytes);
        *slot.of_mut(&mut node.cpu_ns) = totals.cpu_ns;
    }

    fn apply_readings<'a>(
        &mut self,
        slot: Slot,
        mut readings: impl Iterator<Item = Reading<'a>>,
        check: &mut Check,
    ) {
        let mut at = 0;
        while let Some(reading) = readings.next() {
            match self.columns.get_mut(at) {
                Some(column) if column.key().cgroup == reading.key.cgroup => {
                    column.push(slot, &reading, check);
                }
                _ => return self.rearrange(slot, at, reading, readings, check),
            }
            at += 1;
        }
        if at < self.columns.len() {
            self.columns.truncate(at);
            self.composition += 1;
        }
    }

    /// The slow path: containers came, went or changed their order from index `at` on.
    fn rearrange<'a>(
        &mut self,
        slot: Slot,
        at: usize,
        first: Reading<'a>,
        rest: impl Iterator<Item = Reading<'a>>,
        check: &mut Check,
    ) {
        let mut old: HashMap<_, _> =
            self.columns.drain(at..).map(|column| (column.key().cgroup, column)).collect();
        for reading in std::iter::once(first).chain(rest) {
            match old.remove(&reading.key.cgroup) {
                Some(mut column) => {
                    column.push(slot, &reading, check);
                    self.columns.push(column);
                }
                None => self.columns.push(Column::new(slot, &reading, check)),
            }
        }
        self.composition += 1;
    }
}

/// `u64(delta ns × 10⁹ / span ns)`, as metrics-server computes it but without its detour through floats.
fn rate(base: (BootTime, u64), newest: (BootTime, u64)) -> Option<Rate> {
    let window = newest.0.since(base.0);
    let delta = newest.1.checked_sub(base.1)?;
    let cpu = (u128::from(delta) * 1_000_000_000).checked_div(window.as_nanos())?;
    Some(Rate { cpu: NanoCores(u64::try_from(cpu).ok()?), window })
}
