//! How a connection is used, and when it is time to close it.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    Limits,
    places::{Place, Shown},
};

pub(super) struct Usage {
    pub(super) place: Place,
    state: Mutex<State>,
    /// The last request ended, or the first one began, or a response was the last.
    pub(super) changed: Notify,
}

struct State {
    /// There was a request.
    used: bool,
    in_flight: usize,
    /// Since when there is no request in flight.
    since: Instant,
    last_response: bool,
}

/// Why a connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// No request came behind the handshake.
    Silent,
    /// No request came for long.
    Idle,
    /// The peer does not close it.
    Lingering,
}

impl Usage {
    pub(super) fn begin(place: Place) -> Self {
        let state = State { used: false, in_flight: 0, since: Instant::now(), last_response: false };
        Self { place, state: Mutex::new(state), changed: Notify::new() }
    }

    /// A request begins.
    pub(super) fn request(self: &Arc<Self>) -> InFlight {
        let mut state = self.state.lock();
        state.in_flight += 1;
        if state.in_flight == 1 {
            self.place.protect();
        }
        if !std::mem::replace(&mut state.used, true) {
            self.changed.notify_one();
        }
        drop(state);
        InFlight(Arc::clone(self))
    }

    /// The connection is to take no more requests.
    pub(super) fn last_response(&self) {
        self.state.lock().last_response = true;
        self.changed.notify_one();
    }

    pub(super) fn had_last_response(&self) -> bool {
        self.state.lock().last_response
    }

    /// When the connection is to be closed if nothing happens, and why. `leaving` is since when it takes no more requests.
    pub(super) fn due(&self, limits: &Limits, leaving: Option<Instant>) -> Option<(Instant, Due)> {
        let state = self.state.lock();
        if state.in_flight > 0 {
            return None;
        }
        Some(match leaving {
            Some(leaving) => (state.since.max(leaving) + limits.linger, Due::Lingering),
            None if state.used => (state.since + limits.idle, Due::Idle),
            None => (state.since + limits.first_request, Due::Silent),
        })
    }
}

/// A request in flight, to the end of its response.
pub(super) struct InFlight(Arc<Usage>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.in_flight -= 1;
        if state.in_flight == 0 {
            state.since = Instant::now();
            self.0.place.expose(Shown::Request);
            self.0.changed.notify_one();
        }
    }
}
