//! A sorted set of shared objects that can be read as it was at one moment, for as long as a reader likes, while it goes
//! on changing. Taking such a view costs one counter; a change copies one short run of pointers while somebody reads.
//! Pure.

use std::{cmp::Ordering, sync::Arc};

/// Objects in one run. A fuller one is split.
const RUN: usize = 128;

/// What has a place in an order.
pub trait Ranked {
    /// The order; no two objects of one set are equal in it.
    fn rank(&self, other: &Self) -> Ordering;
}

type Run<T> = Vec<Arc<T>>;

/// Objects in order, in runs of which none is empty.
#[derive(Debug)]
pub struct Sorted<T> {
    runs: Arc<Vec<Arc<Run<T>>>>,
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self { runs: Arc::default() }
    }
}

impl<T> Sorted<T> {
    /// The object that `order` says is equal to what is looked for. Here and below `order` compares an object with what
    /// is looked for, and has to agree with the set's own order.
    pub fn get(&self, order: impl Fn(&T) -> Ordering) -> Option<&Arc<T>> {
        let (run, place) = self.first(|object| order(object) == Ordering::Less);
        self.runs.get(run)?.get(place).filter(|object| order(object) == Ordering::Equal)
    }

    /// Removes the object that `order` says is equal.
    pub fn remove(&mut self, order: impl Fn(&T) -> Ordering) -> Option<Arc<T>> {
        self.get(&order)?;
        let (at, place) = self.first(|object| order(object) == Ordering::Less);
        let runs = Arc::make_mut(&mut self.runs);
        let run = Arc::make_mut(runs.get_mut(at)?);
        let removed = run.remove(place);
        if run.is_empty() {
            runs.remove(at);
        }
        Some(removed)
    }

    /// All objects, as they are now, that `order` says are equal.
    pub fn walk(&self, order: impl Fn(&T) -> Ordering) -> Walk<T> {
        let next = self.first(|object| order(object) == Ordering::Less);
        let end = self.first(|object| order(object) != Ordering::Greater);
        Walk { runs: Arc::clone(&self.runs), next, end }
    }

    /// The place of the first object that is not before what is looked for: run, and place in it.
    fn first(&self, before: impl Fn(&T) -> bool) -> (usize, usize) {
        let run = self.runs.partition_point(|run| run.last().is_some_and(|last| before(last)));
        (run, self.runs.get(run).map_or(0, |run| run.partition_point(|object| before(object))))
    }
}

impl<T: Ranked> Sorted<T> {
    /// Adds an object, or replaces the one that is equal in order, which is returned.
    pub fn insert(&mut self, object: Arc<T>) -> Option<Arc<T>> {
        let (mut at, mut place) = self.first(|known| known.rank(&object) == Ordering::Less);
        let runs = Arc::make_mut(&mut self.runs);
        if at == runs.len() {
            // After everything: to the last run.
            let Some(last) = runs.last() else {
                runs.push(Arc::new(vec![object]));
                return None;
            };
            (at, place) = (at - 1, last.len());
        }
        let run = Arc::make_mut(runs.get_mut(at)?);
        match run.get_mut(place) {
            Some(known) if known.rank(&object) == Ordering::Equal => {
                return Some(std::mem::replace(known, object));
            }
            _ => run.insert(place, object),
        }
        if run.len() > RUN {
            let upper = run.split_off(RUN / 2);
            runs.insert(at + 1, Arc::new(upper));
        }
        None
    }
}

/// A part of a set as it was when the walk was begun. Cheap to clone.
#[derive(Debug)]
pub struct Walk<T> {
    runs: Arc<Vec<Arc<Run<T>>>>,
    next: (usize, usize),
    end: (usize, usize),
}

impl<T> Clone for Walk<T> {
    fn clone(&self) -> Self {
        Self { runs: Arc::clone(&self.runs), ..*self }
    }
}

impl<T> Walk<T> {
    /// The next objects, at most this many; none only at the end. They stay the next ones until they are passed.
    pub fn ahead(&self, most: usize) -> &[Arc<T>] {
        if self.next >= self.end {
            return &[];
        }
        let ((run, place), (last, end)) = (self.next, self.end);
        let objects = self.runs.get(run).map_or(&[][..], |objects| objects);
        let end = if run == last { end } else { objects.len() };
        objects.get(place..end.min(place.saturating_add(most))).unwrap_or_default()
    }

    /// Goes on behind this many of the objects that are [`Walk::ahead`].
    pub fn pass(&mut self, count: usize) {
        let (run, place) = self.next;
        let length = self.runs.get(run).map_or(0, |objects| objects.len());
        self.next = if place + count < length { (run, place + count) } else { (run + 1, 0) };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[derive(Debug, PartialEq)]
    struct Thing(u16, u32);

    impl Ranked for Thing {
        fn rank(&self, other: &Self) -> Ordering {
            self.0.cmp(&other.0)
        }
    }

    /// All objects, looked at in groups of some size and passed in smaller ones.
    fn all(mut walk: Walk<Thing>, most: usize) -> Vec<(u16, u32)> {
        let mut all = Vec::new();
        loop {
            let ahead = walk.ahead(most);
            assert!(ahead.len() <= most);
            let taken = ahead.len().div_ceil(2);
            if taken == 0 {
                return all;
            }
            all.extend(ahead[..taken].iter().map(|thing| (thing.0, thing.1)));
            walk.pass(taken);
        }
    }

    proptest! {
        #[test]
        fn it_is_an_ordered_map_whose_walks_stand_still(
            changes in vec((0_u16..600, any::<bool>()), 0..1500),
            from in 0_u16..700,
            length in 0_u16..200,
            most in 1_usize..300,
        ) {
            let mut model = BTreeMap::new();
            let mut sorted = Sorted::default();
            let mut walks = Vec::new();
            for (step, (key, add)) in changes.into_iter().enumerate() {
                if step % 100 == 0 {
                    walks.push((sorted.walk(|_: &Thing| Ordering::Equal), model.clone()));
                }
                let value = u32::try_from(step).unwrap();
                let (old, known) = if add {
                    (sorted.insert(Arc::new(Thing(key, value))), model.insert(key, value))
                } else {
                    (sorted.remove(|thing| thing.0.cmp(&key)), model.remove(&key))
                };
                prop_assert_eq!(old.map(|thing| thing.1), known);
                prop_assert_eq!(sorted.get(|thing| thing.0.cmp(&from)).map(|thing| thing.1), model.get(&from).copied());
            }
            prop_assert!(sorted.runs.iter().all(|run| !run.is_empty() && run.len() <= RUN));
            let to = from.saturating_add(length);
            let part = sorted.walk(|thing| match thing.0 {
                key if key < from => Ordering::Less,
                key if key >= to => Ordering::Greater,
                _ => Ordering::Equal,
            });
            prop_assert_eq!(all(part, most), model.range(from..to).map(|(key, value)| (*key, *value)).collect::<Vec<_>>());
            walks.push((sorted.walk(|_| Ordering::Equal), model));
            for (walk, model) in walks {
                prop_assert_eq!(all(walk, most), model.into_iter().collect::<Vec<_>>());
            }
        }
    }
}
