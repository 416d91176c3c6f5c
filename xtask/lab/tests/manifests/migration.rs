//! From metrics-server and back in the order of `docs/migration.md`: no list request fails meanwhile, and neither server's
//! registration is touched by the other. What stands for metrics-server's Service here leads to the aggregator, too: it is
//! the registration that changes hands.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::sleep;
use waggle_lab::{
    control_plane::{ControlPlane, Options, Places},
    life_cycle::migration::{BACK, THERE},
};

use crate::render::{NAMESPACE, helm, output, place, read};

const HPA_LIST: &str = "/apis/metrics.k8s.io/v1beta1/pods";

/// Asks for what an autoscaler asks for, twenty times a second; how often, and what went wrong.
struct Asker {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<(usize, Vec<String>)>,
}

impl Asker {
    async fn start(plane: &ControlPlane) -> Self {
        let client = plane.client().await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let begun = Instant::now();
        let task = tokio::spawn(async move {
            let (mut asked, mut failed) = (0, Vec::new());
            while !stopped.load(Ordering::Relaxed) {
                let request = http::Request::get(HPA_LIST).body(Vec::new()).unwrap();
                if let Err(error) = client.request::<Value>(request).await {
                    failed.push(format!("{:?}: {error}", begun.elapsed()));
                }
                asked += 1;
                sleep(Duration::from_millis(50)).await;
            }
            (asked, failed)
        });
        Self { stop, task }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (asked, failed) = self.task.await.unwrap();
        assert!(failed.is_empty(), "{} of {asked} requests failed: {failed:#?}", failed.len());
        assert!(asked > 100, "asked only {asked} times");
        println!("{asked} requests, none failed");
    }
}

async fn registration(plane: &ControlPlane, version: &str) -> Value {
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{version}.metrics.k8s.io");
    plane.get(&path).await.unwrap()["spec"].take()
}

/// A patch of the page with the port of the lab.
async fn patch(plane: &ControlPlane, patch: &str) {
    let port = format!("\"port\":{}", plane.aggregator_api().port());
    let patch = patch.replace("\"port\":443", &port);
    plane
        .kubectl(&["patch", "apiservice", "v1beta1.metrics.k8s.io", "--type=merge", "-p", &patch])
        .await
        .unwrap();
}

/// The registration of metrics-server 0.9, and a Service behind it.
fn metrics_server(port: u16) -> [Value; 2] {
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": "kube-system", "name": "metrics-server"},
            "spec": {"type": "ExternalName", "externalName": "127.0.0.1", "ports": [{"name": "https", "port": port}]},
        }),
        json!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": "v1beta1.metrics.k8s.io", "labels": {"k8s-app": "metrics-server"}},
            "spec": {
                "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": true,
                "service": {"namespace": "kube-system", "name": "metrics-server", "port": port},
            },
        }),
    ]
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real control plane: cargo xtask test"]
async fn no_list_request_fails_on_the_way_there_and_back() {
    there_and_back("migration", false).await;
}

/// kubectl remembers the bundle that it applied, and would take it away with what no longer has one.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real control plane: cargo xtask test"]
async fn nor_does_one_where_metrics_server_was_applied_with_a_ca_bundle() {
    there_and_back("migration-with-ca", true).await;
}

