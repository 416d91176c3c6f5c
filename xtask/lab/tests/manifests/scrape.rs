//! What the programs really export has the types and labels of the table in `docs/operations.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    runtime::Runtime,
    time::sleep,
};
use waggle_agent::{
    collect::{Costs, Fields, Reason, Refusal},
    privilege,
    telemetry::{self, Endpoint, Telemetry},
};
use waggle_lab::{
    control_plane::ControlPlane,
    simulate::{
        Streams,
        kubelet::{self, Kubelets},
    },
};

use crate::{admission::behind, metrics::table};

/// Families whose cause these tests do not bring about: their type is known, no sample shows their labels.
const WITHOUT_SAMPLES: [&str; 20] = [
    "metrics_server_kubelet_request_total",
    "waggle_agent_collector_refusals",
    "waggle_api_connections_closed_total",
    "waggle_api_handshakes_failed_total",
    "waggle_api_responses_cut_total",
    "waggle_api_watches_ended_total",
    "waggle_auth_credentials_refused_total",
    "waggle_ca_errors_total",
    "waggle_ingest_collector_labels_dropped_total",
    "waggle_ingest_collector_refusals",
    "waggle_ingest_connections_closed_total",
    "waggle_ingest_faults_total",
    "waggle_ingest_handshakes_failed_total",
    "waggle_ingest_responses_cut_total",
    "waggle_ingest_samples_dropped_total",
    "waggle_ingest_streams_closed_total",
    "waggle_ingest_streams_refused_total",
    "waggle_tls_certificate_errors_total",
    "waggle_watch_failures_total",
    "waggle_watch_silences_total",
];

/// Type and labels of each family in a text of Prometheus' form or `OpenMetrics`, by the name that is scraped.
fn families(text: &str) -> BTreeMap<String, (String, BTreeSet<String>)> {
    let mut families: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let mut current = (String::new(), String::new());
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            current = (name.to_owned(), kind.to_owned());
        }
        if line.starts_with('#') {
            continue;
        }
        let end = line.find(['{', ' ']).unwrap();
        let (sample, rest) = line.split_at(end);
        let labels = rest.strip_prefix('{').map_or("", |rest| rest.split_once('}').unwrap().0);
        // The older form says that the version is a gauge.
        let info = sample.ends_with("_info");
        let kind = if info { "info" } else { &current.1 };
        let name = if current.1 == "histogram" { &current.0 } else { sample };
        let entry = families.entry(name.to_owned()).or_insert_with(|| (kind.to_owned(), BTreeSet::new()));
        let names =
            labels.split(',').filter_map(|label| label.split_once('=')).map(|(name, _)| name.to_owned());
        entry.1.extend(names.filter(|name| name != "le"));
    }
    families
}

#[test]
fn texts_of_both_forms_are_read() {
    let text = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\n\
                # TYPE b histogram\nb_bucket{z=\"1\",le=\"+Inf\"} 1\nb_sum{z=\"1\"} 1\nb_count{z=\"1\"} 1\n\
                # TYPE c_info gauge\nc_info{v=\"1\"} 1\n# TYPE d counter\nd_total 1\n# EOF\n";
    let read: Vec<String> = families(text)
        .into_iter()
        .map(|(name, (kind, labels))| format!("{name} {kind} {labels:?}"))
        .collect();
    assert_eq!(
        read,
        [
            "a_total counter {\"x\", \"y\"}",
            "b histogram {\"z\"}",
            "c_info info {\"v\"}",
            "d_total counter {}"
        ]
    );
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn what_the_programs_export_is_as_documented() {
    // On a thread that ends: the agent gives up its thread's rights before it listens.
    let agent = thread::spawn(|| Runtime::new().unwrap().block_on(of_the_agent())).join().unwrap();
    behind(async |plane| {
        let mut seen = families(&agent);
        seen.extend(families(&of_the_aggregator(plane).await));
        let table = table();
        for (name, (kind, labels)) in &seen {
            let documented = table.get(name).unwrap_or_else(|| panic!("{name} is not in docs/operations.md"));
            assert_eq!(kind, &documented.kind, "{name}");
            assert_eq!(labels, &documented.labels, "{name}");
        }
        let unseen: Vec<&str> =
            table.keys().map(String::as_str).filter(|name| !seen.contains_key(*name)).collect();
        let unexpected: Vec<&&str> = unseen.iter().filter(|name| !WITHOUT_SAMPLES.contains(name)).collect();
        assert!(unexpected.is_empty(), "documented, but not exported: {unexpected:?}");
        println!("{} families seen, without samples: {unseen:?}", seen.len());
    });
}

/// The agent's own endpoint, with all that an agent counts.
async fn of_the_agent() -> String {
    let telemetry = Telemetry::new(Duration::from_secs(1));
    let refusal = Refusal { reason: Reason::NoBtf, detail: String::new() };
    telemetry.collector("cgroupfs", &[refusal]);
    telemetry.fields(Fields::NONE);
    telemetry.sampled(Instant::now(), Instant::now(), &Costs::default());
    telemetry.report.ended.get_or_create(&[("how", "planned")]).inc();
    let unprivileged = privilege::drop_all().unwrap();
    let endpoint = Endpoint::bind("127.0.0.1:0".parse().unwrap(), unprivileged).await.unwrap();
    let address = endpoint.local_addr().unwrap();
    let serving = tokio::spawn(telemetry::serve(Arc::clone(&telemetry), endpoint));
    let mut tcp = TcpStream::connect(address).await.unwrap();
    tcp.write_all(b"GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tcp.read_to_string(&mut answer).await.unwrap();
    serving.abort();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// An aggregator with a node's stream, asked for everything once.
async fn of_the_aggregator(plane: &ControlPlane) -> String {
    plane.start_aggregator(&["--enable-watch", "--compatibility-metrics"]).await.unwrap();
    plane.wait_available().await.unwrap();
    let streams = Streams::to(plane.ingest(), plane.ingest_ca()).unwrap();
    let options = kubelet::Options { nodes: 1, processors: 2, gibibytes: 4, ..kubelet::Options::default() };
    let kubelets = Kubelets::start(plane.client().await.unwrap(), streams, &options).await.unwrap();
    kubelets.wait_streams(Duration::from_secs(30)).await.unwrap();
    let begun = Instant::now();
    while plane.kubectl(&["get", "nodemetrics", "--no-headers"]).await.is_ok_and(|said| said.is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(30), "no values");
        sleep(Duration::from_millis(200)).await;
    }
    // An ordinary user's token and question, so that reviews are counted.
    let token = plane.token(("default", "default"), None, None, Duration::from_mins(10)).await.unwrap();
    let server = format!("--server=https://{}", plane.aggregator_api());
    let authority = format!("--certificate-authority={}", plane.ingest_ca().display());
    let direct = [&server, &authority, "--tls-server-name=waggle-aggregator.waggle-system.svc"];
    let token = format!("--token={token}");
    let args = [direct.as_slice(), &[&token, "get", "--raw", "/apis/metrics.k8s.io/v1/nodes"]].concat();
    let refused = plane.kubectl_as(Path::new("/dev/null"), &args).await.unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("forbidden"), "{refused:?}");
    let path = "/apis/metrics.k8s.io/v1/nodes?watch=true&timeoutSeconds=2";
    plane.kubectl(&["get", "--raw", path]).await.unwrap();
    let text = plane.kubectl(&[direct.as_slice(), &["get", "--raw", "/metrics"]].concat()).await.unwrap();
    plane.kill_aggregator().unwrap();
    text
}
