//! A cluster of two nodes, an agent port on loopback, and what is seen of them.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};
use waggle_agent::{
    collect,
    report::{self, Connector, Reporter, Target},
};
use waggle_aggregator::{
    ingest::{self, Config, IngestState, Metrics, Review, TokenReviewer},
    inventory::{Container, Indexed, Inventory, Labels, Node, Pod, Synced},
    serve::Limits,
    units::{Bytes, ContainerId, NanoCores},
    view::{NodeView, Views},
};
use waggle_proto::ingest::ingest_client::IngestClient;

use crate::{
    agent::Agent,
    client::Client,
    tokens::{Tokens, agent_uid},
};

pub const SECOND: u64 = 1_000_000_000;
pub const INTERVAL: Duration = Duration::from_millis(200);
const NAME: &str = "waggle-ingest.waggle-system.svc";

pub fn pod(namespace: &str, name: &str, uid: &str, node: &str, containers: Vec<Container>) -> Pod {
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: uid.into(),
        static_uid: None,
        labels: Labels::new(),
        node: node.into(),
        service_account: if namespace == "waggle-system" { "waggle-agent" } else { "default" }.into(),
        running: true,
        terminating: false,
        containers,
        indexed: Indexed::default(),
    }
}

pub fn container(name: &str, id: u8) -> Container {
    Container { name: name.into(), id: Some(ContainerId([id; 32])), running: true }
}

/// The UID of the workload pod on a node: `web-<node>` with one container, whose id is `id(node)`.
pub fn uid(node: &str) -> String {
    format!("{:0>8}-0000-4000-8000-000000000000", id(node))
}

pub fn id(node: &str) -> u8 {
    if node == "n1" { 1 } else { 2 }
}

pub struct World {
    pub inventory: Inventory,
    pub views: Views,
    pub metrics: Metrics,
    pub directory: tempfile::TempDir,
    key: (CertificateDer<'static>, PrivateKeyDer<'static>),
    tokens: Arc<Tokens>,
}

