//! Places in tables: each node has a number, and on its node each pod that runs has one. A long list finds entries by them
//! instead of by names. A place is given to somebody else when its owner is gone, so a reader compares the UID too. Pure.

use std::{cmp::Reverse, collections::BinaryHeap};

/// Where the entry of a running pod stands: the row of its node, and the slot in that row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    node: u32,
    slot: u32,
}

impl Place {
    /// A place.
    pub const fn new(node: u32, slot: u32) -> Self {
        Self { node, slot }
    }

    /// The row.
    pub const fn node(self) -> usize {
        self.node as usize
    }

    /// The slot in the row.
    pub const fn slot(self) -> usize {
        self.slot as usize
    }
}

/// Numbers from zero up. The lowest that nobody has is given next: tables stay as short as the most that was in use.
#[derive(Debug, Default)]
pub struct Numbers {
    unused: u32,
    returned: BinaryHeap<Reverse<u32>>,
}

impl Numbers {
    /// A number that nobody has.
    pub fn take(&mut self) -> u32 {
        if let Some(Reverse(number)) = self.returned.pop() {
            return number;
        }
        let number = self.unused;
        self.unused += 1;
        number
    }

    /// Its owner is gone.
    pub fn give_back(&mut self, number: u32) {
        self.returned.push(Reverse(number));
    }
}

/// The numbers of one node.
#[derive(Debug)]
pub struct Row {
    node: u32,
    slots: Numbers,
}

impl Row {
    /// The row of that number, empty.
    pub fn new(node: u32) -> Self {
        Self { node, slots: Numbers::default() }
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.node
    }

    /// The place of a pod that had `kept` before: only pods that run have one, and while they do it stays the same.
    pub fn place(&mut self, runs: bool, kept: Option<Place>) -> Option<Place> {
        if !runs {
            self.leave(kept);
            return None;
        }
        Some(kept.unwrap_or_else(|| Place::new(self.node, self.slots.take())))
    }

    /// A pod is gone.
    pub fn leave(&mut self, place: Option<Place>) {
        if let Some(place) = place {
            self.slots.give_back(place.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_free_number_comes_next() {
        let mut numbers = Numbers::default();
        assert_eq!([(); 4].map(|()| numbers.take()), [0, 1, 2, 3]);
        numbers.give_back(2);
        numbers.give_back(0);
        assert_eq!([(); 3].map(|()| numbers.take()), [0, 2, 4]);
    }

    #[test]
    fn a_pod_keeps_its_place_while_it_runs() {
        let mut row = Row::new(7);
        let first = row.place(true, None);
        assert_eq!(first, Some(Place::new(7, 0)));
        assert_eq!(row.place(true, None), Some(Place::new(7, 1)));
        assert_eq!(row.place(true, first), first);
        assert_eq!(row.place(false, None), None);
        assert_eq!(row.place(false, first), None);
        assert_eq!(row.place(true, None), first, "what was left is given again");
    }
}
