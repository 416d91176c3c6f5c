//! Metrics of the agent port. Only the families of [`Agents`] have a label for nodes.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use super::agents::Agents;
use crate::{compatibility::MetricsServer, serve::Metrics as Connections};

type ByReason = Family<[(&'static str, &'static str); 1], Counter>;
type ByCounter = ByReason;

/// Counters of the agent port, names beginning with `waggle_ingest_`. Clones count together.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Streams open now.
    pub streams: Gauge,
    /// Streams that were not admitted, by reason.
    pub refused: ByReason,
    /// Streams ended by a message that broke a rule, by reason.
    pub faults: ByReason,
    /// Streams ended otherwise, by reason.
    pub closed: ByReason,
    /// Samples of containers that were not stored, by reason.
    pub dropped: ByReason,
    /// Messages of a kind that this version does not know.
    pub unknown: Counter,
    /// Values that exceed their bounds and were not stored, by counter.
    pub implausible: ByCounter,
    /// Snapshots stored.
    pub applied: Counter,
    /// Stamps of nodes whose clock was off, replaced by the aggregator's.
    pub corrected: Counter,
    /// Age of the newest sample when it was stored, seconds; replayed ones left out.
    pub age: Histogram,
    /// Connections of the port.
    pub connections: Connections,
    /// What the agents with a live stream report about themselves.
    pub agents: Agents,
    /// What metrics-server would count, where that is asked for.
    pub compatibility: Option<MetricsServer>,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
        Self {
            streams: Gauge::default(),
            refused: Family::default(),
            faults: Family::default(),
            closed: Family::default(),
            dropped: Family::default(),
            unknown: Counter::default(),
            implausible: Family::default(),
            applied: Counter::default(),
            corrected: Counter::default(),
            age: Histogram::new(buckets),
            connections: Connections::default(),
            agents: Agents::default(),
            compatibility: None,
        }
    }
}

impl Metrics {
    /// Adds all families to `registry` under their full names.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waggle_ingest");
        let Connections { connections, handshakes_failed, connections_closed, responses_cut } =
            &self.connections;
        registry.register("connections", "Open connections", connections.clone());
        registry.register(
            "handshakes_failed",
            "TLS handshakes that failed, by reason",
            handshakes_failed.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections closed by a limit, by reason",
            connections_closed.clone(),
        );
        registry.register(
            "responses_cut",
            "Responses cut because the peer did not read them in time, by reason",
            responses_cut.clone(),
        );
        registry.register("streams", "Agent streams open now", self.streams.clone());
        registry.register("streams_refused", "Agent streams not admitted", self.refused.clone());
        registry.register(
            "faults",
            "Agent streams ended by a message against the rules",
            self.faults.clone(),
        );
        registry.register("streams_closed", "Agent streams ended for other reasons", self.closed.clone());
        registry.register("samples_dropped", "Container samples not stored", self.dropped.clone());
        registry.register("messages_unknown", "Messages of an unknown kind, ignored", self.unknown.clone());
        for counter in ["cpu", "memory"] {
            // There from the beginning: the first increase is one that an alert must see.
            self.count_implausible(counter, 0);
        }
        registry.register(
            "values_implausible",
            "Values of agents that exceed their bounds and were not stored",
            self.implausible.clone(),
        );
        registry.register("snapshots_applied", "Snapshots stored", self.applied.clone());
        registry.register(
            "stamps_corrected",
            "Snapshots whose node's clock was off by more than an interval",
            self.corrected.clone(),
        );
        registry.register("sample_age_seconds", "Age of live samples when stored", self.age.clone());
        registry.register(
            "collector_labels_dropped",
            "Texts of agents about their collector that are not exported",
            self.agents.dropped(),
        );
        registry.register_collector(Box::new(self.agents.clone()));
    }

    pub(super) fn count_implausible(&self, counter: &'static str, values: u64) {
        self.implausible.get_or_create(&[("counter", counter)]).inc_by(values);
    }

    pub(super) fn count(family: &ByReason, reason: &'static str) {
        Self::count_many(family, reason, 1);
    }

    pub(super) fn count_many(family: &ByReason, reason: &'static str, by: u64) {
        family.get_or_create(&[("reason", reason)]).inc_by(by);
    }
}
