//! One instant of the node's cgroups: the [`Collector`] trait and what a walk yields.
//!
//! `bpf` walks inside the kernel, `cgroupfs` reads files. `fallback` runs the walk and decides, field by field, which of
//! its values are used: `parity` compares them with the files, `trust` remembers the outcome, `supplement` reads the
//! others. `kubepods` and `tree` find the directories, `node` reads the node's totals. [`choose()`] gathers facts and
//! opens what they allow.

use std::sync::Arc;
use std::time::Duration;

use crate::identify::Identity;

pub mod bpf;
mod cgroup_files;
pub mod cgroupfs;
mod choose;
mod clock;
mod counters;
mod fallback;
pub(crate) mod files;
mod kubepods;
mod node;
mod parity;
mod reason;
mod supplement;
mod tree;
mod trust;
mod walked;

pub use choose::{ChooseError, Options, Preference, choose};
pub use counters::{Counters, Field, Fields};
pub use kubepods::Kubepods;
pub use reason::{Reason, Refusal};

/// A cgroup's 64-bit id (its inode number): unique per boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

/// An instant of `CLOCK_BOOTTIME`, nanoseconds. For differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct BootTime(pub u64);

/// An instant of `CLOCK_REALTIME`, nanoseconds since the Unix epoch. For stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RealTime(pub u64);

/// All pod and container cgroups of the node at one instant. Reused from walk to walk.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The instant: the middle of the walk, without the flush before it.
    pub boot: BootTime,
    /// The same instant for people.
    pub real: RealTime,
    /// Totals of the node.
    pub node: NodeTotals,
    /// Pod cgroups (`identity.container` is `None`) and container cgroups, ascending by cgroup id.
    pub samples: Vec<Sample>,
}

/// The counters of one cgroup at the snapshot's instant. Each group of counters is valid or absent on its own.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Identifies the counters.
    pub cgroup: CgroupId,
    /// The pod, and the container unless this is the pod's own cgroup.
    pub identity: Arc<Identity>,
    /// CPU time since the cgroup was created, in ns, descendants included; `None` if it could not be read.
    pub cpu_ns: Option<u64>,
    /// `None` where the memory controller is not enabled for the cgroup, or its counters could not be read.
    pub memory: Option<Memory>,
    /// The cgroup may have existed at the previous snapshot without being in it, so that its counters need not have
    /// been zero then. Only meaningful in the first snapshot that has the cgroup.
    pub late: bool,
}

impl Sample {
    /// CPU and memory, if the cgroup accounts for both.
    ///
    /// The kernel charges at least stacks and page tables to a cgroup with a live process, so a `memory.current` of 0
    /// means that the processes are accounted elsewhere (gVisor keeps them in the sandbox's cgroup) or have ended.
    pub fn measured(&self) -> Option<(u64, Memory)> {
        let memory = self.memory.filter(|memory| memory.usage_pages > 0)?;
        Some((self.cpu_ns?, memory))
    }
}

/// Memory of one cgroup, in pages ([`page_size`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// `memory.current`.
    pub usage_pages: u64,
    /// `inactive_file` of `memory.stat`, floored at 0.
    pub inactive_file_pages: u64,
    /// `memory.swap.current`; `None` without swap accounting.
    pub swap_pages: Option<u64>,
}

impl Memory {
    /// Working set: usage − `inactive_file`, floored at 0 (as cAdvisor computes it).
    pub const fn working_set_pages(&self) -> u64 {
        self.usage_pages.saturating_sub(self.inactive_file_pages)
    }
}

/// Totals of the node, from files. A total that cannot be read is absent and costs no pod its samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeTotals {
    /// CPU time since boot, in ns.
    pub cpu_ns: Option<u64>,
    /// Working set in bytes, by the kubelet's formula.
    pub working_set_bytes: Option<u64>,
    /// `SwapTotal − SwapFree` in bytes; `None` where the node has no swap.
    pub swap_bytes: Option<u64>,
}

/// Reads all pod cgroups of the node at one instant.
pub trait Collector: Send {
    /// Takes one snapshot into `into`, whose buffers are reused.
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError>;
    /// `bpf` or `cgroupfs`: what took the newest snapshot. May change from one to the next.
    fn name(&self) -> &'static str;
    /// Why a better collector is not in use, or not for every field. May change with each snapshot.
    fn refusals(&self) -> &[Refusal] {
        &[]
    }
    /// The fields that came from the eBPF walk.
    fn fields(&self) -> Fields {
        Fields::NONE
    }
    /// What the newest snapshot cost.
    fn costs(&self) -> Costs {
        Costs::default()
    }
}

/// What a snapshot cost, and what it could not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Costs {
    /// Waiting for the kernel to fold its per-CPU counters. 0 without a walk.
    pub flush: Duration,
    /// The walk, all of it under the kernel's `cgroup_mutex`; reading all files without a walk.
    pub walk: Duration,
    /// Time to map cgroup ids to pods and containers.
    pub identify: Duration,
    /// Cgroups that were visited.
    pub seen: usize,
    /// Those that belong to a pod.
    pub identified: usize,
    /// Those that no listing of directories has shown.
    pub unlisted: usize,
    /// Those with a counter that the program could not read.
    pub faulted: usize,
    /// Directories and files that could not be read.
    pub unreadable: usize,
    /// Removed cgroups that the kernel still holds because something of theirs is charged, as of at most half a minute
    /// ago.
    pub dying: u64,
}

/// A walk that gave no snapshot. Nothing is published for it.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// A read failed.
    #[error("cannot read {what}: {source}")]
    Read {
        /// The file or call.
        what: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of the kernel does not have the form it is documented to have.
    #[error("cannot understand {what}: {why}")]
    Parse {
        /// The file.
        what: String,
        /// What is missing.
        why: &'static str,
    },
    /// The kubepods cgroup is not there (any more). It is looked for again at the next snapshot.
    #[error("no kubepods cgroup below {root}: is the kubelet running, and is cgroup2 mounted there?")]
    NoKubepods {
        /// Where it was looked for.
        root: String,
    },
    /// The walk met more cgroups than the array holds.
    #[error(
        "the cgroup tree needs {needed} slots and the array has {slots}: restart the agent, which sizes it at startup for twice the cgroups it finds"
    )]
    Truncated {
        /// Slots of the array.
        slots: u32,
        /// Slots that the walk would have needed.
        needed: u64,
    },
    /// Containers have their cgroups outside kubepods, where the walk does not go.
    #[error(
        "container cgroups are outside kubepods, as {path}: the kubelet uses the systemd cgroup driver and the container runtime does not (containerd: SystemdCgroup = true)"
    )]
    Outside {
        /// One of them.
        path: String,
    },
    /// The walk ended without publishing a session.
    #[error("the walk published nothing: {why}")]
    Unpublished {
        /// What was found instead.
        why: String,
    },
}

impl CollectError {
    /// An error about reading `what`.
    pub(crate) fn read(what: impl Into<String>, source: impl Into<std::io::Error>) -> Self {
        Self::Read { what: what.into(), source: source.into() }
    }
}

/// Both clocks of a snapshot, now.
pub fn clocks() -> (BootTime, RealTime) {
    clock::middle_since(clock::boot())
}

/// The machine's page size in bytes.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

/// Processors of the machine, whatever this process may use of them.
fn processors() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    (lines.count() as u64).max(1)
}
