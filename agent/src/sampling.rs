//! The thread that takes snapshots: nothing else runs on it, so nothing delays one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    collect::{CollectError, Collector, Refusal, Snapshot},
    report::Publisher,
    telemetry::Telemetry,
};

/// Share of the interval that walks may hold the kernel's `cgroup_mutex`: everything that creates or moves cgroups waits
/// for it. A walk that takes longer is made more rarely.
const MUTEX_SHARE: u32 = 10;
/// Most intervals between two snapshots, however long a walk takes.
const MOST_INTERVALS: u32 = 10;

/// A collector and where its snapshots go.
pub struct Sampling {
    collector: Box<dyn Collector>,
    publisher: Publisher,
    telemetry: Arc<Telemetry>,
    interval: Duration,
    stopped: Arc<AtomicBool>,
    status: (&'static str, Vec<Refusal>),
    failures: u32,
    every: u32,
}

impl Sampling {
    /// Takes a snapshot each `interval` until `stopped`.
    pub fn new(
        collector: Box<dyn Collector>,
        publisher: Publisher,
        telemetry: Arc<Telemetry>,
        interval: Duration,
        stopped: Arc<AtomicBool>,
    ) -> Self {
        let status = ("", Vec::new());
        Self { collector, publisher, telemetry, interval, stopped, status, failures: 0, every: 1 }
    }

    /// Runs until stopped; unpark the thread to end it at once.
    pub fn run(mut self) {
        let mut snapshot = Snapshot::default();
        let mut due = Instant::now();
        while !self.stopped.load(Ordering::Relaxed) {
            let start = Instant::now();
            match self.collector.snapshot(&mut snapshot) {
                Ok(()) => {
                    self.failures = 0;
                    self.publisher.publish(&snapshot);
                    self.telemetry.sampled(start, Instant::now(), &self.collector.costs());
                }
                Err(error) => self.failed(&error),
            }
            self.follow_status();
            self.pace();
            due = next(due, Instant::now(), self.interval * self.every);
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                if left.is_zero() || self.stopped.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::park_timeout(left);
            }
        }
    }

    fn failed(&mut self, error: &CollectError) {
        self.telemetry.dropped();
        self.failures = self.failures.saturating_add(1);
        // Log at 1, 2, 4, 8 … failures: a node can be without kubepods for a long time.
        if self.failures.is_power_of_two() {
            let reason =
                if matches!(error, CollectError::NoKubepods { .. }) { "no-kubepods" } else { "error" };
            tracing::warn!(reason, %error, failures = self.failures, "no snapshot");
        }
    }

    /// Passes on which collector runs, and why not a better one, when that changes.
    fn follow_status(&mut self) {
        let (name, refusals) = (self.collector.name(), self.collector.refusals());
        self.telemetry.fields(self.collector.fields());
        if self.status.0 == name && self.status.1 == refusals {
            return;
        }
        let reasons: Vec<String> = refusals.iter().map(|refusal| refusal.reason.to_string()).collect();
        tracing::info!(collector = name, refusals = ?reasons, "collecting");
        self.telemetry.collector(name, refusals);
        self.publisher.collector(name, reasons);
        self.status = (name, refusals.to_vec());
    }

    fn pace(&mut self) {
        // Files hold no lock for long.
        let walked = !self.collector.fields().is_empty();
        let walk = if walked { self.collector.costs().walk } else { Duration::ZERO };
        let every = intervals(walk, self.interval);
        if every != self.every && every > 1 {
            tracing::warn!(every, "walks take long, snapshots are taken more rarely");
        }
        self.every = every;
    }
}

/// How many intervals apart snapshots are, so that a walk takes at most its share of the time between them.
fn intervals(walk: Duration, interval: Duration) -> u32 {
    let wanted = (walk * MUTEX_SHARE).as_nanos().div_ceil(interval.as_nanos().max(1));
    u32::try_from(wanted).unwrap_or(u32::MAX).clamp(1, MOST_INTERVALS)
}

/// The next tick of the grid that began with `due`: late snapshots are skipped, never caught up, and nothing drifts.
fn next(due: Instant, now: Instant, interval: Duration) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos();
    let ticks = late / interval.as_nanos().max(1) + 1;
    due + interval * u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift_and_late_ones_are_skipped() {
        let start = Instant::now();
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis);
        assert_eq!(next(start, start + ms(3), second), start + second);
        assert_eq!(next(start, start + ms(999), second), start + second);
        assert_eq!(next(start, start + ms(2500), second), start + 3 * second);
        assert_eq!(next(start, start, second), start + second);
    }

    #[test]
    fn a_walk_that_takes_long_is_made_more_rarely() {
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis);
        for (walk, every) in
            [(ms(0), 1), (ms(1), 1), (ms(100), 1), (ms(101), 2), (ms(250), 3), (ms(9000), 10)]
        {
            assert_eq!(intervals(walk, second), every, "{walk:?}");
        }
        assert_eq!(intervals(ms(50), ms(100)), 5);
    }
}
