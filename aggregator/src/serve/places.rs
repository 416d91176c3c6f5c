//! Places for connections. When they are full, a peer that has proved nothing and asks for nothing makes room.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{Limits, Metrics};

/// What a connection without an identity has shown so far. The first of this order is the first to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shown {
    /// No complete TLS handshake.
    Nothing,
    /// A TLS handshake.
    Handshake,
    /// A request that was answered.
    Request,
}

pub(super) struct Places {
    connections: usize,
    unproven: usize,
    metrics: Metrics,
    state: Mutex<State>,
    /// A place may have become free, or a connection can be closed.
    changed: Notify,
}

#[derive(Default)]
struct State {
    next: u64,
    open: usize,
    unproven: usize,
    /// Connections that can be closed; within one kind the oldest first.
    evictable: BTreeMap<(Shown, u64), CancellationToken>,
}

impl Places {
    pub(super) fn new(limits: &Limits, metrics: Metrics) -> Arc<Self> {
        let Limits { connections, unproven, .. } = *limits;
        Arc::new(Self { connections, unproven, metrics, state: Mutex::default(), changed: Notify::new() })
    }

    /// A place for a connection that was just accepted. Waits only while every connection is of use.
    pub(super) async fn take(self: &Arc<Self>) -> Place {
        loop {
            if let Some(place) = self.try_take() {
                return place;
            }
            self.changed.notified().await;
        }
    }

    /// A place; without one, the connection that makes room is told to close.
    fn try_take(self: &Arc<Self>) -> Option<Place> {
        let mut state = self.state.lock();
        if state.open >= self.connections || state.unproven >= self.unproven {
            if let Some((_, victim)) = state.evictable.pop_first() {
                self.metrics.connection_closed("evicted");
                victim.cancel();
            }
            return None;
        }
        let id = state.next;
        state.next += 1;
        state.open += 1;
        state.unproven += 1;
        drop(state);
        self.metrics.connections.inc();
        let place = Place {
            places: Arc::clone(self),
            id,
            evicted: CancellationToken::new(),
            phase: Mutex::new(Phase::InUse),
        };
        place.expose(Shown::Nothing);
        Some(place)
    }
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Its turn of the handshake or a request is in progress.
    InUse,
    Evictable(Shown),
    Proven,
}

/// The place of one connection.
pub(super) struct Place {
    places: Arc<Places>,
    id: u64,
    evicted: CancellationToken,
    phase: Mutex<Phase>,
}

impl Place {
    /// Returns when the connection must make room.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }

    /// From now on the connection may be closed to make room, unless its peer is proven.
    pub(super) fn expose(&self, shown: Shown) {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Proven) {
            return;
        }
        let mut state = self.places.state.lock();
        self.withdraw(*phase, &mut state);
        state.evictable.insert((shown, self.id), self.evicted.clone());
        *phase = Phase::Evictable(shown);
        drop(state);
        self.places.changed.notify_one();
    }

    /// From now on it is not closed to make room.
    pub(super) fn protect(&self) {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Evictable(_)) {
            self.withdraw(*phase, &mut self.places.state.lock());
            *phase = Phase::InUse;
        }
    }

    /// The peer proved an identity: the connection counts as one of those for good.
    pub(super) fn prove(&self) {
        let mut phase = self.phase.lock();
        if matches!(*phase, Phase::Proven) {
            return;
        }
        let mut state = self.places.state.lock();
        self.withdraw(*phase, &mut state);
        state.unproven -= 1;
        *phase = Phase::Proven;
        drop(state);
        self.places.changed.notify_one();
    }

    fn withdraw(&self, phase: Phase, state: &mut State) {
        if let Phase::Evictable(shown) = phase {
            state.evictable.remove(&(shown, self.id));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let phase = *self.phase.get_mut();
        let mut state = self.places.state.lock();
        self.withdraw(phase, &mut state);
        state.open -= 1;
        if !matches!(phase, Phase::Proven) {
            state.unproven -= 1;
        }
        drop(state);
        self.places.metrics.connections.dec();
        self.places.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn places(connections: usize, unproven: usize) -> Arc<Places> {
        Places::new(&Limits { connections, unproven, ..Limits::api() }, Metrics::default())
    }

    fn must_go(place: &Place) -> bool {
        place.evicted.is_cancelled()
    }

    #[test]
    fn the_oldest_peer_that_showed_least_makes_room() {
        let places = places(10, 4);
        let [asked, shaken, old, young] = [(); 4].map(|()| places.try_take().unwrap());
        asked.expose(Shown::Request);
        shaken.expose(Shown::Handshake);
        for victim in [&old, &young, &shaken, &asked] {
            assert!(!must_go(victim));
            assert!(places.try_take().is_none());
            assert!(must_go(victim));
        }
        drop(old);
        assert!(places.try_take().is_some());
    }

    #[test]
    fn requests_in_progress_and_proven_peers_stay() {
        let places = places(3, 2);
        let (proven, busy) = (places.try_take().unwrap(), places.try_take().unwrap());
        proven.prove();
        proven.expose(Shown::Request);
        busy.protect();
        let other = places.try_take().unwrap();
        other.protect();
        assert!(places.try_take().is_none());
        assert!(![&proven, &busy, &other].into_iter().any(must_go));
        let mut waiting = Box::pin(places.take());
        assert!(waiting.as_mut().now_or_never().is_none());
        busy.expose(Shown::Request);
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(must_go(&busy), "it is of no use any more");
        drop(busy);
        assert!(waiting.now_or_never().is_some());
    }
}
