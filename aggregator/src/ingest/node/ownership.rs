//! Which of the containers and pods that a node reports are its own, by the inventory.

use std::{collections::HashSet, time::Duration};

use super::NodeState;
use crate::{
    ingest::protocol::{Decoder, Ownership, UnmeasuredPod},
    inventory::Inventory,
    units::BootTime,
};

/// Samples of a message that were not stored, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::ingest) struct Dropped {
    pub(in crate::ingest) foreign: u64,
    pub(in crate::ingest) unknown: u64,
}

impl NodeState {
    /// Judges which of the stream's containers are stored. `changed`: the inventory changed since the last time.
    pub(in crate::ingest) fn judge(
        &self,
        decoder: &mut Decoder,
        boot: BootTime,
        hold: Duration,
        changed: bool,
        inventory: &Inventory,
    ) -> Dropped {
        let mut uids: Option<HashSet<&str>> = None;
        let mut dropped = Dropped::default();
        for live in decoder.live() {
            let since = match live.ownership {
                Ownership::Accepted | Ownership::Foreign | Ownership::Unknown if !changed => {
                    dropped.add(live.ownership);
                    continue;
                }
                Ownership::Held(since) => Some(since),
                _ => None,
            };
            let uids = uids.get_or_insert_with(|| self.uids());
            live.ownership = if uids.contains(&*live.key.pod) {
                Ownership::Accepted
            } else if inventory.pod_with_uid(&live.key.pod).is_some() {
                Ownership::Foreign
            } else {
                match (live.ownership, since) {
                    (Ownership::Unknown, _) => Ownership::Unknown,
                    (_, Some(since)) if boot.since(since) >= hold => Ownership::Unknown,
                    (_, Some(since)) => Ownership::Held(since),
                    (_, None) => Ownership::Held(boot),
                }
            };
            dropped.add(live.ownership);
        }
        dropped
    }

    /// How many of these are pods on this node.
    pub(in crate::ingest) fn own_pods(&self, reported: &[UnmeasuredPod]) -> usize {
        if reported.is_empty() {
            return 0;
        }
        let uids = self.uids();
        let own: HashSet<&str> =
            reported.iter().map(|pod| &*pod.uid).filter(|uid| uids.contains(uid)).collect();
        own.len()
    }

    /// The UIDs that cgroup paths on this node have.
    fn uids(&self) -> HashSet<&str> {
        let fixed = self.pods.iter().filter_map(|pod| pod.static_uid.as_deref());
        self.pods.iter().map(|pod| &*pod.uid).chain(fixed).collect()
    }
}

impl Dropped {
    fn add(&mut self, ownership: Ownership) {
        match ownership {
            Ownership::Foreign => self.foreign += 1,
            Ownership::Unknown => self.unknown += 1,
            Ownership::New | Ownership::Accepted | Ownership::Held(_) => {}
        }
    }
}
