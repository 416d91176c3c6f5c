//! Which instants a shard keeps, and where. An instant that leaves the window makes room for a new one; while all of
//! them are inside it, the one between the closest neighbours does. The window thus stays covered at any pace, with
//! no gap wider than the pace or an eighth of the window.

use std::time::Duration;

use super::{Moment, SLOTS};

/// An instant and its place in every column.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Index into the columns' arrays; below [`SLOTS`].
    place: usize,
    /// Grows by one with every instant that ever came.
    pub(super) sequence: u64,
    pub(super) moment: Moment,
}

impl Slot {
    pub(super) fn of<'a, T>(&self, values: &'a [T; SLOTS]) -> &'a T {
        &values[self.place % SLOTS]
    }

    pub(super) fn of_mut<'a, T>(&self, values: &'a mut [T; SLOTS]) -> &'a mut T {
        &mut values[self.place % SLOTS]
    }
}

/// At most [`SLOTS`] instants, oldest first.
#[derive(Debug)]
pub(super) struct Slots {
    window: Duration,
    kept: Vec<Slot>,
    /// Index of the oldest instant inside the window that ends at the newest.
    base: usize,
    sequence: u64,
}

impl Slots {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, kept: Vec::with_capacity(SLOTS), base: 0, sequence: 0 }
    }

    pub(super) fn window(&self) -> Duration {
        self.window
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(super) fn newest(&self) -> Option<&Slot> {
        self.kept.last()
    }

    /// Adds the newest instant and returns its slot.
    pub(super) fn turn(&mut self, moment: Moment) -> Slot {
        let place = if self.kept.len() < SLOTS {
            self.kept.len()
        } else {
            self.kept.remove(self.victim(moment)).place
        };
        self.sequence += 1;
        let slot = Slot { place, sequence: self.sequence, moment };
        self.kept.push(slot);
        self.base = self.kept.partition_point(|slot| moment.boot.since(slot.moment.boot) > self.window);
        slot
    }

    /// Base of a column whose first sample has that sequence number: its oldest sample inside the window. Where that
    /// is the newest itself (a gap, or a pace slower than the window), the one before it: counters are cumulative, so
    /// the rate over the true span is still true. `None` where the column has no other sample.
    pub(super) fn base(&self, first: u64) -> Option<&Slot> {
        let before = self.kept.len().checked_sub(2)?;
        let oldest = match self.kept.get(self.base) {
            Some(slot) if slot.sequence >= first => self.base,
            _ => self.kept.partition_point(|slot| slot.sequence < first),
        };
        self.kept.get(oldest.min(before)).filter(|slot| slot.sequence >= first)
    }

    fn victim(&self, moment: Moment) -> usize {
        if self.kept.first().is_some_and(|oldest| moment.boot.since(oldest.moment.boot) > self.window) {
            return 0;
        }
        let gaps = self.kept.windows(3).enumerate().map(|(at, three)| match three {
            [before, _, after] => (after.moment.boot.since(before.moment.boot), at + 1),
            _ => (Duration::MAX, 0),
        });
        gaps.min().map_or(0, |(_, at)| at)
    }
}
