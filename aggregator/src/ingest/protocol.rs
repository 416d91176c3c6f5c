//! Decodes the messages of one stream into readings: handles and columns of differences. Pure. The first message that
//! breaks the protocol ends the stream, so a decoder that returned a [`Fault`] is not used again; nothing of such a
//! message has left it.

use std::{collections::HashSet, sync::Arc};

use waggle_proto::ingest;

use super::{fault::Fault, limits::Limits};
use crate::{
    ring::{Key, Reading, Totals},
    units::{BootTime, CgroupId, ContainerId, RealTime},
};

/// Whether a live container's samples are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Not judged yet.
    New,
    /// Its pod is on the stream's node.
    Accepted,
    /// The inventory does not know its pod; the instant is when that was first seen.
    Held(BootTime),
    /// Its pod is known on another node.
    Foreign,
    /// Held for its interval and still unknown.
    Unknown,
}

/// A container between `introduced` and `retired`, with its values as of the newest message.
#[derive(Debug)]
pub struct LiveContainer {
    handle: u32,
    /// Whose.
    pub key: Arc<Key>,
    /// Whether it is stored.
    pub ownership: Ownership,
    cpu_ns: u64,
    working_set_pages: u32,
    swap_pages: u32,
}

/// A pod with a container that is not measured. Such pods are counted and not served, so the values of their totals
/// are not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnmeasuredPod {
    /// As the cgroup path has it.
    pub uid: Box<str>,
    /// The pod-level cgroup.
    pub cgroup: CgroupId,
}

/// The parts of a message other than the values of live containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    /// Its instant.
    pub boot: BootTime,
    /// The same instant on the node's own clock.
    pub real: RealTime,
    /// The node's totals.
    pub node: Option<Totals>,
    /// From the agent's local ring, older than the stream.
    pub replay: bool,
    swap: bool,
}

/// State of one stream.
#[derive(Debug)]
pub struct Decoder {
    page_size: u64,
    opened: BootTime,
    last: BootTime,
    highest: u32,
    live: Vec<LiveContainer>,
    unmeasured_pods: Vec<UnmeasuredPod>,
}

impl Decoder {
    /// For a stream whose `Hello` was read at `opened` on the boot clock. The page size is a power of two from 4 KiB to 1 MiB.
    pub fn new(page_size: u32, opened: BootTime) -> Result<Self, Fault> {
        if !page_size.is_power_of_two() || !(4096..=1 << 20).contains(&page_size) {
            return Err(Fault::Malformed("page_size is not one of any machine"));
        }
        let page_size = u64::from(page_size);
        Ok(Self {
            page_size,
            opened,
            last: BootTime(0),
            highest: 0,
            live: Vec::new(),
            unmeasured_pods: Vec::new(),
        })
    }

    /// Says that messages must be newer than `newest`.
    pub fn start_after(&mut self, newest: BootTime) {
        self.last = newest;
    }

    /// Bytes per page.
    pub fn page_size(&self) -> u64 {
        self.page_size
    }

    /// The live containers, in ascending order of handle.
    pub fn live(&mut self) -> &mut [LiveContainer] {
        &mut self.live
    }

    /// Of the newest message: the pods of which a container is not measured.
    pub fn unmeasured_pods(&self) -> &[UnmeasuredPod] {
        &self.unmeasured_pods
    }

