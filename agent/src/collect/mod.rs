//! One instant of the node's cgroups: the [`Collector`] trait and what a walk yields. The two implementations are
//! `bpf` (one eBPF iterator walk) and `cgroupfs` (files with kept descriptors); `parity` compares them, `node` reads
//! the node's totals.

use std::sync::Arc;

use crate::identify::Identity;

/// A cgroup's 64-bit id (its inode number): unique per boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CgroupId(pub u64);

/// An instant of CLOCK_BOOTTIME, nanoseconds. For differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct BootTime(pub u64);

/// An instant of CLOCK_REALTIME, nanoseconds since the Unix epoch. For stamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RealTime(pub u64);

/// All pod and container cgroups of the node at one instant. Reused from walk to walk.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The instant: the middle of the walk.
    pub boot: BootTime,
    /// The same instant for people.
    pub real: RealTime,
    /// Totals of the node.
    pub node: NodeTotals,
    /// Pod cgroups (`identity.container` is `None`) and container cgroups, ascending by cgroup id.
    pub samples: Vec<Sample>,
}

/// The counters of one cgroup at the snapshot's instant.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Key of the counters.
    pub cgroup: CgroupId,
    /// Whose they are.
    pub identity: Arc<Identity>,
    /// CPU time since the cgroup was made, ns, descendants included.
    pub cpu_ns: u64,
    /// Memory; `None` where the memory controller is not enabled for the cgroup.
    pub memory: Option<Memory>,
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

/// Totals of the node, from the root files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NodeTotals {
    /// `usage_usec` of the root's `cpu.stat`, in ns.
    pub cpu_ns: u64,
    /// `anon + file − inactive_file` of the root's `memory.stat`, floored at 0, bytes.
    pub working_set_bytes: u64,
    /// `SwapTotal − SwapFree`, bytes; `None` where the node has no swap.
    pub swap_bytes: Option<u64>,
}

/// Reads all pod cgroups of the node at one instant.
pub trait Collector: Send {
    /// Takes one snapshot into `into`, whose buffers are reused.
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError>;
    /// `bpf` or `cgroupfs`.
    fn name(&self) -> &'static str;
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
}

/// The machine's page size in bytes.
pub fn page_size() -> u64 {
    rustix::param::page_size() as u64
}
