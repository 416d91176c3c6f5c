//! The HTTP surface of `metrics.k8s.io`: every request on the API port from its head to the frames of its answer. It
//! reads views and inventory, and asks the [`Gate`] who wants what; it never measures, joins or reviews by itself.

mod body;
mod compress;
pub mod discovery;
mod documents;
mod encode;
mod exposition;
pub mod metrics;
pub mod negotiate;
mod nodes;
mod object;
mod openapi;
mod pipeline;
mod pods;
mod pretty;
pub mod quantity;
pub mod query;
mod quoted;
mod refusal;
pub mod request;
mod respond;
pub mod selector;
pub mod server;
pub mod status;
mod table;
#[cfg(test)]
mod tests;
pub mod watch;
mod yaml;

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub use body::Body;
use http::HeaderMap;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::{
    auth::{Attributes, Decision, PeerCertificates, Selectors, Unauthorized, User},
    compatibility::MetricsServer,
    encoding::{json, protobuf},
    health::Probe,
    inventory::Inventory,
    units::RealTime,
    view::{Measured, Views},
};

/// Who asks, and may they.
pub trait Gate: Send + Sync + 'static {
    /// The user of a request.
    fn authenticate(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<User, Unauthorized>> + Send;

    /// Whether a user may; `selectors` narrow what a list or watch is about.
    fn authorize(
        &self,
        user: &User,
        attributes: &Attributes,
        selectors: &Selectors,
    ) -> impl Future<Output = Decision> + Send;

    /// Removes credentials and claims of identity: nothing behind this line may see them.
    fn strip(&self, headers: &mut HeaderMap);
}

/// What is answered from.
#[derive(Debug, Clone)]
pub struct Source {
    /// Pods and Nodes.
    pub inventory: Inventory,
    /// Their entries.
    pub views: Views,
    /// Older entries are not served.
    pub max_age: Duration,
}

impl Source {
    fn fresh(&self, now: Instant) -> Fresh {
        Fresh::new(now, self.max_age)
    }
}

/// How old what is served may be, at one moment.
#[derive(Debug, Clone, Copy)]
struct Fresh {
    /// Measured before that is too old; `None` where this process's clock is younger than the maximum age.
    oldest: Option<Instant>,
}

impl Fresh {
    fn new(now: Instant, max_age: Duration) -> Self {
        Self { oldest: now.checked_sub(max_age) }
    }

    #[inline]
    fn allows(self, measured: &Measured) -> bool {
        self.oldest.is_none_or(|oldest| measured.seen >= oldest)
    }
}

/// The two clocks of one moment.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For ages.
    pub instant: Instant,
    /// For stamps.
    pub real: RealTime,
}

impl Now {
    /// The machine's clocks.
    pub fn read() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let real = RealTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        Self { instant: Instant::now(), real }
    }
}

/// Limits and choices of the API port.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests in flight, those of `system:masters` not counted.
    pub in_flight: usize,
    /// The longest time until the head of an answer.
    pub timeout: Duration,
    /// Serve swap use too.
    pub swap: bool,
    /// Serve watches, and versions with all objects.
    pub watch: Option<watch::Watches>,
    /// Count how fresh what is answered is, as metrics-server does.
    pub compatibility: Option<MetricsServer>,
    /// The clocks.
    pub now: fn() -> Now,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            in_flight: 400,
            timeout: Duration::from_mins(1),
            swap: false,
            watch: None,
            compatibility: None,
            now: Now::read,
        }
    }
}

/// The API port, without its sockets.
pub struct Api<G> {
    gate: G,
    source: Source,
    probe: Arc<dyn Probe>,
    registry: Arc<RwLock<Registry>>,
    documents: discovery::Documents,
    openapi: openapi::Documents,
    metrics: metrics::Metrics,
    places: Arc<Semaphore>,
    settings: Settings,
}

impl<G: Gate> Api<G> {
    /// An API on `port`, which the legacy discovery documents name.
    pub fn new(
        gate: G,
        source: Source,
        probe: Arc<dyn Probe>,
        registry: Arc<RwLock<Registry>>,
        port: u16,
        settings: Settings,
    ) -> Self {
        let metrics = metrics::Metrics::default();
        metrics.register(&mut registry.write());
        let places = Arc::new(Semaphore::new(settings.in_flight));
        let documents = match &settings.watch {
            None => discovery::Documents::new(port),
            Some(watches) => {
                watches.metrics().register(&mut registry.write());
                discovery::Documents::with_verbs(port, &["get", "list", "watch"])
            }
        };
        let openapi = openapi::Documents::new((settings.now)().real.seconds());
        Self { gate, source, probe, registry, documents, openapi, metrics, places, settings }
    }
}

impl<G> std::fmt::Debug for Api<G> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Api").field("source", &self.source).finish_non_exhaustive()
    }
}
