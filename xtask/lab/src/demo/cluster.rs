//! `cargo xtask demo --cluster`: the real cluster. Nodes join a real control plane, Waggle is installed as an administrator would,
//! `kubectl top` shows pods whose use is known, and an autoscaler follows a load up and down. It fails where a shown value is not what
//! the kernel enforces, or the Deployment is not scaled.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::print;
use crate::{
    checks::{Check, FULL_WINDOW},
    metrics::Item,
    nodes::{DRIVER, Network, Options, Places, RealCluster, product},
};

const NETWORK: &str = "waggle-demo";
const NODES: u8 = 2;
/// From an order to what it asked for: images are there, the machines are slow.
const LIMIT: Duration = Duration::from_mins(5);
const WEB: &str = "web";
const MOST_REPLICAS: u64 = 3;
/// Between two requests of the load, each of which costs 20 ms of CPU time: 200 m, of 50 m that the autoscaler holds to be right.
const REQUESTS: Duration = Duration::from_millis(100);
const BURNER_MILLICORES: f64 = 100.0;
const HOLDER_MIB: f64 = 64.0;
const PODS: &str = "/apis/metrics.k8s.io/v1/namespaces/default/pods";
const AUTOSCALER: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/web";

/// Runs the demo; whether everything that was checked holds. No runtime may run yet: this thread moves into the cluster's network.
pub fn run() -> Result<bool> {
    let places = Places::from_environment()?;
    let network = Network::create(NETWORK, NODES)?;
    network.enter()?;
    // This thread stays in it; with the last process in it, it is gone.
    network.forget_name()?;
    Runtime::new().context("cannot start a runtime")?.block_on(show(&places))
}

async fn show(places: &Places) -> Result<bool> {
    println!(
        "starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler, CoreDNS and {NODES} virtual machines as nodes"
    );
    let images = product::images(places, &places.state.join("node-images"))?;
    let options = Options { nodes: vec![DRIVER; NODES.into()], images, ..Options::named("demo") };
    let mut cluster = RealCluster::start(places, &options).await?;
    let cluster = &mut cluster;
    cluster.wait_nodes_ready().await?;
    say(cluster, "every node is Ready");
    kubectl(cluster, "get nodes -o wide").await?;

    println!("\n$ kubectl apply -k deploy/overlays/default");
    product::install(cluster).await?;
    product::wait_served(cluster).await?;
    say(cluster, "Waggle is installed, both APIServices are Available, metrics of every node are served");
    kubectl(cluster, "-n waggle-system get pods -o wide").await?;
    kubectl(cluster, "get apiservice v1.metrics.k8s.io v1beta1.metrics.k8s.io").await?;

    println!(
        "\nthree loads are applied: a burner limited to 100 m, a holder of 64 MiB, a web server with an autoscaler"
    );
    cluster.plane.apply(&objects()).await?;
    cluster
        .wait("pods are served with whole windows, and the autoscaler follows", LIMIT, async |plane| {
            let known = served(&plane.get(PODS).await?)?;
            let whole = ["burner", "holder"]
                .iter()
                .all(|name| known.iter().any(|item| item.name == *name && item.window >= FULL_WINDOW));
            let autoscaler = plane.get(AUTOSCALER).await?;
            Ok(whole && crate::nodes::condition(&autoscaler, "ScalingActive"))
        })
        .await?;
    say(cluster, "all of them run");
    kubectl(cluster, "top nodes").await?;
    kubectl(cluster, "top pods -A --containers").await?;
    let mut checks = values(cluster).await?;
    kubectl(cluster, "get hpa web").await?;

    println!("\nten requests a second go to the web server, each costs 20 ms of CPU time");
    let begun = Instant::now();
    let load = load(cluster).await?;
    checks.push(replicas(cluster, "the Deployment is scaled up under load", MOST_REPLICAS, begun).await?);
    kubectl(cluster, "top pods -l app=web").await?;
    kubectl(cluster, "get hpa web").await?;
    println!("\nthe requests end");
    drop(load);
    let ended = Instant::now();
    checks.push(replicas(cluster, "and down after it", 1, ended).await?);
    kubectl(cluster, "get hpa web").await?;
    kubectl(cluster, "get events --field-selector reason=SuccessfulRescale").await?;

    println!();
    let holds = print(&checks);
    cluster.check()?;
    say(cluster, if holds { "everything holds" } else { "something does not hold" });
    Ok(holds)
}

fn say(cluster: &RealCluster, what: &str) {
    println!("\n[{:>5.1} s] {what}", cluster.age().as_secs_f64());
}

async fn kubectl(cluster: &RealCluster, command: &str) -> Result<()> {
    let args: Vec<&str> = command.split(' ').collect();
    println!("\n$ kubectl {command}\n{}", cluster.plane.kubectl(&args).await?.trim_end());
    Ok(())
}

