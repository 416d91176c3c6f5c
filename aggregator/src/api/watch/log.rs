//! What changed since: the newest state of every object with the version at which it changed last, and for a bounded
//! number of departures the state from before. Enough to tell a client at any version since the oldest departure what it
//! has to do to have the state of now. Pure: no clock, no encoding.
//!
//! No event is stored. Objects change with every report, so a list of events would grow by the cluster's size each
//! second; here a client that lags is given the newest state of an object, once, and needs no memory of its own but its
//! version. What must not be lost on the way is that an object *left* the client's selection: departures are kept, each
//! with its version, and are told at that version even if the object came back since. A client may therefore stop
//! in the middle of what it is told and resume from the last version that it saw.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::Arc,
};

#[cfg(test)]
mod tests;

/// What is logged.
pub trait Item: Clone {
    /// Whether selectors cannot tell the two apart.
    fn is_selected_like(&self, other: &Self) -> bool;
}

/// Namespace (empty for cluster scope) and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// `metadata.namespace`
    pub namespace: Arc<str>,
    /// `metadata.name`
    pub name: Arc<str>,
}

/// What happened to an object, as seen through a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is in the selection now.
    Added,
    /// It has other values, or labels that are selected too.
    Modified,
    /// It is no longer in the selection.
    Deleted,
}

/// Something to be told to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event<T> {
    /// When: a client that has seen all events up to here may resume from it.
    pub sequence: u64,
    /// What.
    pub kind: Kind,
    /// The newest state; of what left the selection, the last one in it.
    pub item: T,
}

/// The log no longer, or not yet, knows what changed since that version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Expired {
    /// The sequence number asked from.
    pub asked: u64,
    /// The oldest that can be resumed from.
    pub oldest: u64,
}

/// The states of all objects of one resource.
#[derive(Debug)]
pub struct Log<T> {
    /// Of the newest change.
    sequence: u64,
    /// Departures before this one are forgotten.
    oldest: u64,
    /// How many departures are kept.
    keep: usize,
    records: BTreeMap<Key, Vec<Run<T>>>,
    /// Every record by the sequence number of its newest change.
    order: BTreeMap<u64, Key>,
    /// The ends of runs, oldest first.
    departures: VecDeque<(u64, Key)>,
}

/// A time in which an object existed with one set of labels.
#[derive(Debug)]
struct Run<T> {
    from: u64,
    /// When it ended; the run's last state was there until just before.
    until: Option<u64>,
    changed: u64,
    item: T,
}

impl<T> Run<T> {
    fn newest(&self) -> u64 {
        self.until.unwrap_or(self.changed)
    }

    fn ends_after(&self, sequence: u64) -> bool {
        self.until.is_none_or(|until| until > sequence)
    }
}

impl<T: Item> Log<T> {
    /// An empty log that keeps this many departures.
    pub fn new(keep: usize) -> Self {
        Self {
            sequence: 0,
            oldest: 0,
            keep,
            records: BTreeMap::new(),
            order: BTreeMap::new(),
            departures: VecDeque::new(),
        }
    }

    /// Sequence number of the newest change.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The oldest sequence number that can be resumed from.
    pub fn oldest(&self) -> u64 {
        self.oldest
    }

    /// The objects by key.
    pub fn objects(&self) -> impl Iterator<Item = (&Key, &T)> {
        let live = |runs: &'_ Vec<Run<T>>| runs.last().is_some_and(|run| run.until.is_none());
        let present = self.records.iter().filter(move |(_, runs)| live(runs));
        present.filter_map(|(key, runs)| Some((key, &runs.last()?.item)))
    }

    /// The object of that key, with the sequence number of its newest change.
    pub fn get(&self, key: &Key) -> Option<(u64, &T)> {
        let run = self.records.get(key)?.last().filter(|run| run.until.is_none())?;
        Some((run.changed, &run.item))
    }

