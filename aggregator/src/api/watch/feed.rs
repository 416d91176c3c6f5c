//! The log of one resource with what its readers need: consistent lists, versions of one epoch, and a wake-up at each
//! change. Writers hold its lock for one node's objects at a time, readers for one pass; neither waits for a client.

use parking_lot::RwLock;
use tokio::sync::watch;

use super::{
    log::{Event, Item, Key, Log},
    version::{Epoch, LAST_SEQUENCE, ResourceVersion},
};
use crate::api::object::Object;

/// Departures that are kept: a cluster in which 100 pods leave each second can be resumed for over a minute.
const DEPARTURES: usize = 8192;
/// A new epoch begins this long before the numbers of the old one are used up.
const RESERVE: u64 = 1 << 24;

/// What is watched: NodeMetrics or PodMetrics.
pub trait Watched: Object + Item + Send + Sync + 'static {
    /// Whether all that is served of the two is equal.
    fn is_served_like(&self, other: &Self) -> bool;

    /// The same with `metadata.resourceVersion`.
    #[must_use]
    fn versioned(&self, version: ResourceVersion) -> Self;
}

/// One resource.
#[derive(Debug)]
pub struct Feed<T> {
    state: RwLock<State<T>>,
    changed: watch::Sender<()>,
}

#[derive(Debug)]
struct State<T> {
    epoch: Epoch,
    log: Log<T>,
}

/// What a client has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// Nothing: everything is to be told.
    Nothing,
    /// All up to that version.
    Upto(ResourceVersion),
}

/// What a client has to be told, each object with the version of its event, and what it has seen after that.
#[derive(Debug)]
pub struct Pass<T> {
    /// In the order of their versions.
    pub events: Vec<Event<T>>,
    /// The newest version.
    pub upto: ResourceVersion,
}

/// A version from which nothing can be resumed: too old, or not of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Gone {
    asked: ResourceVersion,
    oldest: ResourceVersion,
}

impl<T: Item> Default for Feed<T> {
    /// An empty log of an epoch of its own.
    fn default() -> Self {
        let (changed, _) = watch::channel(());
        let state = State { epoch: Epoch::new(fastrand::u64(..)), log: Log::new(DEPARTURES) };
        Self { state: RwLock::new(state), changed }
    }
}

impl<T: Watched> Feed<T> {
    /// Becomes ready after each change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The newest version.
    pub fn version(&self) -> ResourceVersion {
        let state = self.state.read();
        state.epoch.version(state.log.sequence())
    }

    /// All (of one namespace) that are selected, by namespace and name, and the version at which this is so.
    pub fn list(&self, namespace: Option<&str>, selects: impl Fn(&T) -> bool) -> (ResourceVersion, Vec<T>) {
        let state = self.state.read();
        let selected = state.log.list(namespace).filter(|(_, item)| selects(item));
        let items = selected.map(|(changed, item)| item.versioned(state.epoch.version(changed))).collect();
        (state.epoch.version(state.log.sequence()), items)
    }

    /// One object.
    pub fn get(&self, key: &Key) -> Option<T> {
        let state = self.state.read();
        state.log.get(key).map(|(changed, item)| item.versioned(state.epoch.version(changed)))
    }

    /// Whether any object is so.
    pub fn any(&self, is_so: impl Fn(&T) -> bool) -> bool {
        self.state.read().log.list(None).any(|(_, item)| is_so(item))
    }

    /// What a client has to be told that has seen so much.
    pub fn pass(&self, seen: Seen, selects: impl Fn(&T) -> bool) -> Result<Pass<T>, Gone> {
        let state = self.state.read();
        let epoch = state.epoch;
        let mut events = match seen {
            Seen::Nothing => state.log.all(selects),
            Seen::Upto(asked) => {
                let oldest = epoch.version(state.log.oldest());
                let sequence = epoch.sequence(asked).ok_or(Gone { asked, oldest })?;
                state.log.since(sequence, selects).map_err(|_| Gone { asked, oldest })?
            }
        };
        for event in &mut events {
            event.item = event.item.versioned(epoch.version(event.sequence));
        }
        Ok(Pass { events, upto: epoch.version(state.log.sequence()) })
    }

    /// Takes the newest state of some objects: `present` replaces what was known, `absent` goes if `leaves` agrees.
    /// Whoever waits is woken if that changed anything.
    pub fn take(
        &self,
        present: impl Iterator<Item = (Key, T)>,
        absent: impl Iterator<Item = Key>,
        leaves: impl Fn(&T) -> bool,
    ) {
        let changed = {
            let mut state = self.state.write();
            let log = &mut state.log;
            let before = log.sequence();
            for (key, item) in present {
                if log.get(&key).is_none_or(|(_, known)| !known.is_served_like(&item)) {
                    log.put(key, item);
                }
            }
            for key in absent {
                if log.get(&key).is_some_and(|(_, known)| leaves(known)) {
                    log.remove(&key);
                }
            }
            let changed = log.sequence() != before;
            if log.sequence() > LAST_SEQUENCE - RESERVE {
                state.renew();
            }
            changed
        };
        if changed {
            self.changed.send_replace(());
        }
    }
}

impl<T: Item> State<T> {
    /// The same objects in a new epoch: every version of the old one is gone.
    fn renew(&mut self) {
        let mut log = Log::new(DEPARTURES);
        for (key, item) in self.log.objects() {
            log.put(key.clone(), item.clone());
        }
        // Never the same one again by chance.
        let old = self.epoch;
        while self.epoch == old {
            self.epoch = Epoch::new(fastrand::u64(..));
        }
        self.log = log;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone)]
    struct Letter(char);

    impl Item for Letter {
        fn is_selected_like(&self, _: &Self) -> bool {
            true
        }
    }

    #[test]
    fn a_new_epoch_has_the_objects_of_the_old_one_and_none_of_its_versions() {
        let mut state = State { epoch: Epoch::new(1), log: Log::new(4) };
        let key = |name: &str| Key { namespace: "".into(), name: name.into() };
        for (name, letter) in [("a", 'x'), ("b", 'y'), ("c", 'z')] {
            state.log.put(key(name), Letter(letter));
        }
        state.log.remove(&key("b"));
        let (old, version) = (state.epoch, state.epoch.version(state.log.sequence()));
        state.renew();
        assert_ne!(state.epoch, old);
        assert_eq!(state.epoch.sequence(version), None);
        assert_eq!(state.log.list(None).map(|(_, letter)| letter.0).collect::<String>(), "xz");
    }
}
