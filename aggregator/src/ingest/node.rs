//! One node as the agent port sees it: its shard, its pods, its live stream. Every change ends in a new view. The lock
//! around it is the node's own: nodes never wait for each other, and readers of views never wait for it.

mod ownership;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    admission::Admitted,
    fault::{Closed, Fault},
    limits::Limits,
    protocol::{Decoded, Decoder},
};
use crate::{
    inventory::{Inventory, Node, Pod},
    ring::{Counter, Implausible, Moment, Shard},
    units::{BootId, BootTime},
    view::{Join, Views},
};

/// The pause between two log lines about implausible values of one node.
const LOG_PAUSE: Duration = Duration::from_mins(1);

/// State of one node.
#[derive(Debug)]
pub(super) struct NodeState {
    name: Arc<str>,
    shard: Shard,
    page_size: u64,
    node: Option<Arc<Node>>,
    pods: Vec<Arc<Pod>>,
    /// Grows with every look at the inventory: ownerships judged before are judged again.
    epoch: u64,
    join: Join,
    /// What the join was made for.
    joined: (u64, u64),
    generation: u64,
    live: Option<LiveStream>,
    forgotten: bool,
    /// When an implausible value was logged last.
    logged: Option<Instant>,
}

#[derive(Debug)]
struct LiveStream {
    agent: Arc<Pod>,
    node_uid: Box<str>,
    end: oneshot::Sender<Closed>,
}

/// What a stream holds of its node's state.
#[derive(Debug)]
pub(super) struct Opened {
    /// Proof that the stream is still the live one.
    pub(super) generation: u64,
    /// Resolves when it has to end.
    pub(super) end: oneshot::Receiver<Closed>,
    /// Newest sample held of this boot.
    pub(super) newest: BootTime,
}

