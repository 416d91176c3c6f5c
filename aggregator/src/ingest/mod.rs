//! The agent port: admits agents' streams, decodes and judges what they say, and stores it. Owns the nodes' shards and
//! their views; never answers a reader, never writes to disk, never trusts a message before all of it was checked.
//!
//! # Wiring
//!
//! ```text
//! let metrics = ingest::Metrics::default();
//! metrics.register(&mut registry);
//! let config = ingest::Config { window, interval, audience, namespace, service_account };
//! let state = ingest::IngestState::new(config, inventory, views, Arc::new(KubeReviewer::new(client)), listed, metrics);
//! let tls = ingest::tls_config(resolver)?;          // TLS 1.3, h2, no client certificates
//! tokio::spawn(ingest::follow(state.clone(), shutdown.clone()));
//! ingest::serve(listener, tls, state, shutdown).await;
//! ```
//!
//! [`follow`] must run: it takes what the inventory says into the views and ends streams whose agent is gone.

mod admission;
mod agents;
mod clock;
mod fault;
mod follow;
mod limits;
mod listen;
mod metrics;
mod node;
mod protocol;
mod review;
mod session;
mod stream;
#[cfg(test)]
mod tests;
mod waiters;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tonic::metadata::{Ascii, MetadataValue};

pub use admission::{Admission, Admitted};
pub use agents::Agents;
pub use fault::{Closed, Fault, Refusal};
pub use follow::follow;
pub use limits::Limits;
pub use listen::{TlsError, serve, tls_config};
pub use metrics::Metrics;
pub use protocol::{Decoded, Decoder, LiveContainer, Ownership, UnmeasuredPod};
pub use review::{KubeReviewer, Review, ReviewError, TokenReviewer};

use crate::{
    inventory::{Inventory, Synced},
    view::Views,
};
use node::NodeState;

/// Largest message that is read, bytes.
pub const MAX_MESSAGE: usize = 1 << 20;
/// Snapshots per second that one replica takes from all agents together; the pace follows.
const SNAPSHOTS_PER_SECOND: u32 = 1000;

/// Settings of the agent port.
#[derive(Debug, Clone)]
pub struct Config {
    /// Span of CPU rates.
    pub window: Duration,
    /// Time between an agent's reports, at least.
    pub interval: Duration,
    /// Audience of the agents' tokens.
    pub audience: String,
    /// Namespace of the agents' service account.
    pub namespace: String,
    /// Name of the agents' service account.
    pub service_account: String,
}

/// Everything the agent port shares. Cheap to clone.
#[derive(Clone)]
pub struct IngestState {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    /// Identifies this process to agents, which may reach it by several addresses.
    instance: MetadataValue<Ascii>,
    inventory: Inventory,
    views: Views,
    admission: Admission,
    metrics: Metrics,
    nodes: RwLock<HashMap<Arc<str>, Arc<Mutex<NodeState>>>>,
    pace: watch::Sender<Duration>,
    streams: AtomicUsize,
    delivered: Mutex<Option<Instant>>,
}

impl IngestState {
    /// Nothing stored, nobody admitted yet. `listed` says whether Pods and Nodes were listed once.
    pub fn new(
        config: Config,
        inventory: Inventory,
        views: Views,
        reviewer: Arc<dyn TokenReviewer>,
        listed: Synced,
        metrics: Metrics,
    ) -> Self {
        let admission = Admission::new(
            reviewer,
            config.audience.clone(),
            config.namespace.clone(),
            config.service_account.clone(),
            listed,
        );
        let (pace, _) = watch::channel(config.interval);
        let nodes = RwLock::default();
        let (streams, delivered) = (AtomicUsize::new(0), Mutex::new(None));
        let instance = MetadataValue::from(fastrand::u64(..));
        let shared = Shared {
            config,
            instance,
            inventory,
            views,
            admission,
            metrics,
            nodes,
            pace,
            streams,
            delivered,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Streams open now.
    pub fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::Relaxed)
    }

    /// Nodes that something is kept for.
    pub fn nodes(&self) -> usize {
        self.shared.nodes.read().len()
    }

    /// When a snapshot was stored last.
    pub fn delivered(&self) -> Option<Instant> {
        *self.shared.delivered.lock()
    }

    /// Time between reports that agents are asked for now.
    pub fn pace(&self) -> Duration {
        *self.shared.pace.borrow()
    }

    fn node(&self, name: &Arc<str>) -> Arc<Mutex<NodeState>> {
        if let Some(node) = self.shared.nodes.read().get(name) {
            return Arc::clone(node);
        }
        let mut nodes = self.shared.nodes.write();
        let new = || Arc::new(Mutex::new(NodeState::new(Arc::clone(name), self.shared.config.window)));
        Arc::clone(nodes.entry(Arc::clone(name)).or_insert_with(new))
    }

    /// Sets the pace for that many nodes.
    fn set_pace(&self, nodes: usize) {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        let pace = self.shared.config.interval.max(spread(nodes));
        self.shared.pace.send_if_modified(|old| std::mem::replace(old, pace) != pace);
    }
}

/// The time that this many nodes share at one snapshot each, in steps of 100 ms so that few changes are announced.
fn spread(nodes: u32) -> Duration {
    let all = Duration::from_secs(1) * nodes / SNAPSHOTS_PER_SECOND;
    let steps = all.as_millis().div_ceil(100);
    Duration::from_millis(u64::try_from(steps).unwrap_or(u64::MAX).saturating_mul(100))
}
