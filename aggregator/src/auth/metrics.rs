//! What authentication and authorization count. No label has a value that a caller could choose.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type By = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters, names beginning with `waggle_auth_`. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Requests by how they were authenticated: `front-proxy`, `certificate`, `token`, `anonymous`, `rejected`.
    pub requests: By,
    /// Credentials that were not accepted, by reason.
    pub refused: By,
    /// TokenReviews by result: `accepted`, `rejected`, `failed`.
    pub token_reviews: By,
    /// Requests that wait for a TokenReview.
    pub token_reviews_waiting: Gauge,
    /// SubjectAccessReviews by result: `allowed`, `denied`, `failed`.
    pub access_reviews: By,
    /// Versions of the authentication configuration that could not be read; the last good one stays.
    pub config_errors: Counter,
    /// The generation of the configuration in use; 0 before the first.
    pub config_generation: Gauge,
    /// 1 while the front proxy is refused because its CA shares a key with the client CA.
    pub front_proxy_refused: Gauge,
}

impl Metrics {
    /// Adds all families to `registry` under their full names.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waggle_auth");
        registry.register("requests", "Requests by how they were authenticated", self.requests.clone());
        registry.register("credentials_refused", "Credentials not accepted", self.refused.clone());
        registry.register("token_reviews", "TokenReviews by result", self.token_reviews.clone());
        registry.register(
            "token_reviews_waiting",
            "Requests that wait for a TokenReview",
            self.token_reviews_waiting.clone(),
        );
        registry.register("access_reviews", "SubjectAccessReviews by result", self.access_reviews.clone());
        registry.register(
            "config_errors",
            "Unreadable versions of the authentication configuration",
            self.config_errors.clone(),
        );
        registry.register(
            "config_generation",
            "Generation of the authentication configuration in use",
            self.config_generation.clone(),
        );
        registry.register(
            "front_proxy_refused",
            "Whether the front proxy is refused because its CA shares a key with the client CA",
            self.front_proxy_refused.clone(),
        );
    }

    pub(super) fn refuse(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }
}
