//! Watches through `answer`, on paused time: what clients see, in every form.

use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{super::watch, *};

/// Longer than a round of the follower, shorter than any deadline.
const SOON: Duration = Duration::from_secs(5);
const PODS: &str = "/apis/metrics.k8s.io/v1/pods";
const BOOKMARKS: &str = "allowWatchBookmarks=true";

struct World {
    api: Api<Told>,
    source: Source,
    stop: CancellationToken,
}

impl World {
    async fn new() -> Self {
        let (source, stop) = (source(), CancellationToken::new());
        let watches = watch::Watches::new(stop.clone());
        tokio::spawn(watch::follow(watches.clone(), source.clone(), now, stop.clone()));
        // One place in flight: watches must not need it.
        let settings = Settings { now, in_flight: one_direct(), watch: Some(watches), ..Settings::default() };
        let world = Self { api: api_of(source.clone(), Decision::Allow, settings), source, stop };
        world.settle().await;
        world
    }

    async fn settle(&self) {
        tokio::time::sleep(Duration::from_secs(2)).await;
    }

    /// A report of node a in which web-0 uses so much.
    fn report(&self, cpu: u64) {
        let mut view = (*self.source.views.node("a").unwrap()).clone();
        set(&self.source, &mut view, ("shop", "web-0"), 0, &[("web", usage(cpu, 1 << 20))]);
        self.source.views.publish("a".into(), view);
    }

    /// What ingest does after a change of the inventory.
    fn look(&self) {
        let view = (*self.source.views.node("a").unwrap()).clone();
        self.source.views.publish("a".into(), view);
    }

    fn label(&self, app: &str) {
        self.source.inventory.apply_pod(mk_pod("shop", "web-0", "a", &[("app", app)], true));
        self.look();
    }

    fn delete(&self) {
        self.source.inventory.delete_pod("shop", "web-0", "shop-web-0");
        self.look();
    }

    async fn json(&self, path: &str) -> Value {
        let (status, _, body) = ask(&self.api, path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    async fn version(&self) -> String {
        self.json(PODS).await["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
    }

    async fn watch(&self, path: &str, query: &str, accept: &str) -> Events {
        let request = Request::builder().uri(format!("{path}?watch=true&{query}")).header("accept", accept);
        let (head, body) = self.api.answer(request.body(()).unwrap()).await.into_parts();
        assert_eq!(head.status, StatusCode::OK);
        Events {
            kind: head.headers[header::CONTENT_TYPE].to_str().unwrap().to_owned(),
            body,
            read: Vec::new(),
        }
    }
}

struct Events {
    kind: String,
    body: Body,
    read: Vec<u8>,
}

impl Events {
    /// Reads a frame; `false` at the end.
    async fn frame(&mut self) -> bool {
        let Some(frame) = self.body.frame().await else { return false };
        self.read.extend_from_slice(frame.unwrap().data_ref().unwrap());
        true
    }

    /// The next event; `None` if none comes soon, or ever.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            if !timeout(SOON, self.frame()).await.unwrap_or(false) {
                return None;
            }
        }
    }

    /// Type, name and version of all that comes soon.
    async fn told(&mut self) -> Vec<(String, String, String)> {
        let mut told = Vec::new();
        while let Some(event) = self.next().await {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let meta = &event["object"]["metadata"];
            told.push((text(&event["type"]), text(&meta["name"]), text(&meta["resourceVersion"])));
        }
        told
    }

    /// Whether the body ends soon.
    async fn ended(&mut self) -> bool {
        let end = async { while self.frame().await {} };
        timeout(SOON, end).await.is_ok()
    }
}

