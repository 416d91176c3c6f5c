//! Which fields of the walk are believed, and when what failed is tried again. Pure: instants are passed in.

use super::parity::Verdict;
use super::{BootTime, Field, Reason, Refusal};

const SECOND: u64 = 1_000_000_000;
/// Wait after the first failure; it doubles with each further one.
const FIRST_WAIT: u64 = 10 * SECOND;
/// Longest wait, and the time without a failure after which waits begin at the first again.
const LONGEST_WAIT: u64 = 600 * SECOND;
/// Comparisons in a row that may differ: a value can move between the readings.
const ATTEMPTS: u32 = 3;
/// Comparisons of a field without a witness before they become rarer.
const EAGER: u32 = 10;
/// Time between comparisons of a field that still has no witness; it doubles with each further one, up to [`CHECK_EVERY`].
const PATIENT: u64 = 10 * SECOND;
/// Time between comparisons of a proven field.
const CHECK_EVERY: u64 = 300 * SECOND;

/// When to try again what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Retry {
    failures: u32,
    until: BootTime,
}

impl Retry {
    /// It failed now.
    pub(crate) fn failed(&mut self, now: BootTime) {
        if now.0.saturating_sub(self.until.0) > LONGEST_WAIT {
            self.failures = 0;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(6)).min(LONGEST_WAIT);
        self.failures += 1;
        self.until = BootTime(now.0.saturating_add(wait));
    }

    /// Whether the wait is over.
    pub(crate) fn is_due(&self, now: BootTime) -> bool {
        now >= self.until
    }
}

/// How far one field of the walk is believed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Trust {
    state: State,
    retry: Retry,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// No cgroup has proven it yet.
    Unproven {
        checks: u32,
        mismatches: u32,
        checked: BootTime,
    },
    Proven {
        mismatches: u32,
        checked: BootTime,
    },
    /// It differed again and again.
    Failed(Refusal),
}

impl Default for State {
    fn default() -> Self {
        Self::Unproven { checks: 0, mismatches: 0, checked: BootTime(0) }
    }
}

impl Trust {
    /// Whether the walk's value is used.
    pub(crate) fn is_trusted(&self) -> bool {
        matches!(self.state, State::Proven { mismatches: 0, .. })
    }

