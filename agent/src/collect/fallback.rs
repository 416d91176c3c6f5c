//! The collector that the agent runs: the eBPF walk, with files for each field that the walk cannot be trusted with, and
//! for everything while the walk fails.
//!
//! Nothing is given up for good: what failed is tried again after a growing time.

use super::parity::{self, Readings, Verdict};
use super::supplement::Supplement;
use super::trust::{Retry, Trust};
use super::walked::{Walked, WalkedCgroup};
use super::{
    BootTime, CgroupId, CollectError, Collector, Costs, Field, Fields, Reason, Refusal, Snapshot, page_size,
};

/// Walks that may fail in a row before files are read for a while.
const WALK_ATTEMPTS: u32 = 3;
/// Cgroups that are compared at a time.
const COMPARED: usize = 32;

/// The eBPF walk, or a script in its place.
pub(crate) trait Walk: Send {
    /// Flushes and walks.
    fn walk(&mut self, into: &mut Walked) -> Result<(), CollectError>;
    /// The fields that it cannot read, each with the reason.
    fn missing(&self) -> &[(Field, Refusal)];
    /// What the newest walk cost.
    fn costs(&self) -> Costs;
}

/// Opens the file collector when it is needed: its descriptors are worth having only then.
pub(crate) type OpenFiles = Box<dyn Fn() -> Box<dyn Collector> + Send>;

/// The time, for what is tried again later.
pub(crate) type Clock = Box<dyn Fn() -> BootTime + Send>;

/// A walk and the files behind it.
pub(crate) struct WalkWithFallback {
    walk: Box<dyn Walk>,
    open_files: OpenFiles,
    files: Option<Box<dyn Collector>>,
    supplement: Supplement,
    clock: Clock,
    processors: u64,
    state: State,
    retry: Retry,
    trust: [Trust; Field::ALL.len()],
    walked: Walked,
    later: Walked,
    /// Where the next comparison begins among the cgroups.
    next_compared: usize,
    refusals: Vec<Refusal>,
    costs: Costs,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The walk is in use; the number of its consecutive failures.
    Walking { failures: u32 },
    /// Files are read until the walk is tried again.
    Waiting(Refusal),
}

impl WalkWithFallback {
    /// A walk with no proven field yet.
    pub(crate) fn new(walk: Box<dyn Walk>, open_files: OpenFiles, clock: Clock, processors: u64) -> Self {
        let mut collector = Self {
            walk,
            open_files,
            files: None,
            supplement: Supplement::new(page_size()),
            clock,
            processors,
            state: State::Walking { failures: 0 },
            retry: Retry::default(),
            trust: Field::ALL.map(|_| Trust::default()),
            walked: Walked::default(),
            later: Walked::default(),
            next_compared: 0,
            refusals: Vec::new(),
            costs: Costs::default(),
        };
        collector.renew_refusals();
        collector
    }

    /// The fields of the walk that are used.
    fn trusted(&self) -> Fields {
        let trusted = Field::ALL.into_iter().zip(&self.trust).filter(|(_, trust)| trust.is_trusted());
        trusted.fold(Fields::NONE, |fields, (field, _)| fields.with(field)).and(self.resolved())
    }

    fn resolved(&self) -> Fields {
        self.walk.missing().iter().fold(Fields::ALL, |fields, (field, _)| fields.without(*field))
    }

    fn by_files(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        let files = self.files.get_or_insert_with(&self.open_files);
        let taken = files.snapshot(into);
        self.costs = files.costs();
        taken
    }

    fn by_walk(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        self.walk.walk(&mut self.walked)?;
        let now = (self.clock)();
        let resolved = self.resolved();
        let due = Field::ALL.into_iter().zip(&self.trust).filter(|(_, trust)| trust.is_due(now));
        let due = due.fold(Fields::NONE, |fields, (field, _)| fields.with(field)).and(resolved);
        if !due.is_empty() {
            self.compare(due, now)?;
        }
        let trusted = self.trusted();
        self.supplement.fill(&mut self.walked, trusted.complement());
        if trusted.contains(Field::InactiveFile) {
            self.supplement.complete(&mut self.walked);
        }
        self.walked.publish(into);
        self.costs = self.walk.costs();
        self.costs.unreadable += self.supplement.unreadable();
        Ok(())
    }

    /// Reads files of some cgroups, those of the fields that are `due`, and walks again; the second walk is what is left in
    /// `self.walked`.
    fn compare(&mut self, due: Fields, now: BootTime) -> Result<(), CollectError> {
        let mut readings = self.read_files(due);
        self.walk.walk(&mut self.later)?;
        readings.retain_mut(|reading| match find(&self.later, reading.cgroup) {
            Some(later) => {
                reading.later = later.counters;
                true
            }
            None => false,
        });
        let mut changed = false;
        for (field, trust) in Field::ALL.into_iter().zip(&mut self.trust) {
            if !due.contains(field) {
                continue;
            }
            let before = (trust.is_trusted(), trust.refusal().is_some());
            let verdict = parity::judge(field, &readings, self.processors);
            trust.judged(field, &verdict, now);
            let after = (trust.is_trusted(), trust.refusal().is_some());
            if before != after {
                changed = true;
                log_change(field, trust, &verdict);
            }
        }
        if changed {
            self.renew_refusals();
        }
        std::mem::swap(&mut self.walked, &mut self.later);
        Ok(())
    }