fn served(list: &Value) -> Result<Vec<Item>> {
    list["items"].as_array().context("a list without items")?.iter().map(Item::read).collect()
}

/// What is served of the two pods whose use is known.
async fn values(cluster: &RealCluster) -> Result<Vec<Check>> {
    let items = served(&cluster.plane.get(PODS).await?)?;
    let usage = |pod: &str| {
        let item = items.iter().find(|item| item.name == pod);
        item.with_context(|| format!("{pod} is not served"))?.container("main")
    };
    let mebibytes = usage("holder")?.bytes / f64::from(1 << 20);
    Ok(vec![
        Check::near("CPU of the burner", "m", usage("burner")?.millicores, BURNER_MILLICORES, 10.0),
        Check::near("memory of the holder", "MiB", mebibytes, HOLDER_MIB, 5.0),
    ])
}

/// Waits until the autoscaler wants this many replicas and they run.
async fn replicas(cluster: &mut RealCluster, what: &str, count: u64, begun: Instant) -> Result<Check> {
    let path = "/apis/apps/v1/namespaces/default/deployments/web";
    let waited = cluster
        .wait(what, LIMIT, async |plane| {
            let deployment = plane.get(path).await?;
            let of = |value: &Value| value.as_u64() == Some(count);
            Ok(of(&deployment["spec"]["replicas"]) && of(&deployment["status"]["readyReplicas"]))
        })
        .await;
    let seen = match &waited {
        Ok(()) => format!("{count} replicas are ready {:.1} s later", begun.elapsed().as_secs_f64()),
        Err(error) => format!("{error:#}"),
    };
    Ok(Check { what: what.to_owned(), seen, holds: waited.is_ok() })
}

/// Sends requests to the web server's pods by turns, through kube-apiserver, until it is dropped.
async fn load(cluster: &RealCluster) -> Result<JoinSet<()>> {
    let client = cluster.plane.client().await?;
    let mut load = JoinSet::new();
    load.spawn(async move {
        let mut ticks = interval(REQUESTS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut requests = JoinSet::new();
        let mut pods = Vec::new();
        for number in 0_usize.. {
            ticks.tick().await;
            if number.is_multiple_of(20) {
                pods = ready(&client).await.unwrap_or_default();
            }
            let Some(pod) = number.checked_rem(pods.len()).and_then(|place| pods.get(place)) else {
                continue;
            };
            let path = format!("/api/v1/namespaces/default/pods/{pod}:8080/proxy/");
            let (client, request) = (client.clone(), http::Request::get(path).body(Vec::new()));
            // One that fails is no load; that there was enough of it shows in what is measured.
            requests.spawn(async move {
                if let Ok(request) = request {
                    drop(client.request_text(request).await);
                }
            });
            while requests.try_join_next().is_some() {}
        }
    });
    // The first requests are on their way.
    sleep(REQUESTS).await;
    Ok(load)
}

/// The web server's pods that run.
async fn ready(client: &kube::Client) -> Result<Vec<String>> {
    let path = "/api/v1/namespaces/default/pods?labelSelector=app%3Dweb";
    let list: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    let pods = list["items"].as_array().into_iter().flatten();
    let pods = pods.filter(|pod| {
        crate::nodes::condition(pod, "Ready") && pod["metadata"].get("deletionTimestamp").is_none()
    });
    Ok(pods.filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned)).collect())
}

fn objects() -> Vec<Value> {
    let container = |args: &[&str], resources: Value| {
        json!({
            "name": "main", "image": "waggle.local/workload:lab", "imagePullPolicy": "Never", "args": args,
            "resources": resources,
        })
    };
    let pod = |name: &str, container: Value| {
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "default", "name": name},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        })
    };
    let metadata = json!({"namespace": "default", "name": WEB});
    let web =
        json!({"requests": {"cpu": "100m", "memory": "16Mi"}, "limits": {"cpu": "300m", "memory": "64Mi"}});
    vec![
        pod("burner", container(&["burn"], json!({"limits": {"cpu": "100m", "memory": "32Mi"}}))),
        pod("holder", container(&["hold", "64Mi"], json!({"limits": {"memory": "128Mi"}}))),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": WEB}},
                "template": {
                    "metadata": {"labels": {"app": WEB}},
                    "spec": {"terminationGracePeriodSeconds": 1, "containers": [container(&["serve"], web)]},
                },
            },
        }),
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata,
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": WEB},
                "minReplicas": 1, "maxReplicas": MOST_REPLICAS,
                // Five minutes without it: a demo is shorter.
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
            },
        }),
    ]
}