    /// The objects (of one namespace) by key, each with the sequence number of its newest change.
    pub fn list<'a>(&'a self, namespace: Option<&'a str>) -> impl Iterator<Item = (u64, &'a T)> {
        let from = Key { namespace: namespace.unwrap_or_default().into(), name: "".into() };
        self.records
            .range(from..)
            .take_while(move |(key, _)| namespace.is_none_or(|namespace| &*key.namespace == namespace))
            .filter_map(|(_, runs)| runs.last().filter(|run| run.until.is_none()))
            .map(|run| (run.changed, &run.item))
    }

    /// Adds an object, or replaces its state.
    pub fn put(&mut self, key: Key, item: T) {
        self.sequence += 1;
        let now = self.sequence;
        let runs = self.records.entry(key.clone()).or_default();
        if let Some(newest) = runs.last() {
            self.order.remove(&newest.newest());
        }
        match runs.last_mut().filter(|run| run.until.is_none()) {
            Some(run) if run.item.is_selected_like(&item) => {
                run.changed = now;
                run.item = item;
            }
            live => {
                if let Some(run) = live {
                    run.until = Some(now);
                    self.departures.push_back((now, key.clone()));
                }
                runs.push(Run { from: now, until: None, changed: now, item });
            }
        }
        self.order.insert(now, key);
        self.forget();
    }

    /// Removes an object; nothing if there is none.
    pub fn remove(&mut self, key: &Key) {
        let Some(runs) = self.records.get_mut(key) else { return };
        let Some(run) = runs.last_mut().filter(|run| run.until.is_none()) else { return };
        self.sequence += 1;
        self.order.remove(&run.changed);
        run.until = Some(self.sequence);
        self.order.insert(self.sequence, key.clone());
        self.departures.push_back((self.sequence, key.clone()));
        self.forget();
    }

    fn forget(&mut self) {
        while self.departures.len() > self.keep {
            let Some((until, key)) = self.departures.pop_front() else { return };
            self.oldest = until;
            let Some(runs) = self.records.get_mut(&key) else { continue };
            runs.retain(|run| run.until != Some(until));
            if runs.is_empty() {
                self.order.remove(&until);
                self.records.remove(&key);
            }
        }
    }

    /// All that is selected, as events in the order of their versions.
    pub fn all(&self, selects: impl Fn(&T) -> bool) -> Vec<Event<T>> {
        let runs = self.order.values().filter_map(|key| self.records.get(key)?.last());
        runs.filter(|run| run.until.is_none() && selects(&run.item))
            .map(|run| Event { sequence: run.changed, kind: Kind::Added, item: run.item.clone() })
            .collect()
    }

    /// What a client has to be told that has the selection's state as of `seen`, in the order of versions.
    pub fn since(&self, seen: u64, selects: impl Fn(&T) -> bool) -> Result<Vec<Event<T>>, Expired> {
        if seen < self.oldest || seen > self.sequence {
            return Err(Expired { asked: seen, oldest: self.oldest });
        }
        let mut events = Vec::new();
        for key in self.order.range((Bound::Excluded(seen), Bound::Unbounded)).map(|(_, key)| key) {
            if let Some(runs) = self.records.get(key) {
                tell(runs, seen, &selects, &mut events);
            }
        }
        events.sort_unstable_by_key(|event| event.sequence);
        Ok(events)
    }
}

/// Appends what is to be told of one object: that it left, at the moment when it first did, and that it is there.
fn tell<T: Item>(runs: &[Run<T>], seen: u64, selects: impl Fn(&T) -> bool, events: &mut Vec<Event<T>>) {
    // The last run that was selected without interruption since `seen`, and when the selection ended.
    let mut had: Option<&Run<T>> = None;
    let mut left = None;
    let mut selected: Option<&Run<T>> = None;
    let mut end = seen;
    for run in runs.iter().filter(|run| run.ends_after(seen)) {
        let is_selected = selects(&run.item);
        if run.from <= seen {
            had = Some(run).filter(|_| is_selected);
        } else if had.is_some() && left.is_none() {
            // A gap before this run, or labels that are not selected.
            let interrupted = if end < run.from { Some(end) } else { None };
            left = interrupted.or_else(|| (!is_selected).then_some(run.from));
            if left.is_none() {
                had = Some(run);
            }
        }
        selected = Some(run).filter(|_| is_selected);
        end = run.until.unwrap_or(u64::MAX);
    }
    if end != u64::MAX {
        selected = None;
        left = left.or_else(|| had.map(|_| end));
    }
    if let (Some(had), Some(left)) = (had, left) {
        events.push(Event { sequence: left, kind: Kind::Deleted, item: had.item.clone() });
    }
    if let Some(run) = selected.filter(|run| run.changed > seen) {
        let kind = if had.is_some() && left.is_none() { Kind::Modified } else { Kind::Added };
        events.push(Event { sequence: run.changed, kind, item: run.item.clone() });
    }
}