/// A running agent port.
pub struct Port {
    pub address: SocketAddr,
    pub state: IngestState,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl World {
    /// Two nodes, an agent pod and a workload pod on each; tokens `token-n1` and `token-n2`, and `more`.
    pub fn new(more: impl IntoIterator<Item = (&'static str, Review)>) -> Self {
        let inventory = Inventory::default();
        for name in ["n1", "n2"] {
            inventory.apply_node(Node {
                name: name.into(),
                uid: format!("uid-of-{name}").into(),
                labels: Labels::new(),
                cpu_capacity: NanoCores(2 * SECOND),
                memory_capacity: Bytes(8 << 30),
                pod_capacity: 110,
            });
            let agent = format!("agent-{name}");
            inventory.apply_pod(pod("waggle-system", &agent, &agent_uid(name), name, vec![]));
            let web = format!("web-{name}");
            inventory.apply_pod(pod("shop", &web, &uid(name), name, vec![container("web", id(name))]));
        }
        let certified = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let key = (certified.cert.der().clone(), key);
        let (views, metrics) = (Views::default(), Metrics::default());
        Self { inventory, views, metrics, directory, key, tokens: Arc::new(Tokens::new(more)) }
    }

    /// Starts the agent port with nothing stored; on `address` if it is given.
    pub async fn port(&self, address: Option<SocketAddr>) -> Port {
        self.port_with(address, Limits::agents()).await
    }

    /// The same with other limits.
    pub async fn port_with(&self, address: Option<SocketAddr>, limits: Limits) -> Port {
        let listener =
            TcpListener::bind(address.unwrap_or_else(|| ([127, 0, 0, 1], 0).into())).await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config {
            window: Duration::from_secs(15),
            interval: INTERVAL,
            audience: "waggle.aggregator".into(),
            namespace: "waggle-system".into(),
            service_account: "waggle-agent".into(),
        };
        let reviewer: Arc<dyn TokenReviewer> = Arc::clone(&self.tokens) as _;
        let state = IngestState::new(
            config,
            self.inventory.clone(),
            self.views.clone(),
            reviewer,
            Synced::new(watch::channel(true).1, watch::channel(true).1),
            self.metrics.clone(),
        );
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let signing = provider.key_provider.load_private_key(self.key.1.clone_key()).unwrap();
        let certified = rustls::sign::CertifiedKey::new(vec![self.key.0.clone()], signing);
        let tls = ingest::tls_config(Arc::new(rustls::sign::SingleCertAndKey::from(certified))).unwrap();
        let shutdown = CancellationToken::new();
        let follow = tokio::spawn(ingest::follow(state.clone(), shutdown.clone()));
        let drain = Duration::from_secs(5);
        let serving = ingest::serve(listener, tls, state.clone(), limits, shutdown.clone(), drain);
        let task = tokio::spawn(async move {
            serving.await;
            follow.await.unwrap();
        });
        Port { address, state, shutdown, task }
    }

    fn token_file(&self, token: &str) -> PathBuf {
        let path = self.directory.path().join(format!("{}.token", token.replace('.', "-")));
        std::fs::write(&path, format!("{token}\n")).unwrap();
        path
    }

    /// An agent on `node` that streams what it is given.
    pub fn agent(&self, node: &str, port: SocketAddr) -> Agent {
        self.agent_with(node, &format!("token-{node}"), port)
    }

    /// The same with another token.
    pub fn agent_with(&self, node: &str, token: &str, port: SocketAddr) -> Agent {
        self.agent_to(node, token, &[port])
    }

    /// The same to several addresses.
    pub fn agent_to(&self, node: &str, token: &str, addresses: &[SocketAddr]) -> Agent {
        let config = report::Config {
            aggregators: addresses.iter().copied().map(Target::Address).collect(),
            ca_file: self.directory.path().join("ca.crt"),
            server_name: ServerName::try_from(NAME).unwrap(),
            token_file: self.token_file(token),
            boot_id: "0".repeat(36),
            collector: "cgroupfs".into(),
            refusals: vec![],
            page_size: 4096,
            clocks: Arc::new(collect::clocks),
        };
        let reporter = Reporter::new(config, report::Metrics::default());
        let publisher = reporter.publisher();
        let task = tokio::spawn(reporter.run(std::future::pending()));
        Agent::new(node, publisher, task)
    }

    /// A client that can say anything.
    pub async fn client(&self, port: SocketAddr, token: Option<&str>) -> Result<Client, Status> {
        let file = self.token_file(token.unwrap_or("none"));
        let name = ServerName::try_from(NAME).unwrap();
        let connector = Connector::new(self.directory.path().join("ca.crt"), file, name);
        let channel = connector.connect(port).await.unwrap();
        let (out, messages) = mpsc::channel(8);
        let mut request = Request::new(ReceiverStream::new(messages));
        if token.is_some() {
            request.metadata_mut().insert("authorization", connector.authorization().await.unwrap());
        }
        let answers = IngestClient::new(channel.clone()).report(request).await?.into_inner();
        Ok(Client { out, answers, channel })
    }

    pub fn view(&self, node: &str) -> NodeView {
        self.views.node(node).map(|view| (*view).clone()).unwrap_or_default()
    }

    /// Nanocores and window of the workload pod on `node`.
    pub fn served(&self, node: &str) -> Option<(u64, Duration)> {
        let view = self.view(node);
        let entry = view.pods.iter().find(|entry| **entry.uid == *uid(node))?;
        Some((entry.usages[0].cpu.0, entry.measured.window))
    }

    /// The value of the counter `family{reason="…"}`; 0 where there is none.
    pub fn count(&self, family: &str, reason: &str) -> u64 {
        let line = format!("{family}_total{{reason=\"{reason}\"}} ");
        self.exported().iter().find_map(|l| l.strip_prefix(&line)).map_or(0, |value| value.parse().unwrap())
    }

    /// The samples of the agent port's families, without their prefix.
    pub fn exported(&self) -> Vec<String> {
        let mut registry = Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter_map(|line| line.strip_prefix("waggle_ingest_")).map(str::to_owned).collect()
    }
}

impl Port {
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(5), self.task).await.unwrap().unwrap();
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future).await.expect("nothing within 10 s")
}

/// Waits until `condition` gives something.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: not within 10 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