    /// The values of the newest message, of the containers that are stored.
    pub fn readings(&self, decoded: Decoded) -> impl Iterator<Item = Reading<'_>> {
        let stored =
            |live: &&LiveContainer| matches!(live.ownership, Ownership::Accepted | Ownership::Held(_));
        self.live.iter().filter(stored).map(move |live| Reading {
            key: &live.key,
            cpu_ns: live.cpu_ns,
            working_set_pages: live.working_set_pages,
            swap_pages: decoded.swap.then_some(live.swap_pages),
        })
    }

    /// Takes the next message. `Err` ends the stream.
    pub fn decode(&mut self, message: &ingest::Snapshot, limits: &Limits) -> Result<Decoded, Fault> {
        let clock = message.clock.ok_or(Fault::Malformed("a snapshot has no clock"))?;
        let boot = BootTime(clock.boot_ns);
        if boot <= self.last {
            return Err(Fault::OutOfOrder { offered: boot.0, newest: self.last.0 });
        }
        if message.replay && boot > self.opened {
            return Err(Fault::Malformed("a replayed snapshot is newer than the stream"));
        }
        self.retire(&message.retired)?;
        let all = self.live.len().saturating_add(message.introduced.len());
        if all > limits.containers {
            return Err(Fault::TooManyContainers { offered: all, limit: limits.containers });
        }
        self.introduce(&message.introduced, boot)?;
        self.advance(message)?;
        self.take_unmeasured_pods(&message.unmeasured_pods, limits)?;
        let node = message.node.map(|node| Totals {
            cpu_ns: node.cpu_ns,
            working_set_bytes: node.working_set_bytes,
            swap_bytes: node.swap_bytes,
        });
        self.last = boot;
        let swap = !message.swap_pages.is_empty();
        Ok(Decoded { boot, real: RealTime(clock.realtime_ns), node, replay: message.replay, swap })
    }

    fn retire(&mut self, retired: &[u32]) -> Result<(), Fault> {
        if retired.is_empty() {
            return Ok(());
        }
        let gone: HashSet<u32> = retired.iter().copied().collect();
        let before = self.live.len();
        self.live.retain(|live| !gone.contains(&live.handle));
        if before - self.live.len() != retired.len() {
            return Err(Fault::Malformed("a handle was retired that is not live, or twice"));
        }
        Ok(())
    }

    fn introduce(&mut self, introduced: &[ingest::Container], boot: BootTime) -> Result<(), Fault> {
        if introduced.is_empty() {
            return Ok(());
        }
        let mut cgroups: HashSet<CgroupId> = self.live.iter().map(|live| live.key.cgroup).collect();
        for container in introduced {
            if container.handle <= self.highest {
                return Err(Fault::Malformed(
                    "a handle was introduced that is not greater than all before it",
                ));
            }
            self.highest = container.handle;
            let key = key(container, boot)?;
            if !cgroups.insert(key.cgroup) {
                return Err(Fault::Malformed("a cgroup has two live handles"));
            }
            self.live.push(LiveContainer {
                handle: container.handle,
                key: Arc::new(key),
                ownership: Ownership::New,
                cpu_ns: 0,
                working_set_pages: 0,
                swap_pages: 0,
            });
        }
        Ok(())
    }

    /// Adds the columns to the live values.
    fn advance(&mut self, message: &ingest::Snapshot) -> Result<(), Fault> {
        let length = self.live.len();
        let swap = &message.swap_pages;
        if message.cpu_ns.len() != length
            || message.working_set_pages.len() != length
            || (!swap.is_empty() && swap.len() != length)
        {
            return Err(Fault::Malformed("a column has not one entry per live handle"));
        }
        let columns = message.cpu_ns.iter().zip(&message.working_set_pages);
        for (live, (cpu_ns, working_set)) in self.live.iter_mut().zip(columns) {
            live.cpu_ns =
                live.cpu_ns.checked_add(*cpu_ns).ok_or(Fault::Malformed("a CPU counter overflows"))?;
            live.working_set_pages = pages(live.working_set_pages, *working_set)?;
        }
        for (live, swap) in self.live.iter_mut().zip(swap) {
            live.swap_pages = pages(live.swap_pages, *swap)?;
        }
        Ok(())
    }

    fn take_unmeasured_pods(&mut self, pods: &[ingest::PodTotals], limits: &Limits) -> Result<(), Fault> {
        self.unmeasured_pods.clear();
        if pods.is_empty() {
            return Ok(());
        }
        if pods.len() > limits.pods {
            return Err(Fault::TooManyPods { offered: pods.len(), limit: limits.pods });
        }
        let mut cgroups: HashSet<CgroupId> = self.live.iter().map(|live| live.key.cgroup).collect();
        for pod in pods {
            let cgroup = CgroupId(pod.cgroup_id);
            if !is_pod_uid(&pod.pod_uid) {
                return Err(Fault::Malformed("a pod UID is not one"));
            }
            if !cgroups.insert(cgroup) {
                return Err(Fault::Malformed("the cgroup of a pod's totals is another pod's or container's"));
            }
            self.unmeasured_pods.push(UnmeasuredPod { uid: pod.pod_uid.as_str().into(), cgroup });
        }
        Ok(())
    }
}

fn key(container: &ingest::Container, boot: BootTime) -> Result<Key, Fault> {
    let uid = container.pod_uid.as_str();
    if !is_pod_uid(uid) {
        return Err(Fault::Malformed("a pod UID is not one"));
    }
    let id = <[u8; 32]>::try_from(container.container_id.as_ref())
        .map_err(|_| Fault::Malformed("a container id has not 32 bytes"))?;
    if container.absent_boot_ns >= boot.0 {
        return Err(Fault::Malformed("a container was absent at its own sample"));
    }
    Ok(Key {
        cgroup: CgroupId(container.cgroup_id),
        pod: uid.into(),
        container: ContainerId(id),
        absent: (container.absent_boot_ns > 0).then_some(BootTime(container.absent_boot_ns)),
    })
}

fn is_pod_uid(text: &str) -> bool {
    matches!(text.len(), 32 | 36) && text.bytes().all(|c| c.is_ascii_hexdigit() || c == b'-')
}

fn pages(before: u32, difference: i64) -> Result<u32, Fault> {
    i64::from(before)
        .checked_add(difference)
        .and_then(|pages| u32::try_from(pages).ok())
        .ok_or(Fault::Malformed("a memory column goes below zero or beyond 2³² pages"))
}
