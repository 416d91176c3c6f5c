//! Metrics of the connections of a port.

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

type ByReason = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters of one port's connections. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    handshakes_failed: ByReason,
}

impl Metrics {
    /// Adds the families to `registry`, names beginning with `prefix`.
    pub fn register(&self, registry: &mut Registry, prefix: &'static str) {
        let registry = registry.sub_registry_with_prefix(prefix);
        registry.register(
            "handshakes_failed",
            "TLS handshakes that failed, by reason",
            self.handshakes_failed.clone(),
        );
    }

    pub(super) fn handshake_failed(&self, reason: &'static str) {
        self.handshakes_failed.get_or_create(&[("reason", reason)]).inc();
    }
}
