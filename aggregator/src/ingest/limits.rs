//! The limits on what a node can have reported: how much in one message, and how large a value. Pure.

use std::time::Duration;

use crate::{
    inventory::Node,
    ring::Bounds,
    units::{Bytes, NanoCores},
};

/// How many times its capacity a node can use before a value is nonsense. `status.capacity` is what the kubelet read
/// when it started: memory that was added later is not in it (up to 194 % of it were reported), and a kernel whose
/// processors the hypervisor had taken accounts the time later.
const TIMES_CAPACITY: u64 = 16;
/// CPU time that is believed whatever the span, in time of the whole node: two samples may follow each other closely,
/// and a walk reads its counters some time after its stamp.
const LATE: Duration = Duration::from_secs(1);
/// Pod-level cgroups per pod of a full node: a pod that is being deleted has one until the kubelet has removed it, and
/// after a change of the cgroup driver stale ones remain.
const CGROUPS_PER_POD: u32 = 2;
/// Containers per pod that are believed, on average over a full node.
const CONTAINERS_PER_POD: u32 = 16;
/// Pods per node where the Node object does not say: the kubelet's default.
const PODS: u32 = 110;
/// Pods per node that are believed, whatever `status.capacity.pods` says: the kubelet writes it, so a node that lies
/// does. Kubernetes is tested with 110, providers allow up to 256, single vendors 500.
const MOST_PODS: u32 = 512;

/// The limits of one node's messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Containers that a message may have.
    pub containers: usize,
    /// Pod-level cgroups that a message may have totals of.
    pub pods: usize,
    /// CPU capacity; zero where it is not known.
    pub cpu: NanoCores,
    /// Memory capacity; zero where it is not known.
    pub memory: Bytes,
}

impl Limits {
    /// Of a Node object. Without one, or where it does not say, only the numbers of containers and pods are limited.
    pub fn of(node: Option<&Node>) -> Self {
        let pods = node.map(|node| node.pod_capacity).filter(|pods| *pods > 0).unwrap_or(PODS).min(MOST_PODS);
        let whole = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
        Self {
            containers: whole(pods.saturating_mul(CONTAINERS_PER_POD)),
            pods: whole(pods.saturating_mul(CGROUPS_PER_POD)),
            cpu: node.map(|node| node.cpu_capacity).unwrap_or_default(),
            memory: node.map(|node| node.memory_capacity).unwrap_or_default(),
        }
    }

    /// The largest values that are believed, for a node with that page size.
    pub fn bounds(&self, page_size: u64) -> Bounds {
        let mut bounds = Bounds { page_size, ..Bounds::default() };
        if self.cpu.0 > 0 {
            let late_ns = u128::from(self.cpu.0) * LATE.as_nanos() / 1_000_000_000;
            bounds.cpu = NanoCores(self.cpu.0.saturating_mul(TIMES_CAPACITY));
            bounds.late_ns = u64::try_from(late_ns).unwrap_or(u64::MAX);
        }
        if self.memory.0 > 0 {
            bounds.memory = Bytes(self.memory.0.saturating_mul(TIMES_CAPACITY));
        }
        bounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Labels;

    fn node(pod_capacity: u32) -> Node {
        Node {
            name: "n1".into(),
            uid: "uid".into(),
            labels: Labels::new(),
            cpu_capacity: NanoCores(2_000_000_000),
            memory_capacity: Bytes(1 << 30),
            pod_capacity,
        }
    }

    #[test]
    fn numbers_follow_the_capacity_up_to_those_of_the_largest_node() {
        let numbers = |pods: u32| {
            let limits = Limits::of(Some(&node(pods)));
            (limits.containers, limits.pods)
        };
        assert_eq!([numbers(0), numbers(110), numbers(500)], [(1760, 220), (1760, 220), (8000, 1000)]);
        assert_eq!([numbers(512), numbers(513), numbers(u32::MAX)], [(8192, 1024); 3]);
        assert_eq!(Limits::of(None).containers, 1760);
    }

    #[test]
    fn values_are_bounded_by_many_times_the_capacity_and_not_at_all_without_one() {
        let bounds = Limits::of(Some(&node(110))).bounds(4096);
        assert_eq!(
            bounds,
            Bounds {
                cpu: NanoCores(32_000_000_000),
                late_ns: 2_000_000_000,
                memory: Bytes(16 << 30),
                page_size: 4096
            }
        );
        let unknown = Node { cpu_capacity: NanoCores(0), memory_capacity: Bytes(0), ..node(110) };
        for node in [None, Some(&unknown)] {
            assert_eq!(Limits::of(node).bounds(4096), Bounds { page_size: 4096, ..Bounds::default() });
        }
    }
}
