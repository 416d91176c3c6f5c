//! Which pod or container each record belongs to. Pure: records' ids and listings in, identities out.
//!
//! While no cgroup comes or goes an update is one comparison of ids. An id that a listing does not show is looked for
//! again after a growing number of walks: a directory that cannot be read now must not hide its pods for good, and one
//! that is none of ours must not force a listing each time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::collect::tree::{Listing, Role};
use crate::identify::Identity;

/// Most walks between two listings for an id that none has shown.
const RAREST: u64 = 64;

/// What is known of the records of the newest walk.
#[derive(Debug, Default)]
pub(super) struct Identities {
    walk: u64,
    /// In the records' order.
    entries: Vec<Entry>,
    /// Positions in ascending order of id.
    ascending: Vec<usize>,
}

#[derive(Debug, Clone)]
struct Entry {
    id: u64,
    /// The walk that showed it first.
    since: u64,
    /// It may be older than the walk that showed it first.
    late: bool,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Found(Cgroup),
    /// Not found by this many listings; the next attempt is due at the given walk.
    Unlisted {
        attempts: u32,
        due: u64,
    },
}

/// A cgroup that was found by its id.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    pub(super) path: Arc<Path>,
    pub(super) role: Role,
    pub(super) identity: Option<Arc<Identity>>,
}

impl Identities {
    /// Takes the ids of a new walk, in its order. `uncertain`: what is new among them may have been there before.
    /// Returns whether a listing is needed.
    pub(super) fn update(
        &mut self,
        ids: impl ExactSizeIterator<Item = u64> + Clone,
        uncertain: bool,
    ) -> bool {
        self.walk += 1;
        let same = ids.len() == self.entries.len()
            && self.entries.iter().zip(ids.clone()).all(|(entry, id)| entry.id == id);
        if !same {
            self.replace(ids, uncertain);
        }
        self.entries.iter().any(|entry| entry.is_due(self.walk))
    }

    fn replace(&mut self, ids: impl Iterator<Item = u64>, late: bool) {
        let since = self.walk;
        let mut before: HashMap<u64, Entry> = self.entries.drain(..).map(|entry| (entry.id, entry)).collect();
        self.entries.extend(ids.map(|id| {
            before.remove(&id).unwrap_or(Entry {
                id,
                since,
                late,
                state: State::Unlisted { attempts: 0, due: since },
            })
        }));
        self.ascending.clear();
        self.ascending.extend(0..self.entries.len());
        let entries = &self.entries;
        self.ascending.sort_unstable_by_key(|at| entries.get(*at).map(|entry| entry.id));
    }

    /// Takes what a listing shows.
    pub(super) fn learn(&mut self, listing: Listing) {
        let mut shown: HashMap<u64, Cgroup> = listing
            .directories
            .into_iter()
            .map(|found| {
                let path: Arc<Path> = found.path.into();
                (found.id.0, Cgroup { path, role: found.role, identity: found.identity })
            })
            .collect();
        for entry in &mut self.entries {
            let State::Unlisted { attempts, .. } = entry.state else { continue };
            entry.state = match shown.remove(&entry.id) {
                Some(cgroup) => {
                    entry.late |= entry.since < self.walk;
                    State::Found(cgroup)
                }
                None => State::Unlisted {
                    attempts: attempts.saturating_add(1),
                    due: self.walk + (1 << attempts.min(6)).min(RAREST),
                },
            };
        }
    }

    /// Positions of the records in ascending order of their ids, with what was found and whether it may be older than the
    /// walk that showed it first.
    pub(super) fn ascending(&self) -> impl Iterator<Item = (usize, &Cgroup, bool)> {
        self.ascending.iter().filter_map(|at| match self.entries.get(*at)? {
            Entry { state: State::Found(cgroup), late, .. } => Some((*at, cgroup, *late)),
            Entry { state: State::Unlisted { .. }, .. } => None,
        })
    }

    /// Ids that no listing has shown.
    pub(super) fn unlisted(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.state, State::Unlisted { .. })).count()
    }
}

impl Entry {
    fn is_due(&self, walk: u64) -> bool {
        matches!(self.state, State::Unlisted { due, .. } if due <= walk)
    }
}

#[cfg(test)]
mod tests;
