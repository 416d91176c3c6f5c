//! Metrics of the connections of a port.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type ByReason = Family<[(&'static str, &'static str); 1], Counter>;

/// Metrics of one port's connections. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(super) connections: Gauge,
    handshakes_failed: ByReason,
    connections_closed: ByReason,
    responses_cut: ByReason,
}

impl Metrics {
    /// Adds the families to `registry`, names beginning with `prefix`.
    pub fn register(&self, registry: &mut Registry, prefix: &'static str) {
        let registry = registry.sub_registry_with_prefix(prefix);
        registry.register("connections", "Open connections", self.connections.clone());
        registry.register(
            "handshakes_failed",
            "TLS handshakes that failed, by reason",
            self.handshakes_failed.clone(),
        );
        registry.register(
            "connections_closed",
            "Connections closed by a limit, by reason",
            self.connections_closed.clone(),
        );
        registry.register(
            "responses_cut",
            "Responses cut because the peer did not read them in time, by reason",
            self.responses_cut.clone(),
        );
    }

    pub(super) fn handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed.get_or_create(&[("reason", reason)]).inc();
    }

    pub(super) fn connection_closed(&self, reason: &'static str) {
        self.connections_closed.get_or_create(&[("reason", reason)]).inc();
    }

    pub(super) fn response_cut(&self, reason: &'static str) {
        self.responses_cut.get_or_create(&[("reason", reason)]).inc();
    }
}
