//! What the agent's streams count.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Counters of the streams, names beginning with `waggle_agent_report_`. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Streams that an aggregator has welcomed.
    pub streams: Gauge,
    /// Snapshots sent.
    pub snapshots: Counter,
    /// Bytes of their messages.
    pub bytes: Counter,
    /// Answers of a kind that this version does not know.
    pub unknown: Counter,
    /// Streams and attempts that ended, by how.
    pub ended: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    /// Adds all families to `registry` under their full names.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waggle_agent_report");
        registry.register("streams", "Streams that an aggregator has welcomed", self.streams.clone());
        registry.register("snapshots", "Snapshots sent", self.snapshots.clone());
        registry.register("bytes", "Bytes of the snapshots sent", self.bytes.clone());
        registry.register("answers_unknown", "Answers of an unknown kind, ignored", self.unknown.clone());
        registry.register("streams_ended", "Streams and attempts that ended", self.ended.clone());
    }
}