fn names(told: &[(String, String, String)]) -> Vec<(&str, &str)> {
    told.iter().map(|(kind, name, _)| (kind.as_str(), name.as_str())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_list_and_the_watch_from_its_version_fit_together() {
    let world = World::new().await;
    let list = world.json(PODS).await;
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    let items: Vec<_> = list["items"].as_array().unwrap().iter().map(|pod| &pod["metadata"]).collect();
    assert_eq!(
        items.iter().map(|meta| meta["name"].as_str().unwrap()).collect::<Vec<_>>(),
        ["db-0", "web-0"]
    );
    assert!(items.iter().all(|meta| meta["resourceVersion"].as_str().unwrap() <= version.as_str()));
    let one = world.json("/apis/metrics.k8s.io/v1/namespaces/shop/pods/web-0").await;
    assert_eq!(one["metadata"]["resourceVersion"], items[1]["resourceVersion"]);

    let from = format!("resourceVersion={version}");
    let mut all = world.watch(PODS, &from, "application/json").await;
    let mut selected = world.watch(PODS, &format!("{from}&labelSelector=app%3Dweb"), "*/*").await;
    let mut one = world.watch(PODS, &format!("{from}&fieldSelector=metadata.name%3Ddb-0"), "").await;
    let mut elsewhere = world.watch("/apis/metrics.k8s.io/v1beta1/namespaces/db/pods", &from, "").await;
    let mut nodes = world.watch("/apis/metrics.k8s.io/v1/nodes", "resourceVersion=0", "").await;
    assert_eq!(all.kind, "application/json");
    assert_eq!(names(&nodes.told().await), [("ADDED", "a")]);
    assert_eq!(all.told().await, []);

    world.report(7_000_000);
    let event = all.next().await.unwrap();
    assert_eq!(event["type"], "MODIFIED");
    let object = &event["object"];
    assert_eq!((&object["kind"], &object["apiVersion"]), (&json!("PodMetrics"), &json!("metrics.k8s.io/v1")));
    assert_eq!(object["containers"], json!([{"name": "web", "usage": {"cpu": "7m", "memory": "1Mi"}}]));
    let changed = object["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert!(changed > version, "{changed} {version}");
    assert_eq!(names(&selected.told().await), [("MODIFIED", "web-0")]);
    // The same report once more is no change.
    world.look();
    assert_eq!(all.told().await, []);

    world.label("other");
    assert_eq!(names(&all.told().await), [("MODIFIED", "web-0")]);
    let left = selected.next().await.unwrap();
    assert_eq!(left["type"], "DELETED");
    assert_eq!(left["object"]["metadata"]["labels"], json!({"app": "web"}), "as it was when it was selected");
    world.delete();
    assert_eq!(names(&all.told().await), [("DELETED", "web-0")]);
    assert_eq!(selected.told().await, []);
    assert_eq!((one.told().await, elsewhere.told().await), (vec![], vec![]));

    // Whoever was cut off after the first change sees the rest, and no more.
    let mut resumed = world.watch(PODS, &format!("resourceVersion={changed}"), "").await;
    assert_eq!(names(&resumed.told().await), [("DELETED", "web-0")]);
    let mut resumed =
        world.watch(PODS, &format!("resourceVersion={changed}&labelSelector=app%3Dweb"), "").await;
    assert_eq!(names(&resumed.told().await), [("DELETED", "web-0")]);
}

#[tokio::test(start_paused = true)]
async fn values_that_are_too_old_are_deleted() {
    let world = World::new().await;
    // The follower's clock: `now` never moves, so the age is in the entry.
    let mut all = world.watch(PODS, &format!("resourceVersion={}", world.version().await), "").await;
    let mut view = (*world.source.views.node("a").unwrap()).clone();
    set(&world.source, &mut view, ("shop", "web-0"), 61, &[("web", usage(1, 1))]);
    world.source.views.publish("a".into(), view);
    assert_eq!(names(&all.told().await), [("DELETED", "web-0")]);
}

#[tokio::test(start_paused = true)]
async fn initial_events_end_with_a_bookmark() {
    let world = World::new().await;
    let query = format!("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&{BOOKMARKS}");
    let mut events = world.watch(PODS, &query, "").await;
    let mut told = Vec::new();
    for _ in 0..3 {
        told.push(events.next().await.unwrap());
    }
    assert_eq!(told.iter().map(|event| &event["type"]).collect::<Vec<_>>(), ["ADDED", "ADDED", "BOOKMARK"]);
    let version = world.version().await;
    assert_eq!(
        told[2]["object"],
        json!({"kind": "PodMetrics", "apiVersion": "metrics.k8s.io/v1",
               "metadata": {"resourceVersion": version, "annotations": {"k8s.io/initial-events-end": "true"}}})
    );
    // Later ones have no such mark; each comes after a minute without anything to tell.
    tokio::time::sleep(Duration::from_secs(58)).await;
    let later = events.next().await.unwrap();
    assert_eq!(
        (&later["type"], &later["object"]["metadata"]),
        (&json!("BOOKMARK"), &json!({"resourceVersion": version}))
    );
}

#[tokio::test(start_paused = true)]
async fn versions_that_cannot_be_resumed_from_are_gone() {
    let (world, other) = (World::new().await, World::new().await);
    let nodes = world.json("/apis/metrics.k8s.io/v1/nodes").await;
    let of_nodes = nodes["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    for version in [other.version().await, of_nodes, "5".into()] {
        let mut events = world.watch(PODS, &format!("resourceVersion={version}"), "").await;
        let event = events.next().await.unwrap();
        assert_eq!(event["type"], "ERROR");
        let status = &event["object"];
        assert_eq!(
            (&status["kind"], &status["code"], &status["reason"]),
            (&json!("Status"), &json!(410), &json!("Expired"))
        );
        assert!(
            status["message"]
                .as_str()
                .unwrap()
                .starts_with(&format!("too old resource version: {version} ("))
        );
        assert!(events.ended().await);
    }
}

#[tokio::test(start_paused = true)]
async fn watches_end_in_time_and_with_the_process() {
    let world = World::new().await;
    let version = world.version().await;
    let short = format!("resourceVersion={version}&timeoutSeconds=3&{BOOKMARKS}");
    let mut events = world.watch(PODS, &short, "").await;
    assert_eq!(events.next().await.unwrap()["type"], "BOOKMARK", "where to resume");
    assert!(events.ended().await);
    let mut long = world.watch(PODS, &format!("resourceVersion={version}"), "").await;
    tokio::time::sleep(Duration::from_mins(29)).await;
    assert_eq!(long.told().await, []);
    world.stop.cancel();
    assert!(long.ended().await);
}

#[tokio::test(start_paused = true)]
async fn tables_have_columns_once() {
    let world = World::new().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let (_, _, list) = ask(&world.api, PODS, &[("accept", accept)]).await;
    let list: Value = serde_json::from_str(&list).unwrap();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    assert_eq!(version, world.version().await);
    let mut events = world.watch(PODS, &format!("resourceVersion={version}"), accept).await;
    world.report(7_000_000);
    let first = events.next().await.unwrap()["object"].take();
    assert_eq!(first["columnDefinitions"].as_array().unwrap().len(), 4);
    assert_eq!(first["rows"][0]["cells"], json!(["web-0", "7m", "1Mi", "14.998s"]));
    assert_eq!(
        first["metadata"],
        json!({"resourceVersion": first["rows"][0]["object"]["metadata"]["resourceVersion"]})
    );
    world.report(8_000_000);
    let second = events.next().await.unwrap()["object"].take();
    assert_eq!((&second["kind"], &second["columnDefinitions"]), (&json!("Table"), &Value::Null));
    assert_eq!(second["rows"][0]["cells"][1], "8m");
}

#[derive(Clone, PartialEq, prost::Message)]
struct WatchEvent {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, required, tag = "2")]
    object: RawExtension,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawExtension {
    #[prost(bytes = "vec", tag = "1")]
    raw: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Versioned {
    #[prost(message, required, tag = "1")]
    metadata: VersionedMeta,
}

#[derive(Clone, PartialEq, prost::Message)]
struct VersionedMeta {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "6")]
    version: String,
    #[prost(btree_map = "string, string", tag = "12")]
    annotations: BTreeMap<String, String>,
}

#[tokio::test(start_paused = true)]
async fn protobuf_comes_behind_its_length() {
    let world = World::new().await;
    let query = format!("sendInitialEvents=true&resourceVersionMatch=NotOlderThan&{BOOKMARKS}");
    let accept = "application/vnd.kubernetes.protobuf,application/json";
    let mut events = world.watch("/apis/metrics.k8s.io/v1beta1/pods", &query, accept).await;
    assert_eq!(events.kind, "application/vnd.kubernetes.protobuf;stream=watch");
    let mut told = Vec::new();
    while told.len() < 3 {
        assert!(events.frame().await);
        while let Some(length) =
            events.read.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize)
        {
            if events.read.len() < 4 + length {
                break;
            }
            let message: Vec<u8> = events.read.drain(..4 + length).skip(4).collect();
            let event = WatchEvent::decode(&*message).unwrap();
            let envelope = event.object.raw.strip_prefix(b"k8s\0").unwrap();
            let envelope = messages::Unknown::decode(envelope).unwrap();
            let about = envelope.type_meta.unwrap();
            assert_eq!((&*about.api_version, &*about.kind), ("metrics.k8s.io/v1beta1", "PodMetrics"));
            told.push((event.kind, Versioned::decode(&*envelope.raw.unwrap()).unwrap().metadata));
        }
    }
    assert_eq!(told.iter().map(|(kind, _)| &**kind).collect::<Vec<_>>(), ["ADDED", "ADDED", "BOOKMARK"]);
    assert!(told.windows(2).all(|pair| pair[0].1.version <= pair[1].1.version));
    let (_, end) = &told[2];
    assert_eq!(end.version, world.version().await);
    assert_eq!(
        end.annotations.iter().collect::<Vec<_>>(),
        [(&"k8s.io/initial-events-end".to_owned(), &"true".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_told_the_newest_state_and_delays_nobody() {
    let world = World::new().await;
    let version = world.version().await;
    let mut slow = world.watch(PODS, &format!("resourceVersion={version}"), "").await;
    let mut quick = world.watch(PODS, &format!("resourceVersion={version}"), "").await;
    for report in 1..=4 {
        world.report(report * 1_000_000);
        assert_eq!(names(&quick.told().await), [("MODIFIED", "web-0")]);
    }
    world.delete();
    world.settle().await;
    // What was on its way when it stopped reading, and then what is true now.
    let told = slow.told().await;
    assert_eq!(names(&told), [("MODIFIED", "web-0"), ("MODIFIED", "web-0"), ("DELETED", "web-0")]);
    assert!(told.windows(2).all(|pair| pair[0].2 < pair[1].2), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_is_let_go() {
    let world = World::new().await;
    let mut stuck = world.watch(PODS, &format!("resourceVersion={}", world.version().await), "").await;
    for report in 1..=4 {
        world.report(report * 1_000_000);
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    let watches = world.api.settings.watch.as_ref().unwrap();
    assert_eq!(watches.metrics().open.get(), 0);
    assert!(stuck.ended().await);
}

#[tokio::test(start_paused = true)]
async fn watches_are_limited_apart_from_requests_in_flight() {
    let world = World::new().await;
    let from = format!("resourceVersion={}", world.version().await);
    let mut open = Vec::new();
    for _ in 0..256 {
        open.push(world.watch(PODS, &from, "").await);
    }
    // The one place in flight is free.
    world.version().await;
    let (status, headers, _) = ask(&world.api, &format!("{PODS}?watch=true&{from}"), &[]).await;
    assert_eq!(
        (status, &headers[header::RETRY_AFTER]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    open.pop();
    tokio::time::sleep(Duration::from_millis(1)).await;
    world.watch(PODS, &from, "").await;
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_and_what_discovery_says() {
    let world = World::new().await;
    let path = |query: &str| format!("{PODS}?watch=true&{query}");
    for (query, accept, expected) in [
        (
            "resourceVersion=zzz",
            "*/*",
            (422, "pods.metrics.k8s.io \"\" is invalid: resourceVersion: Invalid value: \"zzz\""),
        ),
        (
            "sendInitialEvents=true",
            "*/*",
            (422, "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch"),
        ),
        ("labelSelector=a!%3D%3D%3Db", "*/*", (400, "unable to parse requirement")),
        ("timeoutSeconds=x", "*/*", (400, "strconv.ParseInt: parsing \"x\"")),
        (
            "",
            "application/yaml",
            (406, "only the following media types are accepted: application/json;stream=watch, "),
        ),
    ] {
        let (code, message) = failure(&ask(&world.api, &path(query), &[("accept", accept)]).await);
        assert!(code == expected.0 && message.starts_with(expected.1), "{query}: {code} {message}");
    }
    let verbs = json!(["get", "list", "watch"]);
    let resources = world.json("/apis/metrics.k8s.io/v1").await;
    assert!(resources["resources"].as_array().unwrap().iter().all(|resource| resource["verbs"] == verbs));

    // Where it is off, nothing of all this is there.
    let off = api();
    let refused = failure(&ask(&off, &path(""), &[]).await);
    assert_eq!(
        refused,
        (405, "watch is not supported on resources of kind \"pods.metrics.k8s.io\"".to_owned())
    );
    let (_, _, list) = ask(&off, PODS, &[]).await;
    assert!(!list.contains("resourceVersion"), "{list}");
    let (_, _, resources) = ask(&off, "/apis/metrics.k8s.io/v1", &[]).await;
    assert!(!resources.contains("watch"), "{resources}");
}
