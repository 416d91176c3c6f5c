//! What the self-managed CA counts.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type By = [(&'static str, &'static str); 1];

/// Families with names beginning with `waggle_ca_`. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Failures by reason: `missing`, `foreign`, `forbidden`, `conflict`, `failed`, `secret-unusable`, `sign`.
    pub errors: Family<By, Counter>,
    /// Writes of the Secret by this replica, by what they did: `made`, `changed`.
    pub secret_writes: Family<By, Counter>,
    /// Bundles written into a place by this replica: `config-map`, `api-service`.
    pub publications: Family<By, Counter>,
    /// 1 while both APIServices carry the current bundle, as far as was seen.
    pub published: Gauge,
    /// CAs that are trusted at present: more than one during a rotation and for a while after.
    pub trusted: Gauge,
    /// The last second in which the CA that signs is valid, since the epoch.
    pub not_after: Gauge,
}

impl Metrics {
    /// Adds all families to `registry` under their full names.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waggle_ca");
        registry.register("errors", "Failures of the CA's care by reason", self.errors.clone());
        registry.register("secret_writes", "Writes of the CA's Secret", self.secret_writes.clone());
        registry.register("publications", "Bundles written into a place", self.publications.clone());
        registry.register(
            "bundle_published",
            "Whether both APIServices carry the current bundle",
            self.published.clone(),
        );
        registry.register("trusted", "CAs that are trusted at present", self.trusted.clone());
        registry.register(
            "not_after_seconds",
            "End of the validity of the CA that signs, since the epoch",
            self.not_after.clone(),
        );
    }
}
