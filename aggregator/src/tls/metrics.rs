//! What the certificates of both ports count. The label `port` is `api` or `ingest`.

use jiff::Timestamp;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type Port = [(&'static str, &'static str); 1];

/// Families with names beginning with `waggle_tls_`. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Certificates that were taken into use.
    pub loads: Family<Port, Counter>,
    /// Attempts at a certificate that failed; the last good one stays in use.
    pub errors: Family<Port, Counter>,
    /// The last second in which the certificate in use is valid, since the epoch.
    pub not_after: Family<Port, Gauge>,
}

impl Metrics {
    /// Adds all families to `registry` under their full names.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waggle_tls");
        registry.register("certificates_loaded", "Serving certificates taken into use", self.loads.clone());
        registry.register(
            "certificate_errors",
            "Serving certificates that could not be used",
            self.errors.clone(),
        );
        registry.register(
            "certificate_not_after_seconds",
            "End of the validity of the serving certificate in use, since the epoch",
            self.not_after.clone(),
        );
    }

    pub(super) fn loaded(&self, port: &'static str, not_after: Timestamp) {
        self.loads.get_or_create(&[("port", port)]).inc();
        self.not_after.get_or_create(&[("port", port)]).set(not_after.as_second());
    }

    pub(super) fn failed(&self, port: &'static str) {
        self.errors.get_or_create(&[("port", port)]).inc();
    }
}
