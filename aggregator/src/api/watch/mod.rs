//! `watch` on nodes and pods, where it is switched on (`--enable-watch`). Owns the logs of what changed (`log`, pure), the
//! versions by which clients resume, and the streams of events. Everything is in memory and of this process: a version
//! of another replica, or from before a restart, is gone (410), and its client lists again. While it is on, lists and
//! single objects come from the logs too, so that a list and the watch from its version fit together without a gap.
//!
//! Never in the way of ingest: a report leaves the name of its node, [`follow()`] takes it from there.

mod answer;
mod feed;
mod follow;
mod frame;
mod log;
mod metrics;
mod options;
mod stream;
mod version;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use feed::{Feed, Watched};
pub use follow::follow;
pub use frame::Writer;
pub use log::{Item, Key};
pub use metrics::Metrics;
pub use options::{Start, WatchOptions};
pub use version::ResourceVersion;

use super::{Body, Now, nodes::NodeMetrics, object::Object, pods::PodMetrics, query::ListOptions};
pub(super) use stream::PATIENCE;
use stream::Stream;

/// Watches at once. They are not counted among the requests in flight, which are short; each costs memory of its own
/// only while its client lags: at most the newest state of every object.
const WATCHES: usize = 256;
/// A watch without `timeoutSeconds` lasts so long, before jitter adds up to as much again.
const LIFE: Duration = Duration::from_mins(30);

/// Both resources' logs and who reads them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Watches {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    nodes: Arc<Feed<NodeMetrics>>,
    pods: Arc<Feed<PodMetrics>>,
    places: Arc<Semaphore>,
    stop: CancellationToken,
    metrics: Metrics,
}

/// Which objects a watch is about.
#[derive(Debug, Clone)]
pub struct Selection {
    /// Of this namespace alone.
    pub namespace: Option<String>,
    /// Of these labels and fields alone.
    pub options: ListOptions,
}

impl Selection {
    /// Whether an object is among them.
    pub fn selects<T: Object>(&self, object: &T) -> bool {
        self.namespace.as_deref().is_none_or(|namespace| namespace == object.namespace())
            && self.options.fields.matches(object.namespace(), object.name())
            && self.options.labels.matches(object.labels())
    }
}

/// There is no place for one more watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{WATCHES} watches are open")]
pub struct TooMany;

impl Watches {
    /// Empty logs. All watches end at `stop`.
    pub fn new(stop: CancellationToken) -> Self {
        let shared = Shared {
            nodes: Arc::default(),
            pods: Arc::default(),
            places: Arc::new(Semaphore::new(WATCHES)),
            stop,
            metrics: Metrics::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// NodeMetrics.
    pub fn nodes(&self) -> &Arc<Feed<NodeMetrics>> {
        &self.shared.nodes
    }

    /// PodMetrics.
    pub fn pods(&self) -> &Arc<Feed<PodMetrics>> {
        &self.shared.pods
    }

    /// Counters.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Begins a watch, whose events are the body.
    pub fn open<T: Watched>(
        &self,
        feed: &Arc<Feed<T>>,
        selection: Selection,
        options: WatchOptions,
        writer: Writer,
        now: fn() -> Now,
    ) -> Result<Body, TooMany> {
        let place = Arc::clone(&self.shared.places).try_acquire_owned().map_err(|_| TooMany)?;
        let (out, frames) = mpsc::channel(1);
        let life = options.timeout.unwrap_or_else(|| LIFE + LIFE.mul_f64(fastrand::f64()));
        let stream = Stream {
            feed: Arc::clone(feed),
            selection,
            start: options.start,
            bookmarks: options.bookmarks,
            // A client may ask for centuries.
            until: Instant::now() + life.min(2 * LIFE),
            writer,
            now,
            stop: self.shared.stop.clone(),
            out,
            metrics: self.shared.metrics.clone(),
            _place: place,
        };
        tokio::spawn(stream.run());
        Ok(Body::stream(frames))
    }
}
