//! The whole way of a number on loopback: the agent's own reporter → the real aggregator → a front proxy → kubectl. Only
//! the walks are invented, so that the values are known exactly.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;

use common::{
    reporting::{World, kubectl, ok, walk},
    until,
};
use serde_json::{Value, json};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Runs kubectl so that it tells what it received: the output, and the content types of the answers from `metrics.k8s.io`.
async fn told(directory: &Path, args: &[&str]) -> (String, Vec<String>) {
    let output = kubectl(directory, "admin", &[args, &["-v=8"]].concat()).await;
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {log}");
    let mut kinds = Vec::new();
    let mut ours = false;
    for line in log.lines() {
        if line.contains("GET") && line.contains("https://") {
            ours = ["/nodes", "/pods"].iter().any(|resource| line.contains(resource))
                && line.contains("/apis/metrics.k8s.io/");
        }
        kinds.extend(line.split_once("Content-Type: ").filter(|_| ours).map(|(_, kind)| kind.to_owned()));
    }
    (String::from_utf8_lossy(&output.stdout).into_owned(), kinds)
}

/// The words of each line below the heading.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_what_the_agent_reports() {
    let world = World::start(&[]).await;
    let path = world.path();
    // Before any agent: available, and empty rather than an error.
    let empty = ok(path, &["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).await;
    assert_eq!(
        empty,
        "{\"kind\":\"NodeMetricsList\",\"apiVersion\":\"metrics.k8s.io/v1beta1\",\"metadata\":{},\"items\":[]}\n"
    );

    let reports = world.report(walk);
    until("values", async || {
        let list = ok(path, &["get", "--raw", "/apis/metrics.k8s.io/v1/pods"]).await;
        serde_json::from_str::<Value>(&list).unwrap()["items"].as_array().unwrap().len() == 1
    })
    .await;

    let (nodes, kinds) = told(path, &["top", "nodes"]).await;
    assert_eq!(kinds, [PROTOBUF]);
    assert_eq!(rows(&nodes), [["node-a", "500m", "25%", "512Mi", "50%"]], "{nodes}");
    let (containers, kinds) = told(path, &["top", "pods", "-A", "--containers"]).await;
    assert_eq!(kinds, [PROTOBUF]);
    let expected = [["shop", "web-0", "burner", "250m", "8Mi"], ["shop", "web-0", "holder", "0m", "64Mi"]];
    assert_eq!(rows(&containers), expected, "{containers}");
    let (pod, kinds) = told(path, &["top", "pod", "web-0", "-n", "shop"]).await;
    assert_eq!(kinds, [PROTOBUF]);
    assert_eq!(rows(&pod), [["web-0", "250m", "72Mi"]], "{pod}");
    // Other Accept headers: since 1.33 this is `application/vnd.kubernetes.protobuf,application/json`, before it was JSON.
    let selected = ["top", "pods", "-n", "shop", "-l", "app in (web-0)", "--use-protocol-buffers=false"];
    let selected = ok(path, &selected).await;
    assert_eq!(rows(&selected), [["web-0", "250m", "72Mi"]], "{selected}");
    let (table, kinds) = told(path, &["get", "podmetrics", "-A"]).await;
    assert_eq!(kinds, ["application/json"]);
    assert_eq!(
        table.split_whitespace().take(5).collect::<Vec<_>>(),
        ["NAMESPACE", "NAME", "CPU", "MEMORY", "WINDOW"]
    );
    assert_eq!(rows(&table)[0][..4], ["shop", "web-0", "250m", "72Mi"], "{table}");
    let raw: Value =
        serde_json::from_str(&ok(path, &["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).await)
            .unwrap();
    assert_eq!(raw["items"][0]["usage"], json!({"cpu": "500m", "memory": "512Mi"}));
    let ready = ok(path, &["get", "--raw", "/apis/metrics.k8s.io/v1/nodes/node-a"]).await;
    assert!(ready.starts_with("{\"kind\":\"NodeMetrics\",\"apiVersion\":\"metrics.k8s.io/v1\","), "{ready}");

    let missing = kubectl(path, "admin", &["top", "node", "nope"]).await;
    assert!(String::from_utf8_lossy(&missing.stderr).contains("\"nope\" not found"), "{missing:?}");
    let refused = kubectl(path, "outsider", &["get", "--raw", "/apis/metrics.k8s.io/v1/nodes"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Forbidden"), "{refused:?}");

    assert_eq!(world.aggregator.terminate().await.code(), Some(0));
    drop(reports);
}
