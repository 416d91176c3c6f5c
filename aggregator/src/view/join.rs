//! Joins the ring with the inventory of one node: which column belongs to which container of which pod. Made again when
//! either side's composition changes; the numbers are then read without any lookup. Pure.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use super::{Entries, Measured, NodeEntry, NodeView, PodEntry, Usage};
use crate::{
    inventory::{ContainerNames, Node, Pod},
    ring::{Column, Moment, Rate, Shard},
    units::{Bytes, ContainerId},
};

/// A timestamp goes back only by more than this: the clock that gave the earlier one was wrong then, and its time may
/// not come for years.
const STEP_NS: u64 = 5 * 60 * 1_000_000_000;

/// The pods of one node and where their containers' samples stand in its shard.
#[derive(Debug, Default)]
pub struct Join {
    served: bool,
    page_size: u64,
    pods: Vec<JoinedPod>,
}

#[derive(Debug)]
struct JoinedPod {
    pod: Arc<Pod>,
    /// The expected set in serving order, as in `pod.indexed.expected`: index into the shard's columns where a sample
    /// exists.
    expected: Vec<Option<usize>>,
}

impl Join {
    /// Joins the containers of `shard` with the `pods` that the inventory has on the node. `node` is its Node object,
    /// `page_size` the unit of the shard's memory in bytes.
    ///
    /// A column belongs to a pod by `metadata.uid`, else by the UID of a static pod, which never overrides the former.
    pub fn new(shard: &Shard, page_size: u64, node: Option<&Node>, pods: &[Arc<Pod>]) -> Self {
        let columns: HashMap<ContainerId, (usize, &Column)> = shard
            .columns()
            .iter()
            .enumerate()
            .map(|(at, column)| (column.key().container, (at, column)))
            .collect();
        let uids: HashSet<&str> = pods.iter().map(|pod| &*pod.uid).collect();
        let belongs = |pod: &Pod, column: &Column| {
            let uid = &*column.key().pod;
            uid == &*pod.uid || (pod.static_uid.as_deref() == Some(uid) && !uids.contains(uid))
        };
        let joined = pods.iter().filter(|pod| pod.running).map(|pod| {
            let expected = pod.containers.iter().filter(|container| container.running);
            let column = |id: Option<ContainerId>| {
                columns.get(&id?).filter(|(_, column)| belongs(pod, column)).map(|(at, _)| *at)
            };
            let expected = expected.map(|container| column(container.id)).collect();
            JoinedPod { pod: Arc::clone(pod), expected }
        });
        Self { served: node.is_some(), page_size, pods: joined.collect() }
    }

    /// What is to be served after the newest sample of `shard`, given what was served before. Complete entries are
    /// new, the others are those of `previous`; a pod that has neither is absent, and so is one that is being deleted once
    /// none of its containers is left.
    pub fn view(&self, shard: &Shard, previous: &NodeView) -> NodeView {
        let containers = self.pods.iter().map(|joined| joined.expected.len()).sum();
        let mut pods = Entries::with_capacity(self.pods.len(), containers);
        let mut usages = Vec::new();
        for joined in &self.pods {
            joined.put(&mut pods, &mut usages, (shard, self.page_size), previous.pods.get(&joined.pod));
        }
        NodeView { node: self.node(shard, previous.node.as_ref()), pods }
    }

    fn node(&self, shard: &Shard, held: Option<&NodeEntry>) -> Option<NodeEntry> {
        if !self.served {
            return None;
        }
        // No node runs without memory or CPU time: a zero is a reading that is missing.
        let totals = shard.node().filter(|(totals, _)| totals.cpu_ns > 0 && totals.working_set_bytes > 0);
        let fresh = shard.newest().zip(totals).map(|(newest, (totals, rate))| NodeEntry {
            measured: Measured::new(newest, rate.window),
            usage: Usage {
                cpu: rate.cpu,
                memory: Bytes(totals.working_set_bytes),
                swap: totals.swap_bytes.map(Bytes),
            },
        });
        let Some(mut fresh) = fresh else { return held.cloned() };
        fresh.measured.follow(held.map(|held| &held.measured));
        Some(fresh)
    }
}