async fn answered(plane: &ControlPlane) {
    let begun = Instant::now();
    while plane.get(HPA_LIST).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never answered");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn there_and_back(label: &str, with_bundle: bool) {
    let page = read("docs/migration.md");
    assert!(page.contains(THERE) && page.contains(BACK), "docs/migration.md has other patches");
    let places = Places::from_environment().unwrap();
    let plane = ControlPlane::start(&places, &Options::named(label)).await.unwrap();
    plane.kubectl(&["delete", "apiservice", "v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"]).await.unwrap();
    plane.apply(&metrics_server(plane.aggregator_api().port())).await.unwrap();
    plane.start_aggregator(&["--ca-interval", "2s"]).await.unwrap();
    let available =
        ["wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=60s"];
    plane.kubectl(&available).await.unwrap();
    answered(&plane).await;
    let authority = plane.get(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/waggle-ca")).await.unwrap();
    let authority = STANDARD.encode(authority["data"]["ca.crt"].as_str().unwrap());
    if with_bundle {
        let [_, mut theirs] = metrics_server(plane.aggregator_api().port());
        theirs["spec"]["insecureSkipTLSVerify"] = json!(false);
        theirs["spec"]["caBundle"] = json!(authority);
        plane.apply(&[theirs]).await.unwrap();
        // What answers has no certificate for metrics-server's name. What kubectl has applied stays in the annotation.
        patch(&plane, BACK).await;
        sleep(Duration::from_secs(1)).await;
        answered(&plane).await;
    }
    let asker = Asker::start(&plane).await;
    sleep(Duration::from_secs(2)).await;
    let theirs = registration(&plane, "v1beta1").await;
    assert_eq!((&theirs["caBundle"], &theirs["insecureSkipTLSVerify"]), (&Value::Null, &json!(true)));

    patch(&plane, &THERE.replace("'$CA'", &authority)).await;
    sleep(Duration::from_secs(3)).await;
    plane.apply_manifests().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    plane.kubectl(&["delete", "service", "metrics-server", "-n", "kube-system"]).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    for version in ["v1", "v1beta1"] {
        let ours = registration(&plane, version).await;
        assert_eq!(ours["caBundle"], json!(authority), "{version}");
        assert_eq!(ours["insecureSkipTLSVerify"], Value::Null, "{version}");
        assert_eq!(ours["service"]["name"], "waggle-aggregator", "{version}");
    }
    assert_eq!(plane.get("/apis/metrics.k8s.io/v1/nodes").await.unwrap()["kind"], "NodeMetricsList");

    let [service, _] = metrics_server(plane.aggregator_api().port());
    plane.apply(&[service]).await.unwrap();
    patch(&plane, BACK).await;
    plane.kubectl(&["delete", "apiservice", "v1.metrics.k8s.io"]).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let theirs = registration(&plane, "v1beta1").await;
    assert_eq!((&theirs["caBundle"], &theirs["insecureSkipTLSVerify"]), (&Value::Null, &json!(true)));
    assert_eq!(theirs["service"]["name"], "metrics-server");
    asker.end().await;
}

fn metrics_servers_helm(plane: &ControlPlane, args: &[&str]) {
    let mut command = helm();
    command.env("KUBECONFIG", plane.kubeconfig()).args(args).args(["-n", "kube-system"]);
    output(&mut command).unwrap_or_else(|error| panic!("helm {args:?}: {error}"));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real control plane: cargo xtask test"]
async fn metrics_servers_chart_lets_go_of_the_registration() {
    let places = Places::from_environment().unwrap();
    let plane = ControlPlane::start(&places, &Options::named("migration-by-helm")).await.unwrap();
    plane.kubectl(&["delete", "apiservice", "v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"]).await.unwrap();
    let chart = place("WAGGLE_DEFINITIONS").join("metrics-server").display().to_string();
    metrics_servers_helm(&plane, &["install", "metrics-server", &chart]);
    let path = "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io";
    let before = plane.get(path).await.unwrap();
    assert_eq!(before["spec"]["service"]["name"], "metrics-server");

    let page = read("docs/migration.md");
    for set in ["apiService.annotations.helm\\.sh/resource-policy=keep", "apiService.create=false"] {
        assert!(page.contains(set), "docs/migration.md does not say {set}");
        metrics_servers_helm(&plane, &["upgrade", "metrics-server", &chart, "--reuse-values", "--set", set]);
    }
    patch(&plane, &THERE.replace("'$CA'", &STANDARD.encode("-----BEGIN CERTIFICATE-----"))).await;
    plane.apply_manifests().await.unwrap();
    metrics_servers_helm(&plane, &["uninstall", "metrics-server"]);
    let after = plane.get(path).await.unwrap();
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "deleted and made anew");
    assert_eq!(after["spec"]["service"]["name"], "waggle-aggregator");
    let begun = Instant::now();
    let keys = loop {
        let keys = plane.etcd_keys().await.unwrap();
        // Events go by themselves, after an hour.
        let theirs = |key: &&String| key.contains("metrics-server") && !key.contains("/events/");
        let left: Vec<&String> = keys.iter().filter(theirs).collect();
        if left.is_empty() {
            break keys;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "left of metrics-server: {left:?}");
        sleep(Duration::from_millis(200)).await;
    };
    assert!(keys.iter().any(|key| key.ends_with("/clusterroles/system:aggregated-metrics-reader")));
}
