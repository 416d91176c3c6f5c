//! The agent's own memory of the last minute: what an aggregator that comes back has missed. A fixed number of frames,
//! compact, by cgroup id; identities are kept once. Older frames are thinned to about two seconds. Pure.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    collect::{BootTime, CgroupId, NodeTotals, RealTime, Snapshot},
    identify::{ContainerId, Identity, PodUid},
};

/// Frames held.
const FRAMES: usize = 32;
/// Neighbouring frames but the newest pair are at least this far apart.
const SPACING: Duration = Duration::from_secs(2);
/// Frames older than this are not offered.
const REACH_NS: u64 = 60_000_000_000;

/// One instant.
#[derive(Debug, Clone, Default)]
pub struct Frame {
    /// Its instant.
    pub boot: BootTime,
    /// The same for people.
    pub real: RealTime,
    /// Totals of the node.
    pub node: NodeTotals,
    /// The containers, ascending by cgroup id.
    pub points: Vec<Point>,
}

/// One container at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Its cgroup.
    pub cgroup: CgroupId,
    /// CPU time since the cgroup was made, ns.
    pub cpu_ns: u64,
    /// Working set, pages.
    pub working_set_pages: u32,
    /// Swap, pages; `None` without swap accounting, and where the node has no swap.
    pub swap_pages: Option<u32>,
}

/// What is known of a container beside its counters.
#[derive(Debug, Clone)]
pub struct Known {
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// The newest walk without it; `None` when it was there at the first walk.
    pub absent: Option<BootTime>,
    walk: BootTime,
    cpu_ns: u64,
}

impl Known {
    /// The pod.
    pub fn pod(&self) -> &PodUid {
        &self.identity.pod
    }

    /// The container; `None` never gets into a frame.
    pub fn container(&self) -> Option<&ContainerId> {
        self.identity.container.as_ref()
    }
}

/// The frames, oldest first.
#[derive(Debug, Default)]
pub struct LocalRing {
    frames: VecDeque<Frame>,
    known: HashMap<CgroupId, Known>,
    walk: Option<BootTime>,
}

impl LocalRing {
    /// Takes a walk. Returns false, and keeps nothing, if it is not newer than the one before.
    pub fn push(&mut self, snapshot: &Snapshot) -> bool {
        let previous = self.walk;
        if previous.is_some_and(|previous| snapshot.boot <= previous) {
            return false;
        }
        let mut frame = self.next_frame();
        frame.boot = snapshot.boot;
        frame.real = snapshot.real;
        frame.node = snapshot.node;
        for sample in snapshot.samples.iter().filter(|sample| sample.identity.container.is_some()) {
            let Some(cpu_ns) = sample.cpu_ns else { continue };
            let known = self.known.entry(sample.cgroup).or_insert_with(|| Known {
                identity: Arc::clone(&sample.identity),
                absent: previous.filter(|_| !sample.late),
                walk: snapshot.boot,
                cpu_ns,
            });
            if cpu_ns < known.cpu_ns {
                // Its counter was not zero at that walk any more.
                known.absent = None;
            }
            known.walk = snapshot.boot;
            known.cpu_ns = cpu_ns;
            let Some((cpu_ns, memory)) = sample.measured() else { continue };
            let Ok(working_set_pages) = u32::try_from(memory.working_set_pages()) else { continue };
            frame.points.push(Point {
                cgroup: sample.cgroup,
                cpu_ns,
                working_set_pages,
                // The kernel keeps the file where there is nothing to swap to: a column of zeros that says nothing.
                swap_pages: memory
                    .swap_pages
                    .filter(|_| snapshot.node.swap_bytes.is_some())
                    .and_then(|pages| u32::try_from(pages).ok()),
            });
        }
        // Streams find a container by its cgroup id.
        if !frame.points.is_sorted_by_key(|point| point.cgroup) {
            frame.points.sort_unstable_by_key(|point| point.cgroup);
        }
        self.frames.push_back(frame);
        self.walk = Some(snapshot.boot);
        if let Some(oldest) = self.frames.front().map(|frame| frame.boot) {
            self.known.retain(|_, known| known.walk >= oldest);
        }
        true
    }

    /// An empty frame with the buffer of one that makes room: the newest, where it stands too close to the one before
    /// it, else the oldest.
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
        frame.points.clear();
        frame
    }

    /// What is known of a container in one of the frames.
    pub fn known(&self, cgroup: CgroupId) -> Option<&Known> {
        self.known.get(&cgroup)
    }

    /// The frame to send after one of instant `last`: the oldest newer one that is either from before the stream was
    /// `opened`, or at least three quarters of the pace after it (walks jitter; the aggregator allows half).
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
