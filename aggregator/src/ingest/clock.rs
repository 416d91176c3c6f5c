//! When a node's samples were taken, on this process's monotonic clock. Pure: instants are passed in.
//!
//! A message that is received at `r` with a sample of boot time `b` was under way for `r − b − d`, where `d` is the
//! unknown difference between the two clocks. The smallest `r − b` of late is taken for `d`, so a sample looks younger
//! than it is by the shortest delay of late: the network's, some milliseconds. The difference changes where one clock is
//! slewed (a few hundred ppm: some ten milliseconds a minute), and where the node's clock stands still because a
//! hypervisor paused the machine.

use std::time::{Duration, Instant};

use crate::units::BootTime;

/// Minima are kept for this half minute and the one before, so the smallest delay is that of the last 30 to 60 s.
const HALF: Duration = Duration::from_secs(30);
/// A message can be under way for this long. Where all of them seem to be for [`CONFIRMED_AFTER`], it is the node's
/// clock that stood still.
const LONGEST_DELAY_NS: i128 = 1_000_000_000;
const CONFIRMED_AFTER: Duration = Duration::from_secs(3);
/// A burst of messages that were held up together is over sooner, or has at least one that was not late.
const CONFIRMED_BY: u32 = 3;

/// Follows the difference between a node's boot clock and ours.
#[derive(Debug, Clone)]
pub(super) struct NodeClock {
    origin: Instant,
    /// Smallest difference of the half minute that ends at `turn`, and of the one before, ns.
    current: i128,
    previous: i128,
    turn: Instant,
    late: Option<Late>,
}

/// Messages in a row that were all under way for too long.
#[derive(Debug, Clone, Copy)]
struct Late {
    since: Instant,
    messages: u32,
    /// The smallest difference of them, ns.
    smallest: i128,
}

impl NodeClock {
    /// From a first message that says the node's time is `boot` and was received at `received`.
    pub(super) fn new(boot: BootTime, received: Instant) -> Self {
        let current = -i128::from(boot.0);
        Self { origin: received, current, previous: current, turn: received + HALF, late: None }
    }

    /// Takes another such message into account. A replayed one says nothing: it was kept on purpose.
    pub(super) fn observe(&mut self, boot: BootTime, received: Instant) {
        let difference = self.since_origin(received) - i128::from(boot.0);
        if received >= self.turn {
            let skipped = received >= self.turn + HALF;
            self.previous = if skipped { difference } else { self.current };
            self.current = difference;
            self.turn = received + HALF;
        }
        self.current = self.current.min(difference);
        if difference - self.difference() <= LONGEST_DELAY_NS {
            self.late = None;
            return;
        }
        // A run that became even later is another one: the clock stood still again.
        let same = self.late.filter(|late| difference - late.smallest <= LONGEST_DELAY_NS);
        let late = same.unwrap_or(Late { since: received, messages: 0, smallest: difference });
        let late = self.late.insert(late);
        late.messages += 1;
        late.smallest = late.smallest.min(difference);
        let confirmed = received.saturating_duration_since(late.since) >= CONFIRMED_AFTER;
        if confirmed && late.messages >= CONFIRMED_BY {
            (self.current, self.previous) = (late.smallest, late.smallest);
            self.late = None;
        }
    }

    /// How old a sample of `boot` is at `now`; zero if it seems to be of the future.
    pub(super) fn age(&self, boot: BootTime, now: Instant) -> Duration {
        let age_ns = self.since_origin(now) - i128::from(boot.0) - self.difference();
        u64::try_from(age_ns.max(0)).map_or(Duration::MAX, Duration::from_nanos)
    }

    fn difference(&self) -> i128 {
        self.current.min(self.previous)
    }

    /// Nanoseconds from the origin to that instant.
    fn since_origin(&self, at: Instant) -> i128 {
        let ns = |span: Duration| i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
        match at.checked_duration_since(self.origin) {
            Some(after) => ns(after),
            None => -ns(self.origin.duration_since(at)),
        }
    }
}

#[cfg(test)]
mod tests;
