//! When to try again. Pure: time and chance are passed in.

use std::time::Duration;

/// A loss is recent for this long: retries stay frequent, for an aggregator that restarts is soon back.
const RECENT: Duration = Duration::from_mins(2);
const FIRST: Duration = Duration::from_millis(250);
const RECENT_CAP: Duration = Duration::from_secs(1);
const CAP: Duration = Duration::from_mins(1);
/// A stream that was live for this long worked, so its end is a new failure. The streams of a broken agent end sooner.
const WORKED: Duration = Duration::from_secs(10);

/// How a stream, or an attempt at one, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As planned: a new stream is wanted at once.
    Planned,
    /// A live stream was lost.
    Lost,
    /// There was no connection.
    Unreachable,
    /// The aggregator does not want this stream.
    Refused,
    /// A newer stream of this node took its place: another agent runs here.
    Superseded,
}

impl Ended {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Lost => "lost",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
        }
    }
}

/// Delays of one address.
#[derive(Debug, Clone)]
pub struct Backoff {
    spread: Duration,
    failures: u32,
    /// Time waited since a stream was live.
    waited: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { spread: RECENT_CAP, failures: 0, waited: Duration::ZERO }
    }
}

impl Backoff {
    /// A stream was live for `span`; its aggregator wants a first reconnect spread over `spread`.
    ///
    /// A stream that is refused soon after its welcome does not reset the backoff, nor one that is superseded before
    /// the longest wait is over. Otherwise two agents on one node would supersede each other twice a second,
    /// indefinitely.
    pub fn was_live(&mut self, spread: Duration, span: Duration, ended: Ended) {
        self.spread = spread;
        let least = match ended {
            Ended::Planned | Ended::Lost | Ended::Unreachable => Duration::ZERO,
            Ended::Refused => WORKED,
            Ended::Superseded => RECENT,
        };
        if span >= least {
            *self = Self { spread, ..Self::default() };
        }
    }

    /// Attempts that failed since a stream was live.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// How long to wait. `chance` is uniform in [0, 1).
    pub fn delay(&mut self, ended: Ended, chance: f64) -> Duration {
        let ceiling = match ended {
            Ended::Planned => Duration::ZERO,
            Ended::Lost => self.spread,
            Ended::Unreachable if self.waited < RECENT => {
                (FIRST * 2_u32.saturating_pow(self.failures)).min(RECENT_CAP.max(self.spread))
            }
            Ended::Unreachable | Ended::Refused | Ended::Superseded => {
                (RECENT_CAP * 2_u32.saturating_pow(self.failures.min(16))).min(CAP)
            }
        };
        if ended != Ended::Planned {
            self.failures = self.failures.saturating_add(1);
        }
        let delay = ceiling.mul_f64(chance);
        self.waited += ceiling / 2;
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planned_end_waits_for_nothing() {
        assert_eq!(Backoff::default().delay(Ended::Planned, 0.99), Duration::ZERO);
    }

    #[test]
    fn the_first_attempt_is_spread_as_the_aggregator_asked() {
        let mut backoff = Backoff::default();
        backoff.was_live(Duration::from_secs(5), Duration::ZERO, Ended::Lost);
        assert_eq!(backoff.delay(Ended::Lost, 0.5), Duration::from_millis(2500));
    }

    #[test]
    fn while_the_loss_is_recent_no_wait_is_longer_than_a_second() {
        let mut backoff = Backoff::default();
        backoff.was_live(Duration::from_secs(1), Duration::ZERO, Ended::Lost);
        assert!(backoff.delay(Ended::Lost, 1.0) <= RECENT_CAP);
        let mut total = Duration::ZERO;
        while total < Duration::from_secs(100) {
            let delay = backoff.delay(Ended::Unreachable, 1.0);
            assert!(delay <= RECENT_CAP, "{delay:?} after {total:?}");
            total += delay;
        }
        assert_eq!(Backoff::default().delay(Ended::Unreachable, 1.0), FIRST);
    }

    #[test]
    fn later_waits_grow_to_a_minute_and_no_further() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..400).map(|_| backoff.delay(Ended::Unreachable, 1.0)).collect();
        assert!(delays.contains(&CAP) && delays.iter().all(|delay| *delay <= CAP));
        let mut refused = Backoff::default();
        let delays: Vec<_> = (0..8).map(|_| refused.delay(Ended::Refused, 1.0).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn a_stream_that_worked_for_a_while_starts_the_waits_again() {
        for (span, first) in [(9, 16), (10, 1)] {
            let mut backoff = Backoff::default();
            for _ in 0..4 {
                backoff.delay(Ended::Refused, 1.0);
            }
            backoff.was_live(RECENT_CAP, Duration::from_secs(span), Ended::Refused);
            assert_eq!(backoff.delay(Ended::Refused, 1.0).as_secs(), first, "after {span} s");
        }
    }

    #[test]
    fn two_agents_of_one_node_supersede_each_other_ever_more_rarely() {
        let mut backoff = Backoff::default();
        let mut delays = Vec::new();
        for _ in 0..4 {
            backoff.was_live(RECENT_CAP, Duration::from_secs(1), Ended::Superseded);
            delays.push(backoff.delay(Ended::Superseded, 1.0).as_secs());
        }
        assert_eq!(delays, [1, 2, 4, 8]);
        backoff.was_live(RECENT_CAP, RECENT, Ended::Superseded);
        assert_eq!(backoff.delay(Ended::Superseded, 1.0).as_secs(), 1);
    }
}
