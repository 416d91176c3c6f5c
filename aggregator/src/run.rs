//! Wiring: from the command line to running tasks, and the orderly way down. Two steps, so that nothing is bound before
//! everything that can be wrong with the configuration was found: [`Prepared::from_args`], then [`Prepared::serve`].

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Api, Now, Settings, Source, server},
    args::{Args, Contradiction},
    auth::{self, AuthConfig, Authenticator, Authorizer, Overlap},
    client::{self, ClientError, Clients, Patience},
    compatibility::MetricsServer,
    doorkeeper::Doorkeeper,
    health::{Conditions, Signal},
    ingest::{self, IngestState, KubeReviewer},
    inventory::{Inventory, Watches},
    open_files,
    serve::Limits,
    telemetry,
    tls::{self, Certificates, FlagError, LoadError},
    view::Views,
};

/// How often the process shows that it still turns.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// How long new requests are still taken after readiness was withdrawn: callers learn of it by asking.
const WITHDRAWAL: Duration = Duration::from_secs(1);

/// The configuration cannot be used. Nothing was bound.
#[derive(Debug, thiserror::Error)]
pub enum ConfigurationError {
    /// Settings that do not go together.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    /// A certificate or key.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Flags about certificates.
    #[error(transparent)]
    Flags(#[from] FlagError),
    /// TLS of the API port.
    #[error("cannot set up TLS for the API port: {0}")]
    ApiTls(#[from] rustls::Error),
    /// TLS of the agents' port.
    #[error(transparent)]
    Tls(#[from] ingest::TlsError),
    /// The API server.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// A configuration that was found usable.
pub struct Prepared {
    api_bind: SocketAddr,
    ingest_bind: SocketAddr,
    api_tls: Arc<ServerConfig>,
    ingest_tls: Arc<ServerConfig>,
    certificates: Certificates,
    clients: Clients,
    ingest: ingest::Config,
    overlap: Overlap,
    max_age: Duration,
    drain: Duration,
    swap: bool,
    enable_watch: bool,
    compatibility_metrics: bool,
}

impl Prepared {
    /// Reads every file and checks every setting; opens no connection and binds no port.
    pub async fn from_args(args: Args) -> Result<Self, ConfigurationError> {
        args.check()?;
        let Args {
            kubeconfig,
            api_bind,
            ingest_bind,
            certificates,
            agent_audience,
            agent_service_account,
            requestheader_trust_overlapping_ca,
            window,
            max_age,
            interval,
            drain,
            swap,
            enable_watch,
            compatibility_metrics,
            // The log is written already: `main` starts it first.
            log_format: _,
        } = args;
        let origin = certificates.origin()?;
        let clients = client::connect(kubeconfig.as_deref(), Patience::default()).await?;
        let certificates = Certificates::prepare(origin, clients.watches.clone()).await?;
        let api_tls = tls::api_config(certificates.api.clone())?;
        let ingest_tls = ingest::tls_config(Arc::new(certificates.ingest.clone()))?;
        let ingest = ingest::Config {
            window,
            interval,
            audience: agent_audience,
            namespace: agent_service_account.namespace,
            service_account: agent_service_account.name,
        };
        let overlap = if requestheader_trust_overlapping_ca { Overlap::Trusted } else { Overlap::Refused };
        Ok(Self {
            api_bind,
            ingest_bind,
            api_tls,
            ingest_tls,
            certificates,
            clients,
            ingest,
            overlap,
            max_age,
            drain,
            swap,
            enable_watch,
            compatibility_metrics,
        })
    }

    /// Binds both ports and serves until SIGTERM or SIGINT, then drains.
    pub async fn serve(self) -> anyhow::Result<()> {
        open_files::raise();
        let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
        let api_listener = bind("API", self.api_bind).await?;
        let ingest_listener = bind("agents'", self.ingest_bind).await?;
        let (api_address, ingest_address) = (api_listener.local_addr()?, ingest_listener.local_addr()?);
        tracing::info!(%api_address, %ingest_address, "listening");

        let running = self.start(api_listener, ingest_listener, api_address.port())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("terminating");
        running.stop().await;
        tracing::info!("terminated");
        Ok(())
    }

    /// Starts every task.
    fn start(
        self,
        api_listener: TcpListener,
        ingest_listener: TcpListener,
        port: u16,
    ) -> anyhow::Result<Running> {
        let Self { api_tls, ingest_tls, certificates, clients, ingest, overlap, max_age, drain, .. } = self;
        let Self { swap, enable_watch, compatibility_metrics, .. } = self;
        let registry = telemetry::registry(Now::read().real.0 / 1_000_000_000);
        let (inventory, views, window) = (Inventory::default(), Views::default(), ingest.window);
        let (watches, synced) = Watches::new(clients.watches.clone(), inventory.clone(), Patience::default());
        let compatibility = compatibility_metrics.then(MetricsServer::default);
        let ingest_metrics = ingest::Metrics { compatibility: compatibility.clone(), ..Default::default() };
        if let Some(compatibility) = &compatibility {
            compatibility.register(&mut registry.write(), views.clone());
        }
        watches.register(&mut registry.write());
        ingest_metrics.register(&mut registry.write());
        let (auth_metrics, watch_metrics) = (auth::Metrics::default(), watches.metrics());
        auth_metrics.register(&mut registry.write());
        certificates.register(&mut registry.write());
        let config = AuthConfig::new(overlap, auth_metrics.clone());
        let gate = Doorkeeper {
            authenticator: Authenticator::new(clients.reviews.clone(), config.clone(), auth_metrics.clone())?,
            authorizer: Authorizer::new(clients.reviews.clone(), auth_metrics),
        };
        let reviewer = Arc::new(KubeReviewer::new(clients.reviews.clone()));
        let listed = synced.clone();
        let state =
            IngestState::new(ingest, inventory.clone(), views.clone(), reviewer, listed, ingest_metrics);

        let (delivering, loaded, nodes, pods) = (state.clone(), config.clone(), synced.clone(), synced);
        let conditions = Arc::new(Conditions {
            inventory: inventory.clone(),
            views: views.clone(),
            max_age,
            window,
            pods_synced: Signal::new(move || pods.pods()),
            nodes_synced: Signal::new(move || nodes.nodes()),
            request_header_config: Signal::new(move || loaded.is_loaded()),
            // It is bound before anything starts; a certificate of our own CA may come later.
            agent_listener: Signal::new({
                let checks = certificates.checks();
                move || checks.agent_certificate()
            }),
            certificates: certificates.checks(),
            delivered: Box::new(move || delivering.delivered()),
            stopping: AtomicBool::new(false),
            heartbeat: Mutex::new(Instant::now()),
        });
        let source = Source { inventory, views, max_age };
        let (stop_api, stop_ingest) = (CancellationToken::new(), CancellationToken::new());
        let mut background = JoinSet::new();
        let watch = enable_watch.then(|| api::watch::Watches::new(stop_api.clone()));
        if let Some(watch) = &watch {
            background.spawn(api::watch::follow(watch.clone(), source.clone(), Now::read, stop_api.clone()));
        }
        let settings = Settings { swap, watch, compatibility, ..Settings::default() };
        let api = Arc::new(Api::new(gate, source, conditions.clone(), registry, port, settings));

        background.spawn(watches.run());
        certificates.run(&mut background, Patience::default(), watch_metrics.clone());
        background.spawn(config.run(clients.watches, Patience::default(), watch_metrics));
        background.spawn(ingest::follow(state.clone(), stop_ingest.clone()));
        background.spawn(heartbeat(Arc::clone(&conditions)));
        let api =
            tokio::spawn(server::serve(api, api_listener, api_tls, Limits::api(), stop_api.clone(), drain));
        let ingest = tokio::spawn(ingest::serve(
            ingest_listener,
            ingest_tls,
            state,
            Limits::agents(),
            stop_ingest.clone(),
            drain,
        ));
        Ok(Running { conditions, stop_api, stop_ingest, api, ingest, background, drain })
    }
}

/// Everything that runs.
struct Running {
    conditions: Arc<Conditions>,
    stop_api: CancellationToken,
    stop_ingest: CancellationToken,
    api: JoinHandle<()>,
    ingest: JoinHandle<()>,
    /// Ended by dropping it.
    background: JoinSet<()>,
    drain: Duration,
}

impl Running {
    /// Readiness first, then the API port with what is in flight there, the agents last: what is being answered is fed to
    /// the end.
    async fn stop(self) {
        let Self { conditions, stop_api, stop_ingest, api, ingest, background, drain } = self;
        conditions.stop();
        tokio::time::sleep(WITHDRAWAL.min(drain)).await;
        stop_api.cancel();
        if let Err(error) = api.await {
            tracing::error!(%error, "the API port ended badly");
        }
        stop_ingest.cancel();
        if let Err(error) = ingest.await {
            tracing::error!(%error, "the agents' port ended badly");
        }
        drop(background);
    }
}

async fn bind(port: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot bind the {port} port to {address}"))
}

async fn heartbeat(conditions: Arc<Conditions>) {
    let mut ticks = tokio::time::interval(HEARTBEAT);
    loop {
        ticks.tick().await;
        conditions.beat();
    }
}
