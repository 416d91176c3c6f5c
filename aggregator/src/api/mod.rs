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
    auth::{Attributes, Decision, Origin, PeerCertificates, Selectors, Unauthenticated, User},
    compatibility::MetricsServer,
    encoding::{json, protobuf},
    health::Probe,
    inventory::Inventory,
    units::RealTime,
    view::{Measured, Views},
};

/// Who asks, and may they.
pub trait Gate: Send + Sync + 'static {
    /// Whether the peer's certificate is the front proxy's.
    fn is_front_proxy(&self, peer: &PeerCertificates) -> bool;

    /// The user of a request.
    fn authenticate(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> impl Future<Output = Result<User, Unauthenticated>> + Send;

    /// Whether a user who came this way may; `selectors` narrow what a list or watch is about.
    fn authorize(
        &self,
        origin: Origin,
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

/// Requests in flight by where they come from, so that strangers leave the front proxy its places.
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// Of the front proxy.
    pub front_proxy: usize,
    /// Of clients that proved who they are themselves.
    pub direct: usize,
    /// Of anonymous clients.
    pub anonymous: usize,
}

impl Default for InFlight {
    /// The front proxy has what upstream's server has for all.
    fn default() -> Self {
        Self { front_proxy: 400, direct: 200, anonymous: 50 }
    }
}

/// Limits and choices of the API port.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Requests in flight, health checks and those of `system:masters` not counted.
    pub in_flight: InFlight,
    /// The longest time for a request, and for its answer to be read.
    pub timeout: Duration,
    /// The longest time in which a client reads nothing of an answer.
    pub stall: Duration,
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
            in_flight: InFlight::default(),
            timeout: Duration::from_mins(1),
            stall: Duration::from_secs(10),
            swap: false,
            watch: None,
            compatibility: None,
            now: Now::read,
        }
    }
}

/// Places for requests in flight.
struct Places {
    front_proxy: Arc<Semaphore>,
    direct: Arc<Semaphore>,
    anonymous: Arc<Semaphore>,
}

impl Places {
    fn new(in_flight: InFlight) -> Self {
        let semaphore = |places| Arc::new(Semaphore::new(places));
        Self {
            front_proxy: semaphore(in_flight.front_proxy),
            direct: semaphore(in_flight.direct),
            anonymous: semaphore(in_flight.anonymous),
        }
    }

    fn of(&self, origin: Origin) -> Arc<Semaphore> {
        Arc::clone(match origin {
            Origin::FrontProxy => &self.front_proxy,
            Origin::Direct => &self.direct,
            Origin::Anonymous => &self.anonymous,
        })
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
    places: Places,
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
        let places = Places::new(settings.in_flight);
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
