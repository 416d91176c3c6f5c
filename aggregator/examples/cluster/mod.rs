//! The cluster that is measured: nodes of 30 pods with two containers, in namespaces of two Deployments with 30 replicas
//! each, with the labels that a Helm chart and a Deployment give. Its samples go the way of real ones, from the ring on.
#![allow(dead_code, reason = "every benchmark takes its part")]
#![allow(clippy::expect_used, reason = "a benchmark that cannot be set up has nothing to say")]

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use waggle_aggregator::{
    api::{Api, Gate, Now, Settings, Source},
    auth::{Attributes, Decision, Origin, PeerCertificates, Selectors, Unauthenticated, User},
    health::{Check, Probe},
    inventory::{Container, Indexed, Inventory, Labels, Node, Pod},
    ring::{Key, Moment, Reading, Shard, Totals},
    units::{BootTime, Bytes, CgroupId, ContainerId, NanoCores, RealTime},
    view::{Join, Views},
};

pub const NODES: usize = 1000;
pub const PODS_PER_NODE: usize = 30;
pub const REPLICAS: usize = 30;
const COMPONENTS: [&str; 2] = ["checkout", "worker"];
const PAGE: u64 = 4096;

pub const ALL_PODS: &str = "/apis/metrics.k8s.io/v1beta1/pods";
pub const ALL_NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
/// What an HPA asks for one Deployment: 30 pods of 60 in the namespace.
pub const ONE_DEPLOYMENT: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/team-0250/pods?labelSelector=\
     app.kubernetes.io%2Finstance%3Dshop-0250%2Capp.kubernetes.io%2Fname%3Dcheckout";

/// Inventory and views, and the nodes' side of them.
pub struct Cluster {
    pub source: Source,
    nodes: Vec<Sampled>,
}

/// A node whose containers use CPU at their own steady rates.
struct Sampled {
    name: Arc<str>,
    shard: Shard,
    join: Join,
    containers: Vec<(Arc<Key>, u64)>,
    seconds: u64,
}

impl Cluster {
    /// This many nodes, everything applied, and two samples of every node: all pods are served.
    pub fn new(nodes: usize) -> Self {
        let source = Source {
            inventory: Inventory::default(),
            views: Views::default(),
            max_age: Duration::from_hours(24),
        };
        for index in 0..nodes {
            source.inventory.apply_node(node(index));
        }
        for index in 0..nodes * PODS_PER_NODE {
            source.inventory.apply_pod(pod(index, nodes));
        }
        let nodes = (0..nodes).map(|index| Sampled::new(&source, index)).collect();
        let mut cluster = Self { source, nodes };
        for index in 0..cluster.nodes.len() {
            cluster.sample(index);
        }
        cluster
    }

    /// The next second of one node: through its ring into its view.
    pub fn sample(&mut self, index: usize) {
        let views = &self.source.views;
        if let Some(node) = self.nodes.get_mut(index) {
            node.sample(views);
        }
    }
}

impl Sampled {
    fn new(source: &Source, index: usize) -> Self {
        let name = node_name(index);
        let key = |id: u64, pod: &Pod| {
            let container = ContainerId(container_id(id));
            Arc::new(Key { cgroup: CgroupId(id), pod: (&*pod.uid).into(), container, absent: None })
        };
        let mut pods = source.inventory.pods_on(&name);
        pods.sort_by(|one, other| one.uid.cmp(&other.uid));
        let mut containers = Vec::new();
        for pod in &pods {
            for container in &pod.containers {
                let id = container.id.map_or(0, |id| u64::from_le_bytes(std::array::from_fn(|at| id.0[at])));
                // Some idle, some at a limit, most at a rate without round digits.
                let rate = match id % 7 {
                    0 => 0,
                    1 => 250_000_000,
                    _ => id.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 900_000_000,
                };
                containers.push((key(id, pod), rate));
            }
        }
        let mut sampled = Self {
            name,
            shard: Shard::new(Duration::from_secs(15)),
            join: Join::default(),
            containers,
            seconds: 0,
        };
        sampled.apply();
        let node = source.inventory.node(&sampled.name);
        sampled.join = Join::new(&sampled.shard, PAGE, node.as_deref(), &pods);
        sampled
    }

    fn sample(&mut self, views: &Views) {
        self.apply();
        let previous = views.node(&self.name).unwrap_or_default();
        views.publish(Arc::clone(&self.name), self.join.view(&self.shard, &previous));
    }

    fn apply(&mut self) {
        self.seconds += 1;
        let seconds = self.seconds;
        let boot = BootTime(seconds * 1_000_000_000 + 137_411 * (seconds % 3));
        let moment = Moment { boot, real: Now::read().real, seen: Instant::now() };
        let totals =
            Totals { cpu_ns: seconds * 1_734_981_273, working_set_bytes: 9 << 30 | 0x7000, swap_bytes: None };
        let readings = self.containers.iter().map(|(key, rate)| Reading {
            key,
            cpu_ns: rate * seconds,
            working_set_pages: u32::try_from(key.cgroup.0 % 60_000).unwrap_or_default() + 900,
            swap_pages: None,
        });
        self.shard.apply(moment, Some(totals), readings).expect("each second is newer than the one before");
    }
}

