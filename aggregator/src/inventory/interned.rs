//! What many objects have in common, kept once: the replicas of a workload have the same labels, the pods of a node the same
//! name of it. It saves memory, and the time to fetch it when a long list is written.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use super::{ContainerNames, Labels};

/// A value whose clones share one allocation.
pub trait Counted: Clone + Eq + Hash {
    /// Whether there are clones.
    fn is_shared(&self) -> bool;
}

impl Counted for Arc<str> {
    fn is_shared(&self) -> bool {
        Arc::strong_count(self) > 1
    }
}

impl Counted for Labels {
    fn is_shared(&self) -> bool {
        self.clones() > 1
    }
}

impl Counted for ContainerNames {
    fn is_shared(&self) -> bool {
        self.clones() > 1
    }
}

/// The values that somebody has, and some that nobody has any more: at most about as many again.
#[derive(Debug)]
pub struct Interned<T> {
    known: HashSet<T>,
    sweep_at: usize,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self { known: HashSet::new(), sweep_at: 64 }
    }
}

impl<T: Counted> Interned<T> {
    /// The value that was known before and is equal, or this one.
    pub fn share(&mut self, value: &mut T) {
        if let Some(known) = self.known.get(value) {
            *value = known.clone();
            return;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(T::is_shared);
            self.sweep_at = (2 * self.known.len()).max(64);
        }
        self.known.insert(value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_become_one_and_what_nobody_has_goes() {
        let mut interned = Interned::default();
        let mut first: Arc<str> = "n1".into();
        let mut second: Arc<str> = "n1".into();
        interned.share(&mut first);
        interned.share(&mut second);
        assert!(Arc::ptr_eq(&first, &second));
        for index in 0..10_000 {
            interned.share(&mut format!("gone-{index}").into());
        }
        assert!(interned.known.len() <= 64, "{}", interned.known.len());
        let mut third: Arc<str> = "n1".into();
        interned.share(&mut third);
        assert!(Arc::ptr_eq(&first, &third), "what somebody has stays");

        let mut labels = Interned::default();
        let (mut one, mut other) = (Labels::of([("a", "b")]), Labels::of([("a", "b")]));
        labels.share(&mut one);
        labels.share(&mut other);
        assert!(one.is_shared() && std::ptr::eq(one.json(), other.json()));
    }
}
