//! The control plane that all tests here share, and the pods that run in it.

use std::{
    path::Path,
    sync::LazyLock,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::sleep};
use waggle_lab::{
    control_plane::{ControlPlane, Options, Places},
    simulate::{
        Streams,
        kubelet::{self, Kubelets},
    },
};

/// The first of the two nodes, of 4 processors and 8 GiB each.
pub const FIRST: &str = "simulated-0000";
pub const SECOND: &str = "simulated-0001";

/// How the aggregator runs here: with a short window, so that values settle soon.
pub const FLAGS: [&str; 2] = ["--window", "4s"];

/// A container and what it uses: millicores, MiB.
type Container = (&'static str, u64, u64);

/// Namespace, name, node and containers of the pods. The label `app` is the name up to its dash.
pub const PODS: [(&str, &str, &str, &[Container]); 4] = [
    ("default", "job", SECOND, &[("job", 1000, 32)]),
    ("shop", "db", FIRST, &[("db", 125, 512)]),
    ("shop", "web-0", FIRST, &[("web", 250, 64), ("proxy", 30, 16)]),
    ("shop", "web-1", SECOND, &[("web", 500, 96), ("proxy", 20, 8)]),
];

/// One control plane for all tests: a start takes longer than most of them.
struct World {
    runtime: Runtime,
    plane: ControlPlane,
    /// The nodes end with it.
    _kubelets: Kubelets,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let (plane, kubelets) = runtime.block_on(start());
    World { runtime, plane, _kubelets: kubelets }
});

async fn start() -> (ControlPlane, Kubelets) {
    let begun = Instant::now();
    let places = Places::from_environment().unwrap();
    let plane = ControlPlane::start(&places, &Options::named("control-plane")).await.unwrap();
    println!("control plane and objects after {:?}", begun.elapsed());
    plane.start_aggregator(&FLAGS).await.unwrap();
    plane.wait_available().await.unwrap();
    println!("Available after {:?}", begun.elapsed());
    let streams = Streams::to(plane.ingest(), plane.ingest_ca()).unwrap();
    let options = kubelet::Options { nodes: 2, processors: 4, gibibytes: 8, ..kubelet::Options::default() };
    let kubelets = Kubelets::start(plane.client().await.unwrap(), streams, &options).await.unwrap();
    plane.kubectl(&["create", "namespace", "shop"]).await.unwrap();
    wait(&plane, "pods may be made", Duration::from_secs(30), async || {
        // The account is made by a controller, and admission wants it.
        plane.get("/api/v1/namespaces/shop/serviceaccounts/default").await.is_ok()
    })
    .await;
    plane.apply(&PODS.map(pod)).await.unwrap();
    for (namespace, name, ..) in PODS {
        let path = format!("/apis/metrics.k8s.io/v1/namespaces/{namespace}/pods/{name}");
        wait(&plane, name, Duration::from_secs(30), async || plane.get(&path).await.is_ok()).await;
    }
    // The first window of a pod begins before its first instruction; from the next on, rates are what is set.
    sleep(Duration::from_secs(6)).await;
    println!("every pod is served after {:?}", begun.elapsed());
    (plane, kubelets)
}

fn pod((namespace, name, node, containers): (&str, &str, &str, &[Container])) -> Value {
    let app = name.split('-').next();
    let loads = containers
        .iter()
        .map(|(name, cpu, memory)| (format!("load.waggle.test/{name}"), json!(format!("{cpu}m,{memory}Mi"))));
    let loads: serde_json::Map<String, Value> = loads.collect();
    let containers = containers.iter().map(|(name, ..)| json!({"name": name, "image": "waggle.test/work:1"}));
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": app}, "annotations": loads},
        "spec": {"nodeName": node, "containers": containers.collect::<Vec<_>>()},
    })
}

/// Runs a test against the shared control plane.
pub fn behind(test: impl AsyncFnOnce(&'static ControlPlane)) {
    let World { runtime, plane, .. } = &*WORLD;
    runtime.block_on(test(plane));
}

/// What kubectl says as the user of a kubeconfig: whether it ended well, and both outputs, errors last.
pub async fn said(plane: &ControlPlane, kubeconfig: &Path, args: &[&str]) -> (bool, String) {
    let output = plane.kubectl_as(kubeconfig, args).await.unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// Waits until something holds.
pub async fn wait(plane: &ControlPlane, what: &str, limit: Duration, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(
            begun.elapsed() < limit,
            "not within {limit:?}: {what}; logs are in {}",
            plane.folder().display()
        );
        sleep(Duration::from_millis(200)).await;
    }
    println!("{what}: {:?}", begun.elapsed());
}
