//! Frames as messages of one stream: handles instead of names, differences instead of values. Pure.

use std::collections::HashSet;

use bytes::Bytes;
use waggle_proto::ingest::{Clock, Container, NodeTotals, PodTotals, Snapshot};

use super::ring::{ContainerSample, Frame, LocalRing, PodSample, search_from};
use crate::collect::CgroupId;

/// State of one stream.
#[derive(Debug, Default)]
pub struct Encoder {
    highest: u32,
    /// In ascending order of handle: the order of every column.
    live: Vec<Live>,
}

#[derive(Debug, Clone, Copy)]
struct Live {
    handle: u32,
    cgroup: CgroupId,
    /// The values of the stream's previous message.
    cpu_ns: u64,
    working_set_pages: u32,
    swap_pages: u32,
}

impl Encoder {
    /// The next message. Identities of new containers come from `ring`, where the frame is from.
    pub fn encode(&mut self, frame: &Frame, ring: &LocalRing, replay: bool) -> Snapshot {
        let mut message = Snapshot {
            clock: Some(Clock { boot_ns: frame.boot.0, realtime_ns: frame.real.0 }),
            node: node_totals(frame),
            unmeasured_pods: frame.unmeasured_pods.iter().map(pod_totals).collect(),
            replay,
            ..Snapshot::default()
        };
        self.retire(frame, &mut message);
        if self.live.len() < frame.containers.len() {
            self.introduce(frame, ring, &mut message);
        }
        self.columns(frame, &mut message);
        message
    }

    /// A container that is gone, or whose counter went back, loses its handle.
    fn retire(&mut self, frame: &Frame, message: &mut Snapshot) {
        let mut next = 0;
        self.live.retain(|live| {
            let stays = find(frame, &mut next, live.cgroup)
                .is_some_and(|sample| sample.counters.cpu_ns >= live.cpu_ns);
            if !stays {
                message.retired.push(live.handle);
            }
            stays
        });
    }

    fn introduce(&mut self, frame: &Frame, ring: &LocalRing, message: &mut Snapshot) {
        let live: HashSet<CgroupId> = self.live.iter().map(|live| live.cgroup).collect();
        for sample in frame.containers.iter().filter(|sample| !live.contains(&sample.cgroup)) {
            let Some(history) = ring.history(sample.cgroup) else { continue };
            let Some(container) = history.container() else { continue };
            self.highest += 1;
            // `absent` bounds the counter only if it is older than this frame.
            let absent = history.absent.filter(|absent| *absent < frame.boot);
            message.introduced.push(Container {
                handle: self.highest,
                cgroup_id: sample.cgroup.0,
                pod_uid: history.pod().as_str().to_owned(),
                container_id: Bytes::copy_from_slice(container.as_bytes()),
                absent_boot_ns: absent.map_or(0, |absent| absent.0),
            });
            self.live.push(Live {
                handle: self.highest,
                cgroup: sample.cgroup,
                cpu_ns: 0,
                working_set_pages: 0,
                swap_pages: 0,
            });
        }
    }

    fn columns(&mut self, frame: &Frame, message: &mut Snapshot) {
        let swap = frame.containers.iter().all(|sample| sample.counters.swap_pages.is_some());
        message.cpu_ns.reserve_exact(self.live.len());
        message.working_set_pages.reserve_exact(self.live.len());
        let mut next = 0;
        for live in &mut self.live {
            // Every live container has a sample: the others were retired.
            let Some(counters) = find(frame, &mut next, live.cgroup).map(|sample| sample.counters) else {
                continue;
            };
            message.cpu_ns.push(counters.cpu_ns - live.cpu_ns);
            message.working_set_pages.push(difference(live.working_set_pages, counters.working_set_pages));
            live.cpu_ns = counters.cpu_ns;
            live.working_set_pages = counters.working_set_pages;
            if let (true, Some(pages)) = (swap, counters.swap_pages) {
                message.swap_pages.push(difference(live.swap_pages, pages));
                live.swap_pages = pages;
            }
        }
    }
}

/// `None` unless both are known: the aggregator serves a node with CPU and memory or not at all.
fn node_totals(frame: &Frame) -> Option<NodeTotals> {
    Some(NodeTotals {
        cpu_ns: frame.node.cpu_ns?,
        working_set_bytes: frame.node.working_set_bytes?,
        swap_bytes: frame.node.swap_bytes,
    })
}

fn pod_totals(pod: &PodSample) -> PodTotals {
    PodTotals {
        pod_uid: pod.identity.pod.as_str().to_owned(),
        cgroup_id: pod.cgroup.0,
        cpu_ns: pod.counters.cpu_ns,
        working_set_pages: pod.counters.working_set_pages,
        swap_pages: pod.counters.swap_pages,
    }
}

fn find<'f>(frame: &'f Frame, next: &mut usize, cgroup: CgroupId) -> Option<&'f ContainerSample> {
    let at = search_from(&frame.containers, next, cgroup, |sample| sample.cgroup)?;
    frame.containers.get(at)
}

fn difference(before: u32, after: u32) -> i64 {
    i64::from(after) - i64::from(before)
}