impl NodeState {
    pub(super) fn new(name: Arc<str>, window: Duration) -> Self {
        Self {
            name,
            shard: Shard::new(window),
            page_size: 0,
            node: None,
            pods: Vec::new(),
            epoch: 0,
            join: Join::default(),
            joined: (0, 0),
            generation: 0,
            live: None,
            forgotten: false,
            logged: None,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Says that the table of nodes no longer has this state: it takes no stream any more.
    pub(super) fn forget(&mut self) {
        self.forgotten = true;
    }

    /// Whether the table of nodes no longer has this state.
    pub(super) fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Discards everything that is held of this boot if the newest of it lies after `latest`, the latest instant that
    /// the node can have reached. Otherwise nothing newer would be taken until the node boots.
    pub(super) fn discard_after(&mut self, boot: &BootId, latest: BootTime) {
        if self.shard.is_of(boot) && self.shard.newest().is_some_and(|newest| newest.boot > latest) {
            self.shard.clear(boot);
        }
    }

    /// The newest instant held.
    pub(super) fn newest(&self) -> Option<Moment> {
        self.shard.newest()
    }

    /// Makes an admitted stream the live one; the one before it ends. `Err` if its agent or node is gone by now: a change
    /// of the inventory that was announced before this can end no stream that opens after it.
    pub(super) fn open(
        &mut self,
        admitted: &Admitted,
        boot: &BootId,
        page_size: u64,
        inventory: &Inventory,
    ) -> Result<Opened, Closed> {
        self.refresh(inventory);
        let (end, ended) = oneshot::channel();
        let live = LiveStream { agent: Arc::clone(&admitted.pod), node_uid: admitted.node.uid.clone(), end };
        if let Some(why) = self.objection_to(&live, inventory) {
            return Err(why);
        }
        self.shard.begin(boot);
        self.page_size = page_size;
        self.bound();
        self.generation += 1;
        self.close(Closed::Superseded);
        self.live = Some(live);
        let newest = self.shard.newest().map_or(BootTime(0), |newest| newest.boot);
        Ok(Opened { generation: self.generation, end: ended, newest })
    }

    /// Whether the stream of that generation is the live one.
    pub(super) fn is_live(&self, generation: u64) -> bool {
        self.live.is_some() && self.generation == generation
    }

    /// The stream of that generation ended by itself.
    pub(super) fn ended(&mut self, generation: u64) {
        if self.generation == generation {
            self.live = None;
        }
    }

    /// Ends the live stream, if there is one.
    pub(super) fn close(&mut self, why: Closed) {
        if let Some(live) = self.live.take() {
            // A receiver that is gone has ended already.
            let _ = live.end.send(why);
        }
    }

    /// The limits of the node's messages.
    pub(super) fn limits(&self) -> Limits {
        Limits::of(self.node.as_deref())
    }

    /// Looks at the inventory again.
    pub(super) fn refresh(&mut self, inventory: &Inventory) {
        self.node = inventory.node(&self.name);
        self.pods = inventory.pods_on(&self.name);
        self.epoch += 1;
        self.bound();
    }

    fn bound(&mut self) {
        self.shard.bound(self.limits().bounds(self.page_size));
    }

    /// Whether the inventory has neither the node nor a pod on it.
    pub(super) fn is_gone(&self) -> bool {
        self.node.is_none() && self.pods.is_empty()
    }

    /// Why the live stream may not go on, now that the inventory changed.
    pub(super) fn objection(&self, inventory: &Inventory) -> Option<Closed> {
        self.objection_to(self.live.as_ref()?, inventory)
    }

    fn objection_to(&self, live: &LiveStream, inventory: &Inventory) -> Option<Closed> {
        if self.node.as_ref().is_none_or(|node| node.uid != live.node_uid) {
            return Some(Closed::NodeGone);
        }
        let same = inventory
            .pod(&live.agent.namespace, &live.agent.name)
            .is_some_and(|pod| pod.uid == live.agent.uid && pod.node == live.agent.node);
        (!same).then_some(Closed::AgentGone)
    }

    /// Number of the newest look at the inventory.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Stores a decoded message.
    pub(super) fn apply(
        &mut self,
        moment: Moment,
        message: Decoded,
        decoder: &Decoder,
        views: &Views,
    ) -> Result<(), Fault> {
        self.shard
            .apply(moment, message.node, decoder.readings(message))
            .map_err(|late| Fault::OutOfOrder { offered: late.offered.0, newest: late.newest.0 })?;
        self.publish(views);
        Ok(())
    }

    /// The values of the newest sample that were left out.
    pub(super) fn implausible(&self) -> &Implausible {
        self.shard.implausible()
    }

    /// Logs the first of these values, at most once a minute.
    pub(super) fn log_implausible(&mut self, now: Instant) {
        let Some(value) = &self.shard.implausible().first else { return };
        if self.logged.is_some_and(|last| now.saturating_duration_since(last) < LOG_PAUSE) {
            return;
        }
        self.logged = Some(now);
        let (counter, unit) = match value.counter {
            Counter::Cpu => ("cpu", "ns"),
            Counter::Memory => ("memory", "bytes"),
        };
        let of = value.container.as_deref();
        tracing::warn!(
            node = &*self.name,
            pod = of.map(|key| &*key.pod),
            container = of.map(|key| display(key.container)),
            counter,
            value = value.value,
            bound = value.bound,
            unit,
            "an agent reported an implausible value, which is left out; logged once a minute, counted in the metrics"
        );
    }

    /// Publishes what is to be served now.
    pub(super) fn publish(&mut self, views: &Views) {
        let sides = (self.shard.composition(), self.epoch);
        if self.joined != sides {
            self.join = Join::new(&self.shard, self.page_size, self.node.as_deref(), &self.pods);
            self.joined = sides;
        }
        let previous = views.node(&self.name).unwrap_or_default();
        views.publish(Arc::clone(&self.name), self.join.view(&self.shard, &previous));
    }
}
