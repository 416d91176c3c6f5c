//! Watches over the whole way: the agent's own reporter → the real aggregator → a front proxy → kube's watcher and kubectl.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::{
    collections::BTreeSet,
    pin::pin,
    process::Stdio,
    time::{Duration, Instant},
};

use common::reporting::{World, ok, swapping_walk, walk};
use futures_util::{Stream, StreamExt};
use kube::{
    Api,
    api::{ApiResource, DynamicObject},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};
use waggle_aggregator::client::{self, Patience};
use waggle_stand_in::Kind;

const LATE: Duration = Duration::from_secs(20);

async fn pods(world: &World, version: &str) -> Api<DynamicObject> {
    let patience = Patience { list: LATE, watch: LATE, ..Patience::default() };
    let clients = client::connect(Some(&world.path().join("admin")), patience).await.unwrap();
    let resource = ApiResource {
        group: "metrics.k8s.io".into(),
        version: version.into(),
        api_version: format!("metrics.k8s.io/{version}"),
        kind: "PodMetrics".into(),
        plural: "pods".into(),
    };
    Api::all_with(clients.watches, &resource)
}

/// The next event as kube names it, with the pod's name and time; an error by its code.
async fn next(
    events: &mut (impl Stream<Item = watcher::Result<Event<DynamicObject>>> + Unpin),
) -> (&'static str, String, String) {
    let event = tokio::time::timeout(LATE, events.next()).await.unwrap().unwrap();
    let told = |kind, object: DynamicObject| {
        (kind, object.metadata.name.unwrap(), object.data["timestamp"].as_str().unwrap().to_owned())
    };
    match event {
        Ok(Event::Init) => ("init", String::new(), String::new()),
        Ok(Event::InitApply(object)) => told("listed", object),
        Ok(Event::InitDone) => ("done", String::new(), String::new()),
        Ok(Event::Apply(object)) => told("applied", object),
        Ok(Event::Delete(object)) => told("deleted", object),
        Err(watcher::Error::WatchError(status)) => ("error", status.code.to_string(), status.reason),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubes_watcher_follows_what_agents_report() {
    let mut world = World::start(&["--enable-watch"]).await;
    let reports = world.report(walk);
    let list = "/apis/metrics.k8s.io/v1/pods";
    common::until("values", async || {
        let list: Value = serde_json::from_str(&ok(world.path(), &["get", "--raw", list]).await).unwrap();
        list["items"].as_array().unwrap().len() == 1
    })
    .await;

    let listing = pin!(watcher(pods(&world, "v1").await, watcher::Config::default()));
    let streaming = watcher::Config::default().streaming_lists().labels("app=web-0");
    let streaming = pin!(watcher(pods(&world, "v1beta1").await, streaming));
    let (mut listing, mut streaming) = (listing, streaming);
    for events in [&mut listing as &mut (dyn Stream<Item = _> + Unpin + Send), &mut streaming] {
        let mut events = events;
        assert_eq!(next(&mut events).await.0, "init");
        assert_eq!(next(&mut events).await.1, "web-0");
        assert_eq!(next(&mut events).await.0, "done");
        // Each report is told once: times are different and grow.
        let mut times = Vec::new();
        for _ in 0..3 {
            let (kind, name, time) = next(&mut events).await;
            assert_eq!((kind, &*name), ("applied", "web-0"));
            times.push(time);
        }
        assert!(times.is_sorted(), "{times:?}");
        assert!(times.iter().collect::<BTreeSet<_>>().len() >= 2, "{times:?}");
    }

    // Other labels, then no pod any more.
    let mut pod = world.stand_in.get(Kind::Pod, "shop", "web-0").unwrap();
    pod["metadata"]["labels"] = json!({"app": "other"});
    world.stand_in.apply(pod).unwrap();
    let (left, _, _) = skip(&mut streaming, "applied").await;
    assert_eq!(left, "deleted");
    world.stand_in.delete(Kind::Pod, "shop", "web-0");
    let (left, _, _) = skip(&mut listing, "applied").await;
    assert_eq!(left, "deleted");

    // Versions are per process: another replica answers 410, and the client lists again.
    world = world.restart(&["--enable-watch"]).await;
    let (kind, code, reason) = skip(&mut listing, "applied").await;
    assert_eq!((kind, &*code, &*reason), ("error", "410", "Expired"));
    assert_eq!(next(&mut listing).await.0, "init");
    assert_eq!(next(&mut listing).await.0, "done");
    drop(reports);
    assert_eq!(world.aggregator.terminate().await.code(), Some(0), "open watches do not delay the end");
}

/// The next event that is not of that kind.
async fn skip(
    events: &mut (impl Stream<Item = watcher::Result<Event<DynamicObject>>> + Unpin),
    kind: &str,
) -> (&'static str, String, String) {
    loop {
        let told = next(events).await;
        if told.0 != kind {
            return told;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_watches_and_shows_swap() {
    let world = World::start(&["--enable-watch", "--compatibility-metrics"]).await;
    let reports = world.report(swapping_walk);
    let list = "/apis/metrics.k8s.io/v1/pods";
    let read = async |path: &str| -> Value {
        serde_json::from_str(&ok(world.path(), &["get", "--raw", path]).await).unwrap()
    };
    common::until("values", async || read(list).await["items"].as_array().unwrap().len() == 1).await;

    // What agents of nodes with swap report is served: an extra key, and a column.
    let pod = read(list).await["items"][0].take();
    let swap: Vec<_> =
        pod["containers"].as_array().unwrap().iter().map(|one| &one["usage"]["swap"]).collect();
    assert_eq!(swap, ["0", "3Mi"]);
    assert_eq!(read("/apis/metrics.k8s.io/v1/nodes/node-a").await["usage"]["swap"], "12Mi");
    let verbs = read("/apis/metrics.k8s.io/v1").await["resources"][1]["verbs"].take();
    assert_eq!(verbs, json!(["get", "list", "watch"]));

    let mut watching = Command::new("kubectl")
        .current_dir(world.path())
        .args(["--kubeconfig", "admin", "--cache-dir", "cache", "get", "podmetrics", "-A", "-w"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut rows = Vec::new();
    let began = Instant::now();
    while rows.len() < 5 {
        let line = tokio::time::timeout(LATE, lines.next_line()).await.unwrap().unwrap();
        rows.push(line.unwrap().split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>());
    }
    assert!(began.elapsed() > Duration::from_secs(1), "one event a report, no more");
    assert_eq!(rows[0], ["NAMESPACE", "NAME", "CPU", "MEMORY", "SWAP", "WINDOW"]);
    assert!(rows[1..].iter().all(|row| row[..5] == ["shop", "web-0", "250m", "72Mi", "3Mi"]), "{rows:?}");
    watching.kill().await.unwrap();

    // Its client is gone: so is the watch.
    common::until("no watch", async || {
        world.aggregator.metric(&world.stand_in, "waggle_api_watches ").await == 0
    })
    .await;
    let proxy = world.aggregator.caller(Some(world.stand_in.front_proxy_client()), common::Protocol::Http2);
    let metrics = proxy.get("/metrics", &common::MASTER).await;
    conventions(&metrics.body);
    assert_eq!(metrics.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let ours = |line: &&str| line.starts_with("# TYPE metrics_server_");
    assert_eq!(metrics.body.lines().filter(ours).count(), 6);
    for line in [
        "metrics_server_storage_points{type=\"container\"} 2",
        "metrics_server_storage_points{type=\"node\"} 1",
        "metrics_server_kubelet_last_request_time_seconds{node=\"node-a\"} ",
        "metrics_server_kubelet_request_duration_seconds_count{node=\"node-a\"} ",
        "metrics_server_kubelet_request_total{success=\"true\"} ",
        "waggle_api_watches_ended_total{reason=\"left\"} 1",
    ] {
        assert!(metrics.body.contains(line), "{line}\n{}", metrics.body);
    }
    drop(reports);
}

/// Names, help, types and units as Prometheus has them (prometheus.io, "Metric and label naming").
fn conventions(text: &str) {
    let mut families = 0;
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            assert!(!line.starts_with("# TYPE "), "a family without help: {line}");
            continue;
        };
        families += 1;
        let kind = lines.next().unwrap().strip_prefix(&format!("# TYPE {name} ")).unwrap();
        assert!(name.starts_with("waggle_") || name.starts_with("metrics_server_"), "{name}");
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{name}"
        );
        assert!(help.len() > 5, "{name}: {help}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} {kind}");
        for unit in ["_ms", "_millis", "_milliseconds", "_ns", "_us", "_kb", "_mb", "_percent"] {
            assert!(!name.contains(unit), "{name} is not in base units");
        }
        if kind == "histogram" {
            assert!(name.ends_with("_seconds") || name.ends_with("_bytes"), "{name} has no unit");
        }
    }
    assert!(families > 20, "{families}");
}