    /// Kubepods and a bounded number of the cgroups below it, other ones at each call.
    fn read_files(&mut self, fields: Fields) -> Vec<Readings> {
        let all = &self.walked.cgroups;
        let tops = all.iter().filter(|cgroup| cgroup.identity.is_none());
        let below = || all.iter().filter(|cgroup| cgroup.identity.is_some());
        let count = below().count();
        let begin = self.next_compared.checked_rem(count).unwrap_or_default();
        self.next_compared = begin + COMPARED;
        let below = below().cycle().skip(begin).take(COMPARED.min(count));
        let mut readings = Vec::with_capacity(COMPARED + 1);
        for cgroup in tops.chain(below) {
            // An error of the file reader is not counted against the walk.
            let Ok(files) = self.supplement.read_once(&cgroup.path, fields) else { continue };
            let elapsed_ns = (self.clock)().0.saturating_sub(self.walked.boot.0);
            let (cgroup, walk) = (cgroup.id, cgroup.counters);
            readings.push(Readings { cgroup, walk, files, later: walk, elapsed_ns });
        }
        readings
    }

    /// The state after a walk that failed.
    fn failed(&mut self, error: &CollectError) {
        let now = (self.clock)();
        let reason = match (error, &self.state) {
            // Whatever the collector, there is nothing to read.
            (CollectError::NoKubepods { .. }, _) => return,
            (CollectError::Truncated { .. }, _) => Reason::Truncated,
            (CollectError::Outside { .. }, _) => Reason::DriverMismatch,
            (_, State::Walking { failures }) if failures + 1 < WALK_ATTEMPTS => {
                tracing::warn!(%error, "the eBPF walk failed, files are read for this snapshot");
                self.state = State::Walking { failures: failures + 1 };
                return;
            }
            _ => Reason::IterRefused,
        };
        let refusal = Refusal::new(reason, error.to_string());
        if !matches!(self.state, State::Waiting(_)) {
            tracing::warn!(%refusal, "the eBPF walk failed, files are read until it is tried again");
        }
        self.retry.failed(now);
        self.state = State::Waiting(refusal);
        self.renew_refusals();
    }

    fn succeeded(&mut self) {
        if matches!(self.state, State::Waiting(_)) {
            tracing::info!("the eBPF walk works again");
            self.state = State::Walking { failures: 0 };
            self.renew_refusals();
        }
        self.state = State::Walking { failures: 0 };
        self.files = None;
    }

    fn renew_refusals(&mut self) {
        self.refusals.clear();
        if let State::Waiting(refusal) = &self.state {
            self.refusals.push(refusal.clone());
        }
        for (_, refusal) in self.walk.missing() {
            if !self.refusals.contains(refusal) {
                self.refusals.push(refusal.clone());
            }
        }
        self.refusals.extend(self.trust.iter().filter_map(|trust| trust.refusal().cloned()));
    }
}

fn log_change(field: Field, trust: &Trust, verdict: &Verdict) {
    let field = field.name();
    if trust.is_trusted() {
        tracing::info!(field, witnesses = verdict.witnesses, "a field of the eBPF walk agrees with its file");
    } else if let Some(refusal) = trust.refusal() {
        tracing::warn!(field, %refusal, "a field of the eBPF walk differs from its file, the file is read instead");
    } else {
        let difference = verdict.mismatch.map(|mismatch| mismatch.to_string()).unwrap_or_default();
        tracing::debug!(field, difference, "a field of the eBPF walk differed once");
    }
}

fn find(walked: &Walked, id: CgroupId) -> Option<&WalkedCgroup> {
    let at = walked.cgroups.binary_search_by_key(&id, |cgroup| cgroup.id).ok()?;
    walked.cgroups.get(at)
}

impl Collector for WalkWithFallback {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        if matches!(self.state, State::Waiting(_)) && !self.retry.is_due((self.clock)()) {
            return self.by_files(into);
        }
        match self.by_walk(into) {
            Ok(()) => {
                self.succeeded();
                Ok(())
            }
            Err(error) => {
                self.failed(&error);
                self.by_files(into)
            }
        }
    }

    fn name(&self) -> &'static str {
        if self.fields().is_empty() { "cgroupfs" } else { "bpf" }
    }

    fn refusals(&self) -> &[Refusal] {
        &self.refusals
    }

    fn fields(&self) -> Fields {
        if matches!(self.state, State::Waiting(_)) { Fields::NONE } else { self.trusted() }
    }

    fn costs(&self) -> Costs {
        self.costs
    }
}

#[cfg(test)]
mod tests;
