//! From a snapshot to every aggregator: a local ring of the last minute, and one stream per aggregator process.
//! Owns the agent's side of `waggle.ingest.v1`. Never slows sampling: a stream that lags sends what the ring still has.
//!
//! ```text
//! let reporter = Reporter::new(config);
//! let publisher = reporter.publisher();           // goes to the thread that samples
//! tokio::spawn(reporter.run(shutdown));           // resolves, connects, streams, until shutdown
//! publisher.publish(&snapshot);                   // never waits for the network
//! ```

mod backoff;
mod connect;
mod encode;
mod metrics;
mod names;
mod outcome;
mod replicas;
mod resolve;
mod ring;
mod status;
mod stream;
#[cfg(test)]
mod tests;
mod welcome;

use std::{
    fmt,
    future::Future,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::sync::{Notify, watch};

pub use backoff::{Backoff, Ended};
pub use connect::{ConnectError, Connector};
pub use encode::Encoder;
pub use metrics::Metrics;
pub use resolve::{Target, TargetError};
pub use ring::{ContainerHistory, ContainerSample, Counters, Frame, LocalRing, PodSample};

use crate::collect::{BootTime, RealTime, Snapshot};
use replicas::Replicas;
use status::{Collector, Status};

/// Both clocks of the node, read together.
pub type Clocks = Arc<dyn Fn() -> (BootTime, RealTime) + Send + Sync>;

/// What a reporter needs to know.
#[derive(Clone)]
pub struct Config {
    /// Where the aggregators are. Each process behind any address of any name gets one stream.
    pub aggregators: Vec<Target>,
    /// PEM bundle with the CAs of the aggregators' certificates; read again for each connection.
    pub ca_file: PathBuf,
    /// The name that their certificates prove.
    pub server_name: ServerName<'static>,
    /// The projected service-account token; read again for each connection.
    pub token_file: PathBuf,
    /// `/proc/sys/kernel/random/boot_id`.
    pub boot_id: String,
    /// `bpf` or `cgroupfs`, until [`Publisher::collector`] replaces it.
    pub collector: String,
    /// Why a better collector is not in use.
    pub refusals: Vec<String>,
    /// Bytes per page, the unit of the snapshots' memory.
    pub page_size: u32,
    /// The clocks that the snapshots' instants are of.
    pub clocks: Clocks,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("aggregators", &self.aggregators).finish_non_exhaustive()
    }
}

/// Streams what is published to all aggregators.
#[derive(Debug)]
pub struct Reporter {
    shared: Arc<Shared>,
}

/// Takes snapshots. Cheap to clone; usable from any thread.
#[derive(Debug, Clone)]
pub struct Publisher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    connector: Connector,
    status: Status,
    ring: Mutex<LocalRing>,
    newest: watch::Sender<BootTime>,
    replicas: Replicas,
    /// A live stream was lost.
    lost: Notify,
    live: AtomicUsize,
    metrics: Metrics,
}

impl Reporter {
    /// Nothing published, nothing connected yet.
    pub fn new(config: Config, metrics: Metrics) -> Self {
        let connector =
            Connector::new(config.ca_file.clone(), config.token_file.clone(), config.server_name.clone());
        let status =
            Status::new(Collector { name: config.collector.clone(), refusals: config.refusals.clone() });
        let (newest, _) = watch::channel(BootTime(0));
        let shared = Shared {
            config,
            connector,
            status,
            ring: Mutex::new(LocalRing::default()),
            newest,
            replicas: Replicas::default(),
            lost: Notify::new(),
            live: AtomicUsize::new(0),
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Where snapshots go in.
    pub fn publisher(&self) -> Publisher {
        Publisher { shared: Arc::clone(&self.shared) }
    }

    /// Resolves, connects and streams until `shutdown` is done, then ends all streams.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        tokio::select! {
            () = resolve::run(&self.shared) => {}
            () = shutdown => {}
        }
    }
}

impl Publisher {
    /// Adds a snapshot to the local ring and wakes the streams. One that is not newer than the one before is ignored.
    pub fn publish(&self, snapshot: &Snapshot) {
        if self.shared.ring.lock().push(snapshot) {
            self.shared.newest.send_replace(snapshot.boot);
        }
    }

    /// Reports which collector takes the snapshots from now on, and why a better one does not. Each stream sends it with
    /// its next snapshot, unless it is what the stream sent last. Call it on a change: the texts are compared.
    pub fn collector(&self, name: &str, refusals: Vec<String>) {
        self.shared.status.set(Collector { name: name.to_owned(), refusals });
    }

    /// Streams that an aggregator has welcomed.
    pub fn live_streams(&self) -> usize {
        self.shared.live.load(Ordering::Relaxed)
    }
}