    /// Why it is not, if it differed.
    pub(crate) fn refusal(&self) -> Option<&Refusal> {
        match &self.state {
            State::Failed(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether it is to be compared now.
    pub(crate) fn is_due(&self, now: BootTime) -> bool {
        let past = |checked: BootTime, time| now.0.saturating_sub(checked.0) >= time;
        match &self.state {
            State::Unproven { checks, mismatches, checked } => {
                // Without swap, say, a node never has a witness of it.
                let wait = PATIENT.saturating_mul(1 << checks.saturating_sub(EAGER).min(6)).min(CHECK_EVERY);
                *checks < EAGER || *mismatches > 0 || past(*checked, wait)
            }
            State::Proven { mismatches, checked } => *mismatches > 0 || past(*checked, CHECK_EVERY),
            State::Failed(_) => self.retry.is_due(now),
        }
    }

    /// Takes a comparison into account.
    pub(crate) fn judged(&mut self, field: Field, verdict: &Verdict, now: BootTime) {
        let (checks, mismatches, proven) = match &self.state {
            State::Unproven { checks, mismatches, .. } => (*checks, *mismatches, false),
            State::Proven { mismatches, .. } => (0, *mismatches, true),
            State::Failed(_) => (0, 0, false),
        };
        self.state = match verdict.mismatch {
            Some(mismatch) if mismatches + 1 >= ATTEMPTS => {
                self.retry.failed(now);
                let detail = format!("{mismatch}: its file is read instead, report the kernel version");
                State::Failed(Refusal::new(Reason::ParityFailed(field.name()), detail))
            }
            Some(_) if proven => State::Proven { mismatches: mismatches + 1, checked: now },
            Some(_) => {
                State::Unproven { checks: checks.saturating_add(1), mismatches: mismatches + 1, checked: now }
            }
            // Without pods there is nothing to compare, and nothing to get wrong.
            None if proven || verdict.witnesses > 0 => State::Proven { mismatches: 0, checked: now },
            None => State::Unproven { checks: checks.saturating_add(1), mismatches: 0, checked: now },
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::parity::{Readings, judge};
    use crate::collect::{CgroupId, Counters};

    fn at(seconds: u64) -> BootTime {
        BootTime(seconds * SECOND)
    }

    fn verdict(walk: u64, file: u64) -> Verdict {
        let counters = |swap| Counters { cpu_ns: Some(1), swap_pages: Some(swap), ..Counters::default() };
        let (walk, files) = (counters(walk), counters(file));
        judge(Field::Swap, &[Readings { cgroup: CgroupId(5), walk, files, later: walk, elapsed_ns: 1 }], 1)
    }

    #[test]
    fn waits_double_up_to_a_limit_and_begin_again_after_a_quiet_time() {
        let mut retry = Retry::default();
        assert!(retry.is_due(at(0)));
        let mut now = at(1000);
        for wait in [10, 20, 40, 80, 160, 320, 600, 600] {
            retry.failed(now);
            assert!(!retry.is_due(BootTime(now.0 + wait * SECOND - 1)), "{wait}");
            now = BootTime(now.0 + wait * SECOND);
            assert!(retry.is_due(now), "{wait}");
        }
        now = BootTime(now.0 + LONGEST_WAIT + 1);
        retry.failed(now);
        assert!(retry.is_due(BootTime(now.0 + FIRST_WAIT)));
    }

    #[test]
    fn a_field_is_trusted_once_it_has_a_witness() {
        let mut trust = Trust::default();
        for second in 0..u64::from(EAGER) {
            assert!(trust.is_due(at(second)));
            trust.judged(Field::Swap, &verdict(0, 0), at(second));
            assert!(!trust.is_trusted(), "all zero");
        }
        assert!(!trust.is_due(at(11)), "without a witness comparisons become rarer");
        assert!(trust.is_due(at(20)));
        trust.judged(Field::Swap, &verdict(7, 7), at(20));
        assert!(trust.is_trusted() && trust.refusal().is_none());
        assert!(!trust.is_due(at(319)) && trust.is_due(at(320)));
        trust.judged(Field::Swap, &Verdict::default(), at(320));
        assert!(trust.is_trusted(), "nothing was there to compare");
    }

    #[test]
    fn without_a_witness_comparisons_become_rarer_up_to_those_of_a_proven_field() {
        let mut trust = Trust::default();
        let mut now = at(1);
        for _ in 0..EAGER {
            trust.judged(Field::Swap, &verdict(0, 0), now);
        }
        for wait in [10, 20, 40, 80, 160, 300, 300] {
            assert!(!trust.is_due(BootTime(now.0 + wait * SECOND - 1)), "{wait}");
            now = BootTime(now.0 + wait * SECOND);
            assert!(trust.is_due(now), "{wait}");
            trust.judged(Field::Swap, &verdict(0, 0), now);
        }
    }

    #[test]
    fn a_difference_suspends_the_field_at_once_and_repeated_it_fails() {
        let mut trust = Trust::default();
        trust.judged(Field::Swap, &verdict(7, 7), at(1));
        trust.judged(Field::Swap, &verdict(7, 9), at(2));
        assert!(!trust.is_trusted() && trust.is_due(at(2)) && trust.refusal().is_none());
        trust.judged(Field::Swap, &verdict(9, 9), at(3));
        assert!(trust.is_trusted(), "one difference is forgiven");
        for second in 4..7 {
            trust.judged(Field::Swap, &verdict(7, 9), at(second));
        }
        let refusal = trust.refusal().unwrap();
        assert_eq!(refusal.reason, Reason::ParityFailed("swap"));
        assert!(!trust.is_trusted() && !trust.is_due(at(15)));
        assert!(trust.is_due(at(16)), "and it is tried again");
        trust.judged(Field::Swap, &verdict(9, 9), at(16));
        assert!(trust.is_trusted() && trust.refusal().is_none());
    }
}
