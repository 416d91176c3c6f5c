//! The API port without its sockets: one node, two pods, and a gate that lets everybody in whom the front proxy names.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use parking_lot::{Mutex, RwLock};
use prometheus_client::registry::Registry;
use waggle_aggregator::{
    api::{Api, Gate, Now, Settings, Source},
    auth::{
        Attributes, Decision, Judgement, Opinion, Origin, PeerCertificates, Proven, RequestHeader, Selectors,
        Snapshot, Unauthenticated, User, decide, strip,
    },
    health::{Check, Probe},
    inventory::{Container, Indexed, Inventory, Node, Pod},
    units::{Bytes, NanoCores, RealTime},
    view::{Entries, Measured, NodeEntry, NodeView, Usage, Views},
};

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// The API and what its gate saw.
pub struct World {
    api: Api<FrontProxied>,
    asked: Arc<Mutex<Option<Attributes>>>,
    runtime: tokio::runtime::Runtime,
}

impl World {
    pub fn new() -> Self {
        let asked = Arc::new(Mutex::new(None));
        let gate = FrontProxied { snapshot: snapshot(), asked: Arc::clone(&asked) };
        let registry = Arc::new(RwLock::new(Registry::default()));
        let settings = Settings { now, ..Settings::default() };
        let api = Api::new(gate, source(), Arc::new(Healthy), registry, 10250, settings);
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().build().unwrap_or_else(|error| panic!("no runtime: {error}"));
        Self { api, asked, runtime }
    }

    /// Answers a request; also says what authorization was asked.
    pub fn answer(&self, request: Request<()>) -> (Answer, Option<Attributes>) {
        *self.asked.lock() = None;
        let answer = self.runtime.block_on(async {
            let (head, body) = self.api.answer(request).await.into_parts();
            let body = body.collect().await.unwrap_or_else(|error| panic!("a body broke off: {error:?}"));
            Answer { status: head.status, headers: head.headers, body: body.to_bytes().to_vec() }
        });
        (answer, self.asked.lock().take())
    }
}

/// The configuration of a kubeadm cluster, with UID headers too.
pub fn snapshot() -> Snapshot {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let rules = RequestHeader {
        username_headers: names(&["x-remote-user", "x-other-user"]),
        uid_headers: names(&["x-remote-uid"]),
        group_headers: names(&["x-remote-group"]),
        extra_prefixes: names(&["x-remote-extra-"]),
        ..RequestHeader::default()
    };
    Snapshot { generation: 1, request_header: Some(rules), ..Snapshot::default() }
}

/// A peer that proved to be the front proxy.
pub fn proven(headers: &HeaderMap, snapshot: &Snapshot) -> Proven {
    let judgement = Judgement { front_proxy: Opinion::Accepted(()), certificate: Opinion::None };
    decide(&judgement, headers, snapshot)
}

struct FrontProxied {
    snapshot: Snapshot,
    asked: Arc<Mutex<Option<Attributes>>>,
}

impl Gate for FrontProxied {
    fn is_front_proxy(&self, _: &PeerCertificates) -> bool {
        true
    }

    async fn authenticate(&self, _: &PeerCertificates, headers: &HeaderMap) -> Result<User, Unauthenticated> {
        match proven(headers, &self.snapshot) {
            Proven::FrontProxy(user) => Ok(user),
            _ => Err(Unauthenticated::Unauthorized),
        }
    }

    async fn authorize(&self, _: Origin, _: &User, attributes: &Attributes, _: &Selectors) -> Decision {
        *self.asked.lock() = Some(attributes.clone());
        Decision::Allow
    }

    fn strip(&self, headers: &mut HeaderMap) {
        strip(headers, &self.snapshot);
    }
}

struct Healthy;

impl Probe for Healthy {
    fn check(&self, _: Check) -> Result<(), String> {
        Ok(())
    }
}

const NOW: RealTime = RealTime(1_777_888_807_300_000_000);

fn now() -> Now {
    Now { instant: Instant::now(), real: NOW }
}

fn source() -> Source {
    let source = Source {
        inventory: Inventory::default(),
        views: Views::default(),
        // Nothing grows old while a fuzzer runs.
        max_age: Duration::from_hours(10_000),
    };
    source.inventory.apply_node(Node {
        name: "a".into(),
        uid: "uid-a".into(),
        labels: [(Box::from("zone"), Box::from("a"))].into_iter().collect(),
        cpu_capacity: NanoCores(4_000_000_000),
        memory_capacity: Bytes(1 << 33),
        pod_capacity: 110,
    });
    let usage = Usage { cpu: NanoCores(1_234_567), memory: Bytes(3 << 20), swap: None };
    let measured = Measured { timestamp: NOW, window: Duration::from_millis(14_998), seen: Instant::now() };
    let mut pods = Entries::default();
    for (namespace, name) in [("shop", "web-0"), ("db", "db-0")] {
        let uid = format!("{namespace}-{name}");
        source.inventory.apply_pod(Pod {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.as_str().into(),
            static_uid: None,
            labels: [(Box::from("app"), Box::from(name))].into_iter().collect(),
            node: "a".into(),
            service_account: "default".into(),
            running: true,
            terminating: false,
            containers: vec![Container { name: "c".into(), id: None, running: true }],
            indexed: Indexed::default(),
        });
        if let Some(pod) = source.inventory.pod(namespace, name) {
            pods.set(&pod, measured, &pod.indexed.expected, &[usage]);
        }
    }
    source.views.publish("a".into(), NodeView { node: Some(NodeEntry { measured, usage }), pods });
    source
}
