//! How often the API server is asked at most. Only says how long to wait; waiting is the caller's.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// This many at once, then one each interval (the limits of upstream's client for reviews).
const BURST: u32 = 400;
const INTERVAL: Duration = Duration::from_millis(5);

/// A limit on reviews.
pub(super) struct Rate {
    /// When all that was let go would have been let go without a burst.
    level: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new() -> Self {
        Self { level: Mutex::new(None) }
    }

    /// How long the next one has to wait, at most `longest`; `None`: it may not go at all.
    pub(super) fn take(&self, now: Instant, longest: Duration) -> Option<Duration> {
        let mut level = self.level.lock();
        let begin = level.map_or(now, |level| level.max(now));
        let wait = (begin - now).saturating_sub(INTERVAL * (BURST - 1));
        if wait > longest {
            return None;
        }
        *level = Some(begin + INTERVAL);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_a_steady_pace_then_no_more() {
        let (rate, began) = (Rate::new(), Instant::now());
        let take = |after: Duration| rate.take(began + after, Duration::from_secs(1));
        for position in 0..BURST {
            assert_eq!(take(Duration::ZERO), Some(Duration::ZERO), "{position}");
        }
        for position in 1..=200 {
            assert_eq!(take(Duration::ZERO), Some(INTERVAL * position));
        }
        assert_eq!(take(Duration::ZERO), None, "more than a second away");
        // What was refused left no trace: after a second exactly one second's worth may go at once again.
        assert_eq!(take(Duration::from_secs(1)), Some(INTERVAL));
        assert_eq!(take(Duration::from_mins(1)), Some(Duration::ZERO));
    }
}
