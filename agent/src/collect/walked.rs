//! The result of one walk, and how it becomes a snapshot. Pure.

use std::path::Path;
use std::sync::Arc;

use super::{BootTime, CgroupId, Counters, NodeTotals, RealTime, Sample, Snapshot};
use crate::identify::Identity;

/// What a walk yields: every cgroup with its counters, ascending by id. Reused from walk to walk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Walked {
    pub(crate) boot: BootTime,
    pub(crate) real: RealTime,
    pub(crate) node: NodeTotals,
    pub(crate) cgroups: Vec<WalkedCgroup>,
}

/// One cgroup of a walk.
#[derive(Debug, Clone)]
pub(crate) struct WalkedCgroup {
    pub(crate) id: CgroupId,
    pub(crate) path: Arc<Path>,
    /// `None`: kubepods itself.
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) late: bool,
    /// The stale `inactive_file`, in pages, if the flush skipped the cgroup.
    pub(crate) skipped: Option<i64>,
    pub(crate) counters: Counters,
}

impl Walked {
    /// The pods and containers as a snapshot.
    pub(crate) fn publish(&self, into: &mut Snapshot) {
        let Self { boot, real, node, cgroups } = self;
        (into.boot, into.real, into.node) = (*boot, *real, *node);
        let samples = cgroups.iter().filter_map(|cgroup| Some((cgroup, cgroup.identity.as_ref()?)));
        renew(
            &mut into.samples,
            samples,
            |sample, (cgroup, _)| {
                (sample.cpu_ns, sample.memory) = (cgroup.counters.cpu_ns, cgroup.counters.memory());
                sample.late = cgroup.late;
                sample.cgroup == cgroup.id
            },
            |(cgroup, identity)| Sample {
                cgroup: cgroup.id,
                identity: Arc::clone(identity),
                cpu_ns: cgroup.counters.cpu_ns,
                memory: cgroup.counters.memory(),
                late: cgroup.late,
            },
        );
    }
}

/// Replaces the contents of `list` by what `source` yields, and keeps each element for which `refreshed` returns true.
/// Cgroups rarely change between walks, and cloning the names of one costs two cache misses.
pub(crate) fn renew<T, S>(
    list: &mut Vec<T>,
    source: impl Iterator<Item = S>,
    refreshed: impl Fn(&mut T, &S) -> bool,
    new: impl Fn(S) -> T,
) {
    let mut length = 0;
    for item in source {
        if !list.get_mut(length).is_some_and(|element| refreshed(element, &item)) {
            list.truncate(length);
            list.push(new(item));
        }
        length += 1;
    }
    list.truncate(length);
}
