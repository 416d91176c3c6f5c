//! What a stream does with each of its messages: decode, judge, stamp, store. Synchronous; clocks are passed in.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::oneshot;
use waggle_proto::{
    PROTOCOL_VERSION,
    ingest::{Hello, Snapshot},
};

use super::{
    IngestState, Metrics,
    admission::Admitted,
    agents::Presence,
    clock::NodeClock,
    fault::{Closed, End, Fault},
    node::NodeState,
    protocol::{Decoded, Decoder},
};
use crate::{
    ring::Moment,
    units::{BootId, BootTime, RealTime},
};

/// How far the newest sample that is held may lie ahead of the node's own clock.
const AHEAD: Duration = Duration::from_secs(5);
/// Oldest replayed sample that is stored: twice the agents' own ring.
const REPLAY: Duration = Duration::from_mins(2);

/// The two clocks of this process, read together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) monotonic: Instant,
    pub(super) wall: SystemTime,
}

/// A stream after its `Hello`, as long as it is its node's live one.
pub(super) struct NodeStream {
    state: IngestState,
    name: Arc<str>,
    node: Arc<Mutex<NodeState>>,
    generation: u64,
    presence: Presence,
    decoder: Decoder,
    /// Boot time of the node's hello.
    opened: BootTime,
    clock: NodeClock,
    epoch: u64,
    newest: BootTime,
    pub(super) pace: Duration,
}

impl NodeStream {
    /// Makes an admitted stream its node's live one. Also returns what resolves when it has to end, and the newest
    /// sample that is held already. `asked` is when the stream was asked for, which may be long before `now`.
    pub(super) fn open(
        state: &IngestState,
        admitted: &Admitted,
        hello: &Hello,
        asked: Instant,
        now: Instant,
    ) -> Result<(Self, oneshot::Receiver<Closed>, BootTime), End> {
        if hello.protocol != PROTOCOL_VERSION {
            return Err(Fault::Protocol(hello.protocol).into());
        }
        let boot = BootId::parse(&hello.boot_id).ok_or(Fault::Malformed("boot_id is not one"))?;
        let clock = hello.clock.ok_or(Fault::Malformed("the hello has no clock"))?;
        let read = BootTime(clock.boot_ns);
        let mut decoder = Decoder::new(hello.page_size, read)?;
        let (node, opened, presence) = loop {
            let node = state.node(&admitted.node.name);
            let mut locked = node.lock();
            // Forgotten between the look at the table and the lock: the table makes a new one.
            if !locked.is_forgotten() {
                // What is held may be newer than the hello: the stream before goes on until this one is admitted.
                let underway = now.saturating_duration_since(asked);
                locked.discard_after(&boot, read + underway + AHEAD);
                let opened = locked.open(admitted, &boot, decoder.page_size(), &state.shared.inventory);
                let opened = opened.inspect_err(|_| state.forget_if_gone(&mut locked))?;
                // Under the lock, so that of two streams the later one is exported.
                let agents = &state.shared.metrics.agents;
                let Hello { agent_version, collector, refusals, .. } = hello;
                let presence = agents.begin(&admitted.node.name, agent_version, collector, refusals);
                drop(locked);
                break (node, opened, presence);
            }
        };
        decoder.start_after(opened.newest);
        let stream = Self {
            state: state.clone(),
            name: Arc::clone(&admitted.node.name),
            node,
            generation: opened.generation,
            presence,
            decoder,
            opened: read,
            clock: NodeClock::new(read, asked),
            epoch: 0,
            newest: opened.newest,
            pace: state.pace(),
        };
        Ok((stream, opened.end, opened.newest))
    }

    /// Takes one message, or refuses it and leaves everything as it was.
    pub(super) fn take(&mut self, message: &Snapshot, now: Now) -> Result<(), End> {
        let shared = Arc::clone(&self.state.shared);
        let mut node = self.node.lock();
        if !node.is_live(self.generation) {
            let lost = message.cpu_ns.len() as u64;
            Metrics::count_many(&shared.metrics.dropped, "superseded", lost);
            return Err(End::Closed(Closed::Superseded));
        }
        let decoded = self.decoder.decode(message, &node.limits())?;
        if !decoded.replay {
            self.clock.observe(decoded.boot, now.monotonic);
        }
        let moment = self.moment(&decoded, node.newest(), now);
        let (changed, epoch) = (node.epoch() != self.epoch, node.epoch());
        let dropped = node.judge(&mut self.decoder, decoded.boot, self.pace, changed, &shared.inventory);
        self.epoch = epoch;
        Metrics::count_many(&shared.metrics.dropped, "foreign-pod", dropped.foreign);
        Metrics::count_many(&shared.metrics.dropped, "unknown-pod", dropped.unknown);
        if let Some(collector) = &message.collector {
            self.presence.collector(&collector.name, &collector.refusals);
        }
        if let Some(reason) = self.surplus(&decoded) {
            Metrics::count_many(&shared.metrics.dropped, reason, message.cpu_ns.len() as u64);
            return Ok(());
        }
        node.apply(moment, decoded, &self.decoder, &shared.views)?;
        self.presence.unmeasured_pods(node.own_pods(self.decoder.unmeasured_pods()));
        let implausible = node.implausible();
        for (counter, values) in [("cpu", implausible.cpu), ("memory", implausible.memory)] {
            if values > 0 {
                shared.metrics.count_implausible(counter, values);
            }
        }
        node.log_implausible(now.monotonic);
        drop(node);
        self.newest = decoded.boot;
        shared.metrics.applied.inc();
        if !decoded.replay {
            let age = now.monotonic.saturating_duration_since(moment.seen);
            shared.metrics.age.observe(age.as_secs_f64());
            if let Some(compatibility) = &shared.metrics.compatibility {
                let at = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                let at = RealTime(u64::try_from(at.as_nanos()).unwrap_or(u64::MAX));
                compatibility.reported(&self.name, at, age);
            }
        }
        *shared.delivered.lock() = Some(now.monotonic);
        Ok(())
    }

    /// Live samples that come faster than twice the pace, and replayed ones that nobody asked for, are not stored.
    fn surplus(&self, decoded: &Decoded) -> Option<&'static str> {
        if decoded.replay {
            return (self.opened.since(decoded.boot) > REPLAY).then_some("stale");
        }
        (decoded.boot.since(self.newest) < self.pace / 2).then_some("too-fast")
    }

    /// The sample's instant on all three clocks, not before the newest one that is held. A node's own stamp counts where
    /// it is within one interval of what this process's clock says; otherwise only the stamp is replaced, for
    /// differences are the boot clock's.
    fn moment(&self, decoded: &Decoded, newest: Option<Moment>, now: Now) -> Moment {
        let age = self.clock.age(decoded.boot, now.monotonic);
        let seen = now.monotonic.checked_sub(age).unwrap_or(now.monotonic);
        let seen = newest.map_or(seen, |newest| seen.max(newest.seen)).min(now.monotonic);
        let age = now.monotonic.saturating_duration_since(seen);
        let wall = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(age);
        let ours = u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX);
        let skew = Duration::from_nanos(ours.abs_diff(decoded.real.0));
        let real = if skew > self.pace {
            self.state.shared.metrics.corrected.inc();
            RealTime(ours)
        } else {
            decoded.real
        };
        Moment { boot: decoded.boot, real, seen }
    }
}

impl Drop for NodeStream {
    fn drop(&mut self) {
        self.node.lock().ended(self.generation);
    }
}

#[cfg(test)]
mod tests;
