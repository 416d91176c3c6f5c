//! Measures a list of all pods: 1,000 nodes, 30,000 pods of two containers, every frame made and dropped.
//! `cargo run --release -p waggle-aggregator --example list_all`

use std::{
    io::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Request};
use http_body_util::BodyExt as _;
use parking_lot::RwLock;
use prometheus_client::registry::Registry;
use waggle_aggregator::{
    api::{Api, Gate, Settings, Source},
    auth::{Attributes, Decision, PeerCertificates, Selectors, Unauthorized, User},
    health::{Check, Probe},
    inventory::{Container, Inventory, Pod},
    units::{Bytes, NanoCores, RealTime},
    view::{Measured, NodeView, PodEntry, Usage, Views},
};

const NODES: u32 = 1000;
const PODS_PER_NODE: u32 = 30;
const ROUNDS: usize = 41;

struct Open;

impl Gate for Open {
    async fn authenticate(&self, _: &PeerCertificates, _: &HeaderMap) -> Result<User, Unauthorized> {
        Ok(User::default())
    }

    async fn authorize(&self, _: &User, _: &Attributes, _: &Selectors) -> Decision {
        Decision::Allow
    }

    fn strip(&self, _: &mut HeaderMap) {}
}

impl Probe for Open {
    fn check(&self, _: Check) -> Result<(), String> {
        Ok(())
    }
}

fn fill(source: &Source) {
    let labels = ["app.kubernetes.io/name", "app.kubernetes.io/instance", "pod-template-hash", "team"];
    for node in 0..NODES {
        let node_name: Arc<str> = format!("node-{node:04}").into();
        let mut view = NodeView::default();
        for pod in 0..PODS_PER_NODE {
            let name = format!("deployment-{pod:02}-7d9c5b8f6d-{node:05}");
            let uid: Box<str> = format!("uid-{node}-{pod}").into();
            let container = |name: &str| Container { name: name.into(), id: None, running: true };
            source.inventory.apply_pod(Pod {
                namespace: format!("team-{:02}", (node + pod) % 40).into(),
                name: name.into(),
                uid: uid.clone(),
                static_uid: None,
                labels: labels.iter().map(|key| (Box::from(*key), format!("value-{pod}").into())).collect(),
                node: Arc::clone(&node_name),
                service_account: "default".into(),
                running: true,
                containers: vec![container("app"), container("proxy")],
            });
            let usage = |seed: u32| Usage {
                cpu: NanoCores(u64::from(seed) * 1_234_567 + 1),
                memory: Bytes(u64::from(seed) * 4096 + (1 << 26)),
                swap: None,
            };
            let measured = Measured {
                timestamp: RealTime(1_777_888_801_000_000_000 + u64::from(node) * 1_000_000),
                window: Duration::from_millis(14_998),
                seen: Instant::now(),
            };
            let containers = vec![("app".into(), usage(node + pod)), ("proxy".into(), usage(pod))];
            view.pods.insert(uid, Arc::new(PodEntry { measured, containers }));
        }
        source.views.publish(node_name, view);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let source =
        Source { inventory: Inventory::default(), views: Views::default(), max_age: Duration::from_hours(1) };
    fill(&source);
    let registry = Arc::new(RwLock::new(Registry::default()));
    let api = Api::new(Open, source, Arc::new(Open), registry, 0, Settings::default());
    let mut out = std::io::stdout().lock();
    for (what, accept) in [
        ("JSON", "application/json"),
        ("protobuf", "application/vnd.kubernetes.protobuf"),
        ("Table", "application/json;as=Table;v=v1;g=meta.k8s.io"),
    ] {
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..ROUNDS {
            let uri = "/apis/metrics.k8s.io/v1beta1/pods";
            let request = Request::builder().uri(uri).header("accept", accept).body(());
            let began = Instant::now();
            let mut body = api.answer(request.map_err(std::io::Error::other)?).await.into_body();
            bytes = 0;
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(std::io::Error::other)?;
                bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
            }
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let p50 = times.get(ROUNDS / 2).copied().unwrap_or_default();
        let worst = times.last().copied().unwrap_or_default();
        writeln!(out, "{what}: {bytes} bytes, p50 {p50:.1?}, worst of {ROUNDS} {worst:.1?}")?;
    }
    Ok(())
}
