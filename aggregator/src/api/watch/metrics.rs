//! What watches count.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// Counters of watches, names beginning with `waggle_api_watch`. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Watches open now.
    pub open: Gauge,
    /// Events told, bookmarks not counted.
    pub events: Counter,
    /// Watches ended, by reason.
    ended: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Metrics {
    /// Adds the families to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waggle_api");
        registry.register("watches", "Watches open now", self.open.clone());
        registry.register("watch_events", "Events told to watches", self.events.clone());
        registry.register("watches_ended", "Watches that ended, by reason", self.ended.clone());
    }

    pub(super) fn ended(&self, reason: &'static str) {
        self.ended.get_or_create(&[("reason", reason)]).inc();
    }
}
