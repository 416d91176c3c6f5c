//! Metrics of the connections of a port. The port's own metrics register them, each port under its prefix.

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

type ByReason = Family<[(&'static str, &'static str); 1], Counter>;

/// Metrics of one port's connections. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    pub(crate) connections: Gauge,
    /// Failed TLS handshakes: `silent`, `timeout`, `failed`, `no-h2`.
    pub(crate) handshakes_failed: ByReason,
    /// Connections closed by a limit: `evicted`, `silent`, `lingering`.
    pub(crate) connections_closed: ByReason,
    /// Responses that were not read in time: `deadline`, `stalled`.
    pub(crate) responses_cut: ByReason,
}

impl Metrics {
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