impl JoinedPod {
    /// Sets the pod's entry: the newest one if it is complete, else the one `held` before. `usages` is what the last pod
    /// needed too.
    fn put(
        &self,
        to: &mut Entries,
        usages: &mut Vec<Usage>,
        (shard, page_size): (&Shard, u64),
        held: Option<PodEntry<'_>>,
    ) {
        let fresh = self.complete(shard, page_size, usages);
        if let Some(mut measured) = fresh {
            measured.follow(held.map(|held| held.measured));
            to.set(&self.pod, measured, &self.pod.indexed.expected, usages);
        } else if let Some(held) = held.filter(|_| !self.ended(shard)) {
            self.hold(to, held);
        }
    }

    /// Whether nothing of it runs any more, nor will: it is to be deleted, and the newest sample has none of its containers. Until the
    /// kubelet has said so its status may still name them, for as long as it has other things to do.
    fn ended(&self, shard: &Shard) -> bool {
        self.pod.terminating && shard.newest().is_some() && self.expected.iter().all(Option::is_none)
    }

    /// What the newest sample says, if every container of the expected set has one with a rate and a working set.
    fn complete(&self, shard: &Shard, page_size: u64, usages: &mut Vec<Usage>) -> Option<Measured> {
        let newest = shard.newest()?;
        let mut window: Option<Duration> = None;
        usages.clear();
        for column in &self.expected {
            let column = shard.columns().get((*column)?)?;
            let rate = shard.rate(column)?;
            window = Some(window.map_or(rate.window, |shortest| shortest.min(rate.window)));
            usages.push(usage(column, rate, page_size)?);
        }
        Some(Measured::new(newest, window?))
    }

    /// The entry from before, without containers that the API no longer expects: what leaves the set is decided by
    /// the status, never by missing data.
    fn hold(&self, to: &mut Entries, held: PodEntry<'_>) {
        let expected = &self.pod.indexed.expected;
        let is_expected = |name: &str| expected.iter().any(|expected| expected.text() == name);
        if held.names.is_same(expected) || held.names.iter().all(|name| is_expected(name.text())) {
            return to.set(&self.pod, *held.measured, held.names, held.usages);
        }
        let (names, usages): (Vec<_>, Vec<_>) =
            held.containers().filter(|(name, _)| is_expected(name)).unzip();
        to.set(&self.pod, *held.measured, &ContainerNames::of(names), &usages);
    }
}

fn usage(column: &Column, rate: Rate, page_size: u64) -> Option<Usage> {
    let bytes = |pages: u32| Bytes(u64::from(pages).saturating_mul(page_size));
    let memory = bytes(column.working_set_pages()?);
    Some(Usage { cpu: rate.cpu, memory, swap: column.swap_pages().map(bytes) })
}

impl Measured {
    /// The window is cut to milliseconds, as metrics-server's is: a client in Java reads nine decimals as milliseconds, so that
    /// 14.986303975 s become years.
    fn new(newest: Moment, window: Duration) -> Self {
        let cut = Duration::new(window.as_secs(), window.subsec_millis() * 1_000_000);
        Self { timestamp: newest.real, window: cut, seen: newest.seen }
    }

    /// Keeps the timestamp from going back: a newer sample may have an earlier one where a clock was set back.
    fn follow(&mut self, held: Option<&Self>) {
        let Some(held) = held else { return };
        if held.timestamp.0.saturating_sub(self.timestamp.0) <= STEP_NS {
            self.timestamp = self.timestamp.max(held.timestamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::units::{BootTime, RealTime};

    #[test]
    fn a_window_has_no_more_than_milliseconds() {
        let newest = Moment { boot: BootTime(1), real: RealTime(2), seen: Instant::now() };
        let window = |nanos| Measured::new(newest, Duration::from_nanos(nanos)).window.as_nanos();
        assert_eq!(window(14_986_303_975), 14_986_000_000);
        assert_eq!(window(15_000_000_000), 15_000_000_000);
    }
}
