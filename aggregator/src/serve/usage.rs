//! How a connection is used: requests in flight and the time since the last one.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

pub(super) struct Usage {
    requests: AtomicUsize,
    /// When the newest request arrived or was answered.
    last: Mutex<Instant>,
    /// A response was the connection's last.
    pub(super) last_response: Notify,
}

impl Usage {
    pub(super) fn begin() -> Self {
        let last = Mutex::new(Instant::now());
        Self { requests: AtomicUsize::new(0), last, last_response: Notify::new() }
    }

    pub(super) fn request(&self) -> InFlight<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        InFlight(self)
    }

    /// Returns once the connection has been without a request for `limit`.
    pub(super) async fn idle(&self, limit: Duration) {
        loop {
            let end = *self.last.lock() + limit;
            tokio::time::sleep_until(end).await;
            let busy = self.requests.load(Ordering::Relaxed) > 0;
            let mut last = self.last.lock();
            if busy {
                *last = Instant::now();
            } else if *last + limit <= Instant::now() {
                return;
            }
        }
    }
}

/// A request that is being answered.
pub(super) struct InFlight<'a>(&'a Usage);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        *self.0.last.lock() = Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}
