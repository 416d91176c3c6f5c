//! The whole way of a number on loopback: the agent's own reporter → the real aggregator → a front proxy → kubectl. Only
//! the walks are invented, so that the values are known exactly.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    net::SocketAddr,
    path::Path,
    process::Output,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{Aggregator, FILES, until};
use serde_json::{Value, json};
use tokio::process::Command;
use waggle_agent::{
    collect::{BootTime, CgroupId, Memory, NodeTotals, RealTime, Sample, Snapshot},
    identify::{ContainerId, Identity},
    report::{Config, Metrics, Reporter, Target},
};
use waggle_stand_in::{Authority, StandIn, TokenSpec};

const POD: &str = "0d6b3f2a-1c2d-4e5f-8a9b-0c1d2e3f4a5b";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const AGENT: &str = "11111111-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

fn objects() -> [Value; 3] {
    let pod = |namespace: &str, name: &str, uid: &str, account: &str, containers: &[(&str, &str)]| {
        let status = |(name, digit): &(&str, &str)| {
            json!({"name": name, "containerID": format!("containerd://{}", digit.repeat(64)),
                   "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}})
        };
        json!({
            "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": {"app": name}},
            "spec": {"nodeName": "node-a", "serviceAccountName": account,
                     "containers": containers.iter().map(|(name, _)| json!({"name": name})).collect::<Vec<_>>()},
            "status": {"phase": "Running", "containerStatuses": containers.iter().map(status).collect::<Vec<_>>()},
        })
    };
    let size = json!({"cpu": "2", "memory": "1Gi", "pods": "110"});
    [
        json!({"kind": "Node", "metadata": {"name": "node-a", "uid": "node-a-uid"},
               "status": {"capacity": size, "allocatable": size}}),
        pod("shop", "web-0", POD, "default", &[("burner", "a"), ("holder", "b")]),
        pod("waggle-system", "waggle-agent-x", AGENT, "waggle-agent", &[]),
    ]
}

fn since_epoch() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()).unwrap()
}

/// A walk `elapsed` after the first: one container uses 250 m, one holds 64 MiB, the node uses half a core.
fn walk(elapsed: Duration) -> Snapshot {
    // Whole microseconds, so that a quarter of them is exact.
    let nanos = u64::try_from(elapsed.as_micros()).unwrap() * 1000;
    let sample = |id: u64, digit: &str, cpu_ns: u64, mebibytes: u64| Sample {
        cgroup: CgroupId(id),
        identity: Arc::new(Identity { pod: POD.into(), container: ContainerId::from_hex(&digit.repeat(64)) }),
        cpu_ns,
        memory: Some(Memory { usage_pages: mebibytes * 256, inactive_file_pages: 0, swap_pages: None }),
    };
    Snapshot {
        boot: BootTime(1_000_000_000_000 + nanos),
        real: RealTime(since_epoch()),
        node: NodeTotals {
            cpu_ns: 7_000_000_000 + nanos / 2,
            working_set_bytes: 512 << 20,
            swap_bytes: None,
        },
        samples: vec![sample(11, "a", 5_000_000_000 + nanos / 4, 8), sample(12, "b", 3_000_000_000, 64)],
    }
}

async fn kubectl(directory: &Path, kubeconfig: &str, args: &[&str]) -> Output {
    let mut command = Command::new("kubectl");
    command.current_dir(directory).args(["--kubeconfig", kubeconfig, "--cache-dir", "cache"]).args(args);
    command.output().await.unwrap()
}

async fn ok(directory: &Path, args: &[&str]) -> String {
    let output = kubectl(directory, "admin", args).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

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

fn reporter(directory: &Path, ingest: SocketAddr, began: Instant) -> Reporter {
    let clock = move || walk(began.elapsed());
    let config = Config {
        aggregators: vec![Target::Address(ingest)],
        ca_file: directory.join("ca.crt"),
        server_name: "waggle-ingest.waggle-system.svc".try_into().unwrap(),
        token_file: directory.join("token"),
        boot_id: "5b0c7e0e-0000-4000-8000-000000000001".into(),
        collector: "bpf".into(),
        refusals: Vec::new(),
        page_size: 4096,
        clocks: Arc::new(move || (clock().boot, clock().real)),
    };
    Reporter::new(config, Metrics::default())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_shows_what_the_agent_reports() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let stand_in = StandIn::builder().start().await.unwrap();
    let ca = Authority::new("waggle-ca").unwrap();
    let names = ["waggle.waggle-system.svc", "waggle-ingest.waggle-system.svc"];
    let serving = ca.serving(&names).unwrap();
    for object in objects() {
        stand_in.apply(object).unwrap();
    }
    let token = stand_in.issue_token(&TokenSpec {
        namespace: "waggle-system".into(),
        service_account: "waggle-agent".into(),
        pod: Some(("waggle-agent-x".into(), AGENT.into())),
        node: Some(("node-a".into(), "node-a-uid".into())),
        audiences: vec!["waggle.aggregator".into()],
        ttl: Duration::from_hours(1),
    });
    for (name, text) in [
        ("kubeconfig", &*stand_in.aggregator_kubeconfig().unwrap()),
        ("admin", &*stand_in.admin_kubeconfig().unwrap()),
        ("outsider", &*stand_in.kubeconfig("bob", &[]).unwrap()),
        ("tls.crt", &*serving.certificate_pem),
        ("tls.key", &*serving.key_pem),
        ("ca.crt", ca.pem()),
        ("token", &*token.unwrap()),
    ] {
        std::fs::write(path.join(name), text).unwrap();
    }
    let aggregator = Aggregator::launch(path, &FILES).await;
    stand_in.backend("waggle-system", "waggle", aggregator.api);
    for version in ["v1", "v1beta1"] {
        stand_in.register("metrics.k8s.io", version, ("waggle-system", "waggle"), ca.pem()).unwrap();
    }
    // Before any agent: available, and empty rather than an error.
    let names = ["v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"];
    until("availability", async || names.iter().all(|name| stand_in.is_available(name))).await;
    let empty = ok(path, &["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).await;
    assert_eq!(
        empty,
        "{\"kind\":\"NodeMetricsList\",\"apiVersion\":\"metrics.k8s.io/v1beta1\",\"metadata\":{},\"items\":[]}\n"
    );

    let began = Instant::now();
    let reporter = reporter(path, aggregator.ingest, began);
    let publisher = reporter.publisher();
    let stream = tokio::spawn(reporter.run(std::future::pending()));
    let walks = tokio::spawn(async move {
        loop {
            publisher.publish(&walk(began.elapsed()));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
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

    assert_eq!(aggregator.terminate().await.code(), Some(0));
    walks.abort();
    stream.abort();
}
