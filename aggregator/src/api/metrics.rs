//! What the API port counts about itself.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::serve::Metrics as Connections;

/// Labels of a request. Resources and verbs come from what is routed, never from the path alone: their number is small.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    /// `nodes`, `pods`, `discovery`, …
    pub resource: &'static str,
    /// `get`, `list`, …
    pub verb: &'static str,
    /// HTTP status.
    pub code: u16,
}

/// Counters of the API port.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Answered requests.
    pub requests: Family<Request, Counter>,
    /// Requests that have a place now.
    pub in_flight: Gauge,
    /// Time until the head of the answer.
    pub duration: Histogram,
    /// Connections of the port.
    pub connections: Connections,
}

impl Default for Metrics {
    fn default() -> Self {
        let buckets = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 60.0];
        Self {
            requests: Family::default(),
            in_flight: Gauge::default(),
            duration: Histogram::new(buckets),
            connections: Connections::default(),
        }
    }
}

impl Metrics {
    /// Adds the families to a registry, names beginning with `waggle_api_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waggle_api");
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
        registry.register("requests", "Answered requests by resource, verb and code", self.requests.clone());
        registry.register("requests_in_flight", "Requests that are being answered", self.in_flight.clone());
        registry.register(
            "request_duration_seconds",
            "Time from a request to the head of its answer",
            self.duration.clone(),
        );
    }
}
