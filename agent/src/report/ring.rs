//! The snapshots of the last minute, for aggregators that missed some of them. A fixed number of compact frames whose
//! buffers are reused; identities are kept once. Older frames are thinned to about one in two seconds. Pure.

mod members;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    collect::{BootTime, CgroupId, NodeTotals, RealTime, Sample, Snapshot},
    identify::{ContainerId, Identity, PodUid},
};
use members::Members;

/// Frames held.
const FRAMES: usize = 32;
/// Neighbouring frames but the newest pair are at least this far apart.
const SPACING: Duration = Duration::from_secs(2);
/// Frames older than this are not offered.
const REACH_NS: u64 = 60_000_000_000;

/// One snapshot: the containers that are measured, and the pods whose containers are not.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Its instant.
    pub boot: BootTime,
    /// The same instant as a timestamp.
    pub real: RealTime,
    /// Totals of the node.
    pub node: NodeTotals,
    /// The measured containers, ascending by cgroup id.
    pub containers: Vec<ContainerSample>,
    /// Totals of the pods of which a container is not measured or has no cgroup.
    pub unmeasured_pods: Vec<PodSample>,
}

/// The counters of a measured container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerSample {
    /// The container's cgroup.
    pub cgroup: CgroupId,
    /// Its counters.
    pub counters: Counters,
}

/// The counters of a pod-level cgroup.
#[derive(Debug, Clone)]
pub struct PodSample {
    /// The pod.
    pub identity: Arc<Identity>,
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// Everything in the pod, the sandbox's overhead included.
    pub counters: Counters,
}

/// What a frame keeps of a measured sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// CPU time since the cgroup was created, ns.
    pub cpu_ns: u64,
    /// Working set, pages.
    pub working_set_pages: u32,
    /// Swap, pages; `None` without swap accounting, and where the node has no swap.
    pub swap_pages: Option<u32>,
}

impl Counters {
    /// Of a sample that is measured.
    fn of(sample: &Sample, node: &NodeTotals) -> Option<Self> {
        let (cpu_ns, memory) = sample.measured()?;
        Some(Self {
            cpu_ns,
            working_set_pages: u32::try_from(memory.working_set_pages()).ok()?,
            // Where there is nothing to swap to, `memory.swap.current` exists all the same and is 0 in every cgroup.
            swap_pages: memory
                .swap_pages
                .filter(|_| node.swap_bytes.is_some())
                .and_then(|pages| u32::try_from(pages).ok()),
        })
    }
}

/// What an aggregator needs to know about a new container: its identity, and the earliest instant at which it can have used CPU.
#[derive(Debug, Clone)]
pub struct ContainerHistory {
    cgroup: CgroupId,
    /// The pod and container.
    pub identity: Arc<Identity>,
    /// The newest snapshot without it; `None` when it was in the first one.
    pub absent: Option<BootTime>,
    newest: BootTime,
    cpu_ns: u64,
}

impl ContainerHistory {
    fn begin(sample: &Sample, boot: BootTime, previous: Option<BootTime>) -> Self {
        Self {
            cgroup: sample.cgroup,
            identity: Arc::clone(&sample.identity),
            absent: previous.filter(|_| !sample.late),
            newest: boot,
            cpu_ns: sample.cpu_ns.unwrap_or_default(),
        }
    }

    fn follow(&mut self, sample: &Sample, boot: BootTime) {
        self.newest = boot;
        // It exists, whether its counter can be read or not.
        let Some(cpu_ns) = sample.cpu_ns else { return };
        if cpu_ns < self.cpu_ns {
            // The counter began again later than that snapshot, so it need not have been 0 then.
            self.absent = None;
        }
        self.cpu_ns = cpu_ns;
    }

    /// The pod.
    pub fn pod(&self) -> &PodUid {
        &self.identity.pod
    }

    /// The container; `None` never gets into a frame.
    pub fn container(&self) -> Option<&ContainerId> {
        self.identity.container.as_ref()
    }
}

/// The frames, oldest first. A push reads what it keeps in order: hashing and looking up would cost more than all else,
/// for a second after the one before nothing is in the processor's caches.
#[derive(Debug, Default)]
pub struct LocalRing {
    frames: VecDeque<Frame>,
    /// Of the containers in any frame, ascending by cgroup id.
    histories: Vec<ContainerHistory>,
    members: Members,
    newest: Option<BootTime>,
}

