//! A cluster of two nodes, an agent port on loopback, agents with synthetic cgroups, and clients that break the rules.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, Streaming};
use waggle_agent::{
    collect::{self, CgroupId, Memory, NodeTotals, Sample, Snapshot},
    identify::{ContainerId as AgentContainerId, Identity, PodUid},
    report::{self, Connector, Publisher, Reporter, Target},
};
use waggle_aggregator::{
    ingest::{self, Config, IngestState, Metrics, Review, ReviewError, TokenReviewer},
    inventory::{Container, Indexed, Inventory, Labels, Node, Pod},
    serve::Limits,
    units::{Bytes, ContainerId, NanoCores},
    view::{NodeView, Views},
};
use waggle_proto::ingest::{
    AgentMessage, AggregatorMessage, agent_message, aggregator_message, ingest_client::IngestClient,
};

pub const SECOND: u64 = 1_000_000_000;
pub const INTERVAL: Duration = Duration::from_millis(200);
const NAME: &str = "waggle-ingest.waggle-system.svc";

/// Answers from a table of tokens.
#[derive(Default)]
pub struct Tokens(pub HashMap<String, Review>);

/// Tokens that begin so are reviewed slowly: longer than a clock may be off.
pub const SLOW: &str = "slow-";

impl TokenReviewer for Tokens {
    fn review<'a>(&'a self, token: &'a str, audience: &'a str) -> BoxFuture<'a, Result<Review, ReviewError>> {
        assert_eq!(audience, "waggle.aggregator");
        let review = self.0.get(token).cloned().unwrap_or_default();
        Box::pin(async move {
            if token.starts_with(SLOW) {
                tokio::time::sleep(Duration::from_secs(6)).await;
            }
            Ok(review)
        })
    }
}

/// A token that says when it expires, as a service account's does.
pub fn expiring(after: Duration) -> &'static str {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let at = std::time::SystemTime::now() + after;
    let seconds = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let payload = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{seconds}}}"));
    Box::leak(format!("e30.{payload}.signature").into_boxed_str())
}

/// What a TokenReview says of the agent pod on `node`.
pub fn agent_review(node: &str) -> Review {
    let extra =
        [("pod-name", format!("agent-{node}")), ("pod-uid", agent_uid(node)), ("node-name", node.into())];
    let key = |name: &str| format!("authentication.kubernetes.io/{name}");
    let extra: BTreeMap<_, _> = extra.into_iter().map(|(name, value)| (key(name), vec![value])).collect();
    Review {
        authenticated: true,
        error: String::new(),
        audiences: vec!["waggle.aggregator".into()],
        username: "system:serviceaccount:waggle-system:waggle-agent".into(),
        extra,
    }
}

fn agent_uid(node: &str) -> String {
    format!("uid-of-agent-{node}")
}

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
        let mut tokens: HashMap<String, Review> =
            ["n1", "n2"].map(|node| (format!("token-{node}"), agent_review(node))).into();
        tokens.extend(more.into_iter().map(|(token, review)| (token.to_owned(), review)));
        let certified = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.crt"), certified.cert.pem()).unwrap();
        let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
        let key = (certified.cert.der().clone(), key);
        let (views, metrics) = (Views::default(), Metrics::default());
        Self { inventory, views, metrics, directory, key, tokens: Arc::new(Tokens(tokens)) }
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
            Box::new(|| true),
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
        Agent { node: node.into(), publisher, task, cpu_ns: 0, beside: Vec::new() }
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

pub struct Agent {
    node: String,
    pub publisher: Publisher,
    task: JoinHandle<()>,
    cpu_ns: u64,
    /// Samples beside that of the workload.
    pub beside: Vec<Sample>,
}

impl Agent {
    pub fn stop(self) {
        self.task.abort();
    }

    /// Publishes a walk of `boot_ns`, in which the workload used `cpu_ns` more than before.
    pub fn walk_at(&mut self, boot_ns: u64, cpu_ns: u64) {
        self.cpu_ns += cpu_ns;
        let (boot, real) = collect::clocks();
        let age = boot.0 - boot_ns;
        let snapshot = Snapshot {
            boot: collect::BootTime(boot_ns),
            real: collect::RealTime(real.0 - age),
            node: NodeTotals {
                cpu_ns: Some(self.cpu_ns + SECOND),
                working_set_bytes: Some(1 << 30),
                swap_bytes: None,
            },
            samples: [&[sample(1, &uid(&self.node), id(&self.node), self.cpu_ns)], &*self.beside].concat(),
        };
        self.publisher.publish(&snapshot);
    }

    /// Walks now.
    pub fn walk(&mut self, cpu_ns: u64) {
        self.walk_at(collect::clocks().0.0, cpu_ns);
    }
}

pub fn sample(cgroup: u64, pod: &str, container: u8, cpu_ns: u64) -> Sample {
    Sample {
        cgroup: CgroupId(cgroup),
        identity: Arc::new(Identity {
            pod: PodUid::from(pod),
            container: Some(AgentContainerId::from_bytes([container; 32])),
        }),
        cpu_ns: Some(cpu_ns),
        late: false,
        memory: Some(Memory { usage_pages: 300, inactive_file_pages: 44, swap_pages: None }),
    }
}

pub struct Client {
    pub out: mpsc::Sender<AgentMessage>,
    pub answers: Streaming<AggregatorMessage>,
    pub channel: tonic::transport::Channel,
}

impl Client {
    pub async fn send(&self, message: agent_message::Message) {
        self.out.send(AgentMessage { message: Some(message) }).await.unwrap();
    }

    pub async fn welcome(&mut self) -> waggle_proto::ingest::Welcome {
        match within(self.answers.message()).await.unwrap().and_then(|answer| answer.message) {
            Some(aggregator_message::Message::Welcome(welcome)) => welcome,
            other => panic!("no welcome but {other:?}"),
        }
    }

    /// The status that the stream ended with; `None` for OK.
    pub async fn end(&mut self) -> Option<Status> {
        loop {
            match within(self.answers.message()).await {
                Ok(Some(_)) => {}
                Ok(None) => return None,
                Err(status) => return Some(status),
            }
        }
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

/// Sends one frame whose bytes are no message; gives the `grpc-status` of the answer.
pub async fn corrupt(channel: tonic::transport::Channel, token: &str) -> Option<String> {
    use http_body_util::{BodyExt, Full};
    use tower::Service;

    // Flag 0, five bytes, a field that announces more than there is.
    let frame = bytes::Bytes::from_static(&[0, 0, 0, 0, 5, 0x0a, 0xff, 0xff, 0xff, 0x7f]);
    let request = http::Request::post("/waggle.ingest.v1.Ingest/Report")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {token}"))
        .body(tonic::body::Body::new(Full::new(frame).map_err(|never| match never {})))
        .unwrap();
    let mut channel = channel;
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = within(channel.call(request)).await.unwrap();
    let body = within(response.into_body().collect()).await.unwrap();
    body.trailers()?.get("grpc-status").map(|value| value.to_str().unwrap().to_owned())
}