fn node_name(index: usize) -> Arc<str> {
    format!("ip-10-20-{}-{}.eu-central-1.compute.internal", index / 250, index % 250).into()
}

fn container_id(id: u64) -> [u8; 32] {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&id.to_le_bytes());
    bytes
}

fn node(index: usize) -> Node {
    let name = node_name(index);
    let zone = format!("eu-central-1{}", ["a", "b", "c"][index % 3]);
    let labels = [
        ("beta.kubernetes.io/arch", "amd64"),
        ("beta.kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", "amd64"),
        ("kubernetes.io/hostname", &*name),
        ("kubernetes.io/os", "linux"),
        ("node.kubernetes.io/instance-type", "m6i.2xlarge"),
        ("topology.kubernetes.io/region", "eu-central-1"),
        ("topology.kubernetes.io/zone", &*zone),
    ];
    Node {
        labels: Labels::of(labels),
        uid: format!("{index:08x}-77aa-4c1e-9b1d-0242ac120002").into(),
        cpu_capacity: NanoCores(8_000_000_000),
        memory_capacity: Bytes(32 << 30),
        pod_capacity: 110,
        name,
    }
}

/// Neighbours of one Deployment are on different nodes.
fn pod(index: usize, nodes: usize) -> Pod {
    let (namespace, place) = (index / (2 * REPLICAS), index % (2 * REPLICAS));
    let component = COMPONENTS[place / REPLICAS];
    let instance = format!("shop-{namespace:04}");
    let hash = format!("{:010x}", (namespace as u64 + 77).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24);
    let suffix = format!("{:05x}", index.wrapping_mul(0x9e3_779b1) & 0xf_ffff);
    let labels = [
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/instance", &*instance),
        ("app.kubernetes.io/managed-by", "Helm"),
        ("app.kubernetes.io/name", component),
        ("app.kubernetes.io/part-of", "web-shop"),
        ("app.kubernetes.io/version", "2.14.3"),
        ("helm.sh/chart", "web-shop-5.8.1"),
        ("pod-template-hash", &*hash),
        ("team", "payments"),
    ];
    let container = |name: &str, at: u64| Container {
        name: name.into(),
        id: Some(ContainerId(container_id(index as u64 * 2 + at + 1))),
        running: true,
    };
    Pod {
        namespace: format!("team-{namespace:04}").into(),
        name: format!("{instance}-{component}-{hash}-{suffix}").into(),
        uid: format!("{index:08x}-1f0a-4a52-8d2e-0242ac120002").into(),
        static_uid: None,
        labels: Labels::of(labels),
        node: node_name(index % nodes),
        service_account: "default".into(),
        running: true,
        terminating: false,
        containers: vec![container(component, 0), container("istio-proxy", 1)],
        indexed: Indexed::default(),
    }
}

/// Lets everybody in: what authentication costs is not measured here.
pub struct Open;

impl Gate for Open {
    fn is_front_proxy(&self, _: &PeerCertificates) -> bool {
        true
    }

    fn authenticate(
        &self,
        _: &PeerCertificates,
        _: &HeaderMap,
    ) -> impl Future<Output = Result<User, Unauthenticated>> + Send {
        std::future::ready(Ok(User::default()))
    }

    fn authorize(
        &self,
        _: Origin,
        _: &User,
        _: &Attributes,
        _: &Selectors,
    ) -> impl Future<Output = Decision> + Send {
        std::future::ready(Decision::Allow)
    }

    fn strip(&self, _: &mut HeaderMap) {}
}

impl Probe for Open {
    fn check(&self, _: Check) -> Result<(), String> {
        Ok(())
    }
}

/// 2026-11-22T12:00:00Z, whenever it is: two ways of writing the same list can be compared byte by byte.
pub fn noon() -> Now {
    Now { instant: Instant::now(), real: RealTime(1_795_348_800_000_000_000) }
}

pub fn api(source: &Source, now: fn() -> Now) -> Api<Open> {
    let registry = Arc::new(RwLock::new(Registry::default()));
    Api::new(Open, source.clone(), Arc::new(Open), registry, 443, Settings { now, ..Settings::default() })
}

/// Asks, and gives every frame to `take` before the next one is asked for.
pub async fn ask(api: &Api<Open>, path: &str, accept: &str, mut take: impl FnMut(&[u8])) {
    let request = Request::builder().uri(path).header("accept", accept).body(()).expect("a request");
    let response = api.answer(request).await;
    assert_eq!(response.status(), 200, "{path}");
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame.expect("the answer is whole").data_ref() {
            take(data);
        }
    }
}