impl LocalRing {
    /// Adds a snapshot. Returns false, and keeps nothing, if it is not newer than the one before.
    pub fn push(&mut self, snapshot: &Snapshot) -> bool {
        let previous = self.newest;
        if previous.is_some_and(|previous| snapshot.boot <= previous) {
            return false;
        }
        let mut frame = self.next_frame();
        frame.boot = snapshot.boot;
        frame.real = snapshot.real;
        frame.node = snapshot.node;
        self.members.follow(&snapshot.samples);
        let (mut known, mut arrived) = (0, Vec::new());
        for (at, sample) in snapshot.samples.iter().enumerate() {
            if !self.members.is_container(at) {
                continue;
            }
            match search_from(&self.histories, &mut known, sample.cgroup, |history| history.cgroup) {
                Some(at) => {
                    if let Some(history) = self.histories.get_mut(at) {
                        history.follow(sample, snapshot.boot);
                    }
                }
                None => arrived.push(ContainerHistory::begin(sample, snapshot.boot, previous)),
            }
            if let Some(counters) = Counters::of(sample, &snapshot.node) {
                self.members.measured(at);
                frame.containers.push(ContainerSample { cgroup: sample.cgroup, counters });
            }
        }
        for (at, sample) in snapshot.samples.iter().enumerate() {
            if self.members.is_container(at) || self.members.is_whole(at) {
                continue;
            }
            if let Some(counters) = Counters::of(sample, &snapshot.node) {
                let identity = Arc::clone(&sample.identity);
                frame.unmeasured_pods.push(PodSample { identity, cgroup: sample.cgroup, counters });
            }
        }
        // Streams find a container by its cgroup id.
        if !frame.containers.is_sorted_by_key(|sample| sample.cgroup) {
            frame.containers.sort_unstable_by_key(|sample| sample.cgroup);
        }
        self.frames.push_back(frame);
        self.newest = Some(snapshot.boot);
        if let Some(oldest) = self.frames.front().map(|frame| frame.boot) {
            self.histories.retain(|history| history.newest >= oldest);
        }
        if !arrived.is_empty() {
            self.histories.append(&mut arrived);
            self.histories.sort_unstable_by_key(|history| history.cgroup);
        }
        true
    }

    /// An empty frame with the buffers of the frame that it replaces: the newest, if that is too close to the one
    /// before it, else the oldest.
    fn next_frame(&mut self) -> Frame {
        let close =
            match (self.frames.len().checked_sub(2).and_then(|at| self.frames.get(at)), self.frames.back()) {
                (Some(before), Some(newest)) => {
                    u128::from(newest.boot.0 - before.boot.0) < SPACING.as_nanos()
                }
                _ => false,
            };
        let reused = if close {
            self.frames.pop_back()
        } else if self.frames.len() == FRAMES {
            self.frames.pop_front()
        } else {
            None
        };
        let mut frame = reused.unwrap_or_default();
        frame.containers.clear();
        frame.unmeasured_pods.clear();
        frame
    }

    /// The history of a container that is in one of the frames.
    pub fn history(&self, cgroup: CgroupId) -> Option<&ContainerHistory> {
        let at = self.histories.binary_search_by_key(&cgroup, |history| history.cgroup).ok()?;
        self.histories.get(at)
    }

    /// The frame to send after one of instant `last`: the oldest newer one that is either from before the stream was
    /// `opened`, or at least three quarters of the pace after it (snapshots jitter; the aggregator accepts half).
    pub fn next(&self, last: BootTime, opened: BootTime, pace: Duration) -> Option<&Frame> {
        let newest = self.frames.back()?.boot;
        let pace_ns = u64::try_from(pace.as_nanos()).unwrap_or(u64::MAX) / 4 * 3;
        self.frames.iter().find(|frame| {
            let age = newest.0 - frame.boot.0;
            let due = frame.boot <= opened || frame.boot.0.saturating_sub(last.0) >= pace_ns;
            frame.boot > last && age <= REACH_NS && due
        })
    }
}

/// The position of `cgroup` in a list that ascends by it. Cgroups are looked for in the list's order nearly always, so
/// `next`, the position after the one found last, is tried first.
pub(super) fn search_from<T>(
    list: &[T],
    next: &mut usize,
    cgroup: CgroupId,
    of: impl Fn(&T) -> CgroupId,
) -> Option<usize> {
    let at = match list.get(*next) {
        Some(candidate) if of(candidate) == cgroup => *next,
        _ => list.binary_search_by_key(&cgroup, of).ok()?,
    };
    *next = at + 1;
    Some(at)
}
