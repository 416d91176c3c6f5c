//! The collector that the agent runs: the walk once it has proved itself, files before and whenever it fails.
//!
//! It never mixes both in one snapshot, and never leaves the walk without a [`Refusal`] that says why.

use super::parity::{self, Outcome};
use super::{BootTime, CollectError, Collector, Reason, Refusal, Snapshot};

/// Comparisons that may fail in a row before the walk is given up: memory moves while it is read.
const PARITY_ATTEMPTS: u32 = 3;
/// Walks that may fail in a row before the walk is given up.
const WALK_ATTEMPTS: u32 = 3;
/// Time between comparisons, ns.
const CHECK_EVERY: u64 = 300 * 1_000_000_000;

/// Opens the file collector when it is needed: its descriptors are worth having only then.
pub(crate) type OpenFiles = Box<dyn Fn() -> Result<Box<dyn Collector>, CollectError> + Send>;

/// A walk and the files behind it.
pub(crate) struct Adaptive {
    walk: Box<dyn Collector>,
    files: Option<Box<dyn Collector>>,
    open_files: OpenFiles,
    state: State,
    refusals: Vec<Refusal>,
    processors: u64,
    before: Snapshot,
    after: Snapshot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The walk has not yet been compared with files on a live container.
    Unproven { attempts: u32 },
    /// The walk is in use.
    Proven { checked: BootTime, attempts: u32, failures: u32 },
    /// Files for good.
    GivenUp,
}

impl Adaptive {
    /// A walk that has still to prove itself.
    pub(crate) fn new(walk: Box<dyn Collector>, open_files: OpenFiles, processors: u64) -> Self {
        Self {
            walk,
            files: None,
            open_files,
            state: State::Unproven { attempts: 0 },
            refusals: Vec::new(),
            processors,
            before: Snapshot::default(),
            after: Snapshot::default(),
        }
    }

    /// Takes snapshots until the walk is proven or given up, or there is nothing to compare yet.
    pub(crate) fn settle(&mut self) -> Result<(), CollectError> {
        let mut scratch = Snapshot::default();
        for _ in 0..PARITY_ATTEMPTS {
            if !matches!(self.state, State::Unproven { .. }) {
                break;
            }
            self.snapshot(&mut scratch)?;
        }
        Ok(())
    }

    fn by_files(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        opened(&mut self.files, &self.open_files)?.snapshot(into)
    }

    fn give_up(&mut self, reason: Reason, detail: String) {
        let refusal = Refusal::new(reason, detail);
        tracing::warn!(%refusal, "the eBPF walk is given up, files are read instead");
        self.refusals = vec![refusal];
        self.state = State::GivenUp;
    }

    /// Files, walk, files. The walk's snapshot is left in `into`.
    fn compare(&mut self, into: &mut Snapshot) -> Result<Outcome, CollectError> {
        let files = opened(&mut self.files, &self.open_files)?;
        files.snapshot(&mut self.before)?;
        let walked = self.walk.snapshot(into);
        files.snapshot(&mut self.after)?;
        walked?;
        Ok(parity::compare(&self.before, into, &self.after, self.processors))
    }

    fn unproven(&mut self, into: &mut Snapshot, attempts: u32) -> Result<(), CollectError> {
        match self.compare(into) {
            Ok(outcome) if outcome.holds() => {
                tracing::info!(compared = outcome.compared, "the eBPF walk agrees with the files");
                self.prove(into.boot);
                return Ok(());
            }
            Ok(outcome) if outcome.mismatches.is_empty() => {
                let detail = "no container that stood still was there to compare with yet";
                self.refusals = vec![Refusal::new(Reason::ParityFailed, detail)];
            }
            Ok(outcome) => self.count_mismatch(&outcome, attempts, |attempts| State::Unproven { attempts }),
            Err(error) => self.count_failure(&error, attempts, |attempts| State::Unproven { attempts }),
        }
        self.by_files(into)
    }

    fn prove(&mut self, checked: BootTime) {
        self.refusals.clear();
        self.files = None;
        self.state = State::Proven { checked, attempts: 0, failures: 0 };
    }

    fn count_mismatch(&mut self, outcome: &Outcome, attempts: u32, next: impl Fn(u32) -> State) {
        let first = outcome.mismatches.first().cloned().unwrap_or_default();
        tracing::debug!(%first, count = outcome.mismatches.len(), "the eBPF walk differs from the files");
        if attempts + 1 >= PARITY_ATTEMPTS {
            self.give_up(Reason::ParityFailed, first);
        } else {
            self.state = next(attempts + 1);
        }
    }

    fn count_failure(&mut self, error: &CollectError, failures: u32, next: impl Fn(u32) -> State) {
        tracing::warn!(%error, "the eBPF walk gave no snapshot, files are read for this one");
        if matches!(error, CollectError::Truncated { .. }) {
            self.give_up(Reason::Truncated, error.to_string());
        } else if failures + 1 >= WALK_ATTEMPTS && !matches!(error, CollectError::NoKubepods { .. }) {
            self.give_up(Reason::IterRefused, error.to_string());
        } else {
            self.state = next(failures + 1);
        }
    }

    fn proven(
        &mut self,
        into: &mut Snapshot,
        (checked, attempts, failures): (BootTime, u32, u32),
    ) -> Result<(), CollectError> {
        match self.walk.snapshot(into) {
            Ok(()) if into.boot.0.saturating_sub(checked.0) < CHECK_EVERY => {
                self.state = State::Proven { checked, attempts, failures: 0 };
                return Ok(());
            }
            Ok(()) => match self.compare(into) {
                // A node whose last pod has gone has nothing to compare and nothing to get wrong.
                Ok(outcome) if outcome.mismatches.is_empty() => {
                    self.prove(into.boot);
                    return Ok(());
                }
                Ok(outcome) => self.count_mismatch(&outcome, attempts, |attempts| State::Proven {
                    checked,
                    attempts,
                    failures,
                }),
                Err(error) => {
                    self.count_failure(&error, failures, |failures| State::Proven {
                        checked,
                        attempts,
                        failures,
                    });
                }
            },
            Err(error) => {
                self.count_failure(&error, failures, |failures| State::Proven {
                    checked,
                    attempts,
                    failures,
                });
            }
        }
        self.by_files(into)
    }
}

fn opened<'f>(
    files: &'f mut Option<Box<dyn Collector>>,
    open: &OpenFiles,
) -> Result<&'f mut Box<dyn Collector>, CollectError> {
    let ready = match files.take() {
        Some(files) => files,
        None => open()?,
    };
    Ok(files.insert(ready))
}

impl Collector for Adaptive {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        match self.state {
            State::Unproven { attempts } => self.unproven(into, attempts),
            State::Proven { checked, attempts, failures } => self.proven(into, (checked, attempts, failures)),
            State::GivenUp => self.by_files(into),
        }
    }

    fn name(&self) -> &'static str {
        match self.state {
            State::Proven { .. } => self.walk.name(),
            State::Unproven { .. } | State::GivenUp => "cgroupfs",
        }
    }

    fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }
}

#[cfg(test)]
mod tests;
