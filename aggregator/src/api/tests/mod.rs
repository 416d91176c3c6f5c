//! The router through `answer`, with a gate that is told what to say.

mod messages;
mod port;
mod protobuf;
mod representations;
mod watch;

use std::{collections::BTreeMap, sync::OnceLock};

use http::{Request, StatusCode, header};
use http_body_util::BodyExt as _;

use super::*;
use crate::{
    health::Check,
    inventory::{Container, ContainerNames, Indexed, Labels, Node, Pod},
    units::{Bytes, NanoCores},
    view::{NodeEntry, NodeView, Usage},
};

/// Header `x-user` is the user, its groups follow after colons; `bad` cannot be authenticated.
struct Told(Decision);

impl Gate for Told {
    async fn authenticate(&self, _: &PeerCertificates, headers: &HeaderMap) -> Result<User, Unauthorized> {
        let mut parts = headers.get("x-user").map_or("bob", |user| user.to_str().unwrap()).split('/');
        match parts.next().unwrap() {
            "bad" => Err(Unauthorized),
            "slow" => std::future::pending().await,
            name => {
                Ok(User { name: name.into(), groups: parts.map(Into::into).collect(), ..User::default() })
            }
        }
    }

    async fn authorize(&self, _: &User, _: &Attributes, _: &Selectors) -> Decision {
        self.0.clone()
    }

    fn strip(&self, headers: &mut HeaderMap) {
        headers.remove("x-user");
    }
}

struct Healthy;

impl Probe for Healthy {
    fn check(&self, _: Check) -> Result<(), String> {
        Ok(())
    }
}

/// 2026-05-04T10:00:07Z, and an instant that stays.
fn now() -> Now {
    static INSTANT: OnceLock<Instant> = OnceLock::new();
    let instant = *INSTANT.get_or_init(|| Instant::now() + Duration::from_hours(1));
    Now { instant, real: RealTime(1_777_888_807_300_000_000) }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::of(pairs.iter().copied())
}

fn mk_node(name: &str) -> Node {
    Node {
        name: name.into(),
        uid: format!("uid-{name}").into(),
        labels: labels(&[("zone", "a")]),
        cpu_capacity: NanoCores(4_000_000_000),
        memory_capacity: Bytes(1 << 33),
        pod_capacity: 110,
    }
}

fn mk_pod(namespace: &str, name: &str, node: &str, pod_labels: &[(&str, &str)], running: bool) -> Pod {
    Pod {
        namespace: namespace.into(),
        name: name.into(),
        uid: format!("{namespace}-{name}").into(),
        static_uid: None,
        labels: labels(pod_labels),
        node: node.into(),
        service_account: "default".into(),
        running,
        containers: vec![Container { name: "web".into(), id: None, running }],
        indexed: Indexed::default(),
    }
}

fn usage(cpu: u64, memory: u64) -> Usage {
    Usage { cpu: NanoCores(cpu), memory: Bytes(memory), swap: Some(Bytes(4096)) }
}

fn measured(age: Duration) -> Measured {
    Measured {
        timestamp: RealTime(1_777_888_801_900_000_000),
        window: Duration::from_millis(14_998),
        seen: now().instant.checked_sub(age).unwrap(),
    }
}

/// Sets the entry of a pod that the inventory has, so many seconds old.
fn set(
    source: &Source,
    view: &mut NodeView,
    (namespace, name): (&str, &str),
    age: u64,
    containers: &[(&str, Usage)],
) {
    let pod = source.inventory.pod(namespace, name).unwrap();
    let (names, usages): (Vec<_>, Vec<_>) = containers.iter().copied().unzip();
    view.pods.set(&pod, measured(Duration::from_secs(age)), &ContainerNames::of(names), &usages);
}

/// Nodes a (values), b (too old), c (none); pods of a: web-0 (two containers), db-0, stale (too old), new (no
/// values), done (not running).
fn source() -> Source {
    let source =
        Source { inventory: Inventory::default(), views: Views::default(), max_age: Duration::from_mins(1) };
    for name in ["c", "a", "b"] {
        source.inventory.apply_node(mk_node(name));
    }
    for pod in [
        mk_pod("shop", "web-0", "a", &[("app", "web")], true),
        mk_pod("db", "db-0", "a", &[], true),
        mk_pod("shop", "stale", "a", &[], true),
        mk_pod("shop", "new", "a", &[], true),
        mk_pod("shop", "done", "a", &[], false),
    ] {
        source.inventory.apply_pod(pod);
    }
    let node = |age| {
        Some(NodeEntry { measured: measured(Duration::from_secs(age)), usage: usage(250_000_000, 1 << 30) })
    };
    let web = [("web", usage(1_234_624_492, 3_145_732 * 1024)), ("sidecar", usage(0, 1000))];
    let mut view = NodeView { node: node(3), ..NodeView::default() };
    set(&source, &mut view, ("shop", "web-0"), 60, &web);
    set(&source, &mut view, ("db", "db-0"), 0, &[("db", usage(1_500_000, 52_428_800))]);
    set(&source, &mut view, ("shop", "stale"), 61, &web);
    source.views.publish("a".into(), view);
    source.views.publish("b".into(), NodeView { node: node(61), ..NodeView::default() });
    source
}

fn api_with(decision: Decision, settings: Settings) -> Api<Told> {
    api_of(source(), decision, settings)
}

fn api_of(source: Source, decision: Decision, settings: Settings) -> Api<Told> {
    let registry = Arc::new(RwLock::new(Registry::default()));
    Api::new(Told(decision), source, Arc::new(Healthy), registry, 10250, settings)
}

fn api() -> Api<Told> {
    api_with(Decision::Allow, Settings { now, ..Settings::default() })
}

type Answer = (StatusCode, HeaderMap, String);

async fn ask(api: &Api<Told>, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    send(api, request.body(()).unwrap()).await
}

async fn send(api: &Api<Told>, request: Request<()>) -> Answer {
    let (head, body) = api.answer(request).await.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

/// `code message` of a Status.
fn failure(answer: &Answer) -> (u16, String) {
    let status: serde_json::Value = serde_json::from_str(&answer.2).unwrap();
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["code"], answer.0.as_u16());
    (answer.0.as_u16(), status["message"].as_str().unwrap().to_owned())
}

const WEB: &str = concat!(
    r#""metadata":{"name":"web-0","namespace":"shop","creationTimestamp":"2026-05-04T10:00:07Z","labels":{"app":"web"}},"#,
    r#""timestamp":"2026-05-04T10:00:01Z","window":"14.998s","containers":["#,
    r#"{"name":"web","usage":{"cpu":"1234624492n","memory":"3145732Ki"}},"#,
    r#"{"name":"sidecar","usage":{"cpu":"0","memory":"1k"}}]}"#
);
const DB: &str = concat!(
    r#""metadata":{"name":"db-0","namespace":"db","creationTimestamp":"2026-05-04T10:00:07Z"},"#,
    r#""timestamp":"2026-05-04T10:00:01Z","window":"14.998s","containers":["#,
    r#"{"name":"db","usage":{"cpu":"1500u","memory":"50Mi"}}]}"#
);
const NODE: &str = concat!(
    r#""metadata":{"name":"a","creationTimestamp":"2026-05-04T10:00:07Z","labels":{"zone":"a"}},"#,
    r#""timestamp":"2026-05-04T10:00:01Z","window":"14.998s","usage":{"cpu":"250m","memory":"1Gi"}}"#
);

#[tokio::test]
async fn objects_and_lists_are_these_bytes_in_both_versions() {
    let api = api();
    for version in ["v1", "v1beta1"] {
        let list = |kind: &str, items: &str| {
            format!(
                "{{\"kind\":\"{kind}\",\"apiVersion\":\"metrics.k8s.io/{version}\",\"metadata\":{{}},\"items\":[{items}]}}\n"
            )
        };
        let one = |kind: &str, rest: &str| {
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"metrics.k8s.io/{version}\",{rest}\n")
        };
        for (path, expected) in [
            ("pods", list("PodMetricsList", &format!("{{{DB},{{{WEB}"))),
            ("namespaces/shop/pods", list("PodMetricsList", &format!("{{{WEB}"))),
            ("namespaces/nope/pods", list("PodMetricsList", "")),
            ("pods?labelSelector=app%3Dweb", list("PodMetricsList", &format!("{{{WEB}"))),
            ("pods?labelSelector=app!%3Dweb&limit=1", list("PodMetricsList", &format!("{{{DB}"))),
            ("pods?fieldSelector=metadata.namespace%3Ddb", list("PodMetricsList", &format!("{{{DB}"))),
            ("nodes", list("NodeMetricsList", &format!("{{{NODE}"))),
            ("nodes?labelSelector=zone+in+(b)", list("NodeMetricsList", "")),
            ("nodes?fieldSelector=metadata.name%3Da", list("NodeMetricsList", &format!("{{{NODE}"))),
            ("nodes/a", one("NodeMetrics", NODE)),
            ("namespaces/shop/pods/web-0", one("PodMetrics", WEB)),
        ] {
            let (status, headers, body) =
                ask(&api, &format!("/apis/metrics.k8s.io/{version}/{path}"), &[]).await;
            assert_eq!((status, body), (StatusCode::OK, expected), "{path}");
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            assert_eq!(headers[header::CACHE_CONTROL], "no-cache, private");
            assert_eq!(headers["audit-id"].len(), 36);
        }
    }
}

#[tokio::test]
async fn swap_is_served_only_where_it_was_switched_on() {
    let api = api_with(Decision::Allow, Settings { now, swap: true, ..Settings::default() });
    let (_, _, body) = ask(&api, "/apis/metrics.k8s.io/v1/nodes/a", &[]).await;
    assert!(body.contains(r#""usage":{"cpu":"250m","memory":"1Gi","swap":"4Ki"}"#), "{body}");
}

#[tokio::test]
async fn a_table_has_a_column_for_swap_where_one_of_its_objects_has_swap() {
    let source = source();
    let without = |usage: Usage| Usage { swap: None, ..usage };
    let mut view = (*source.views.node("a").unwrap()).clone();
    set(&source, &mut view, ("db", "db-0"), 0, &[("db", without(usage(1_500_000, 52_428_800)))]);
    source.views.publish("a".into(), view);
    let api = api_of(source, Decision::Allow, Settings { now, swap: true, ..Settings::default() });
    let table = async |path: &str| -> serde_json::Value {
        let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        serde_json::from_str(&ask(&api, &format!("/apis/metrics.k8s.io/v1/{path}"), &accept).await.2).unwrap()
    };
    let columns = |table: &serde_json::Value| -> Vec<String> {
        let columns = table["columnDefinitions"].as_array().unwrap().iter();
        columns.map(|column| column["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = table("pods").await;
    assert_eq!(columns(&all), ["Name", "cpu", "memory", "swap", "Window"]);
    assert_eq!(all["rows"][0]["cells"], serde_json::json!(["db-0", "1500u", "50Mi", "0", "14.998s"]));
    assert_eq!(all["rows"][1]["cells"][3], "8Ki", "the sum over its containers");
    for path in ["namespaces/db/pods", "namespaces/db/pods/db-0"] {
        assert_eq!(columns(&table(path).await), ["Name", "cpu", "memory", "Window"], "{path}");
    }
    let node = table("nodes/a").await;
    assert_eq!((columns(&node).len(), &node["rows"][0]["cells"][3]), (5, &serde_json::json!("4Ki")));
}

#[tokio::test]
async fn tables_are_these_bytes() {
    let api = api();
    let columns = concat!(
        r#""columnDefinitions":[{"name":"Name","type":"string","format":"name","description":"Name of the resource","priority":0},"#,
        r#"{"name":"cpu","type":"string","format":"quantity","description":"","priority":0},"#,
        r#"{"name":"memory","type":"string","format":"quantity","description":"","priority":0},"#,
        r#"{"name":"Window","type":"string","format":"duration","description":"","priority":0}]"#
    );
    let metadata = r#""metadata":{"name":"web-0","namespace":"shop","creationTimestamp":"2026-05-04T10:00:07Z","labels":{"app":"web"}}"#;
    for version in ["v1", "v1beta1"] {
        let table = |rest: &str| {
            format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{{}},{rest}}}\n"
            )
        };
        let row = |object: &str| {
            // The pod's cells are the sums over its containers.
            table(&format!(
                r#"{columns},"rows":[{{"cells":["web-0","1234624492n","3221230568","14.998s"],"object":{object}}}]"#
            ))
        };
        let partial =
            format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}",{metadata}}}"#);
        let full = format!(r#"{{"kind":"PodMetrics","apiVersion":"metrics.k8s.io/v1beta1",{WEB}"#);
        for (path, expected) in [
            ("namespaces/shop/pods", row(&partial)),
            ("namespaces/shop/pods/web-0", row(&partial)),
            ("namespaces/shop/pods?includeObject=Metadata", row(&partial)),
            ("namespaces/shop/pods?includeObject=None", row("null")),
            ("namespaces/shop/pods?includeObject=Object", row(&full)),
            ("namespaces/nope/pods", table(r#""columnDefinitions":null,"rows":null"#)),
        ] {
            let accept = format!("application/json;as=Table;v={version};g=meta.k8s.io");
            let headers = [("accept", accept.as_str())];
            let (status, _, body) =
                ask(&api, &format!("/apis/metrics.k8s.io/v1beta1/{path}"), &headers).await;
            assert_eq!((status, body), (StatusCode::OK, expected), "{path}");
        }
    }
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let bad = ask(&api, "/apis/metrics.k8s.io/v1/pods?includeObject=Bad", &headers).await;
    let text = "Unable to convert to Table as requested: includeObject: Invalid value: \"Bad\": must be 'Metadata', \
                'Object', 'None', or empty";
    assert_eq!(failure(&bad), (400, text.to_owned()));
}

#[tokio::test]
async fn metadata_alone_can_be_asked_for() {
    let api = api();
    let metadata = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"db-0","namespace":"db","creationTimestamp":"2026-05-04T10:00:07Z"}}"#;
    let list = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let (_, _, body) = ask(&api, "/apis/metrics.k8s.io/v1/namespaces/db/pods", &list).await;
    let head = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":["#;
    assert_eq!(body, format!("{head}{metadata}]}}\n"));
    let one = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let (_, _, body) = ask(&api, "/apis/metrics.k8s.io/v1/namespaces/db/pods/db-0", &one).await;
    assert_eq!(body, format!("{metadata}\n"));
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let api = api();
    let base = "/apis/metrics.k8s.io/v1beta1";
    for (path, message, details) in [
        (
            "nodes/b",
            "nodemetrics.metrics.k8s.io \"b\" not found",
            r#""details":{"name":"b","group":"metrics.k8s.io","kind":"nodemetrics"},"#,
        ),
        ("nodes/nope", "node \"nope\" not found", r#""details":{"name":"nope","kind":"node"},"#),
        (
            "namespaces/shop/pods/new",
            "podmetrics.metrics.k8s.io \"shop/new\" not found",
            r#""details":{"name":"shop/new","group":"metrics.k8s.io","kind":"podmetrics"},"#,
        ),
        (
            "namespaces/shop/pods/nope",
            "pods \"nope\" not found",
            r#""details":{"name":"nope","kind":"pods"},"#,
        ),
        (
            "namespaces/shop/pods/done",
            "pods \"done\" not found",
            r#""details":{"name":"done","kind":"pods"},"#,
        ),
        ("pods/web-0", "the server could not find the requested resource", r#""details":{},"#),
        ("NODES", "the server could not find the requested resource", r#""details":{},"#),
        ("watch/nodes", "the server could not find the requested resource", r#""details":{},"#),
        ("nodes/a/status", "the server could not find the requested resource", r#""details":{},"#),
        ("namespaces/shop/nodes", "the server could not find the requested resource", r#""details":{},"#),
        ("nodes/", "the server could not find the requested resource", r#""details":{},"#),
        ("../v1/nodes", "the server could not find the requested resource", r#""details":{},"#),
        ("%2e%2e/v1/nodes", "the server could not find the requested resource", r#""details":{},"#),
        ("/nodes", "the server could not find the requested resource", r#""details":{},"#),
        ("nodes%2fa", "the server could not find the requested resource", r#""details":{},"#),
        ("nodes/%zz", "the server could not find the requested resource", r#""details":{},"#),
    ] {
        let (status, headers, body) = ask(&api, &format!("{base}/{path}"), &[]).await;
        let expected = format!(
            "{{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{{}},\"status\":\"Failure\",\"message\":{},\
             \"reason\":\"NotFound\",{details}\"code\":404}}\n",
            serde_json::to_string(message).unwrap()
        );
        assert_eq!((status, body), (StatusCode::NOT_FOUND, expected), "{path}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    }
    assert_eq!(ask(&api, "/apis/metrics.k8s.io/v2/nodes", &[]).await.0, StatusCode::NOT_FOUND);
    assert_eq!(ask(&api, "/apis/apps/v1/deployments", &[]).await.0, StatusCode::NOT_FOUND);
    for (path, code) in
        [("/", 200), ("/api", 404), ("/openapi", 404), ("/openapi/v3/apis", 404), ("/nope/x", 404)]
    {
        let (status, _, body) = ask(&api, path, &[]).await;
        let paths: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, code, "{path}");
        assert!(paths["paths"].as_array().unwrap().iter().any(|path| path == "/apis/metrics.k8s.io/v1beta1"));
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let api = api();
    for method in ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] {
        for path in [
            "/apis/metrics.k8s.io/v1/nodes",
            "/apis/metrics.k8s.io/v1/namespaces/a/pods/b",
            "/apis",
            "/readyz",
            "/openapi/v2",
            "/",
        ] {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            let answer = send(&api, request).await;
            if method == "HEAD" {
                assert_eq!((answer.0, &*answer.2), (StatusCode::METHOD_NOT_ALLOWED, ""), "{path}");
                continue;
            }
            let expected =
                (405, "the server does not allow this method on the requested resource".to_owned());
            assert_eq!(failure(&answer), expected, "{method} {path}");
        }
    }
    let watch = ask(&api, "/apis/metrics.k8s.io/v1/nodes?watch=true", &[]).await;
    assert_eq!(
        failure(&watch),
        (405, "watch is not supported on resources of kind \"nodes.metrics.k8s.io\"".into())
    );
    assert!(watch.2.contains(r#""details":{"group":"metrics.k8s.io","kind":"nodes"}"#), "{}", watch.2);
}

#[tokio::test]
async fn types_that_are_not_written_are_refused() {
    let api = api();
    let (nodes, node) = ("/apis/metrics.k8s.io/v1/nodes", "/apis/metrics.k8s.io/v1/nodes/a");
    let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let streams = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
    let type_text = format!("406: Not Acceptable\n\nAvailable representations: {types}");
    let list_text = format!("{type_text}, {streams}");
    let conversion_text = format!("only the following media types are accepted: {types}");
    for (path, accept, expected) in [
        (nodes, "application/cbor", &list_text),
        (node, "application/cbor", &type_text),
        ("/apis", "application/cbor", &type_text),
        ("/apis/metrics.k8s.io/v1", "application/cbor", &type_text),
        (nodes, "application/json;as=Nope;v=v1;g=meta.k8s.io", &conversion_text),
        (nodes, "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", &conversion_text),
        ("/apis/metrics.k8s.io/v1", "application/json;as=Table;v=v1;g=meta.k8s.io", &conversion_text),
    ] {
        let answer = ask(&api, path, &[("accept", accept)]).await;
        assert_eq!(failure(&answer), (406, expected.clone()), "{path}");
        assert_eq!(answer.1[header::CONTENT_TYPE], "application/json");
        assert!(answer.2.starts_with("{\n  \"kind\": \"Status\",\n"), "{}", answer.2);
        assert_eq!(answer.2.contains("\"details\": {}"), expected.starts_with("406"));
    }
}

#[tokio::test]
async fn discovery_is_cached_by_its_etag() {
    let api = api();
    let v2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let (status, headers, body) = ask(&api, "/apis", &[("accept", v2)]).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers[header::CONTENT_TYPE], v2);
    assert_eq!(headers[header::VARY], "Accept");
    assert_eq!(headers[header::CACHE_CONTROL], "public");
    assert!(body.contains(r#""freshness":"Current""#));
    let etag = headers[header::ETAG].to_str().unwrap();

    let (status, headers, body) = ask(&api, "/apis", &[("accept", v2), ("if-none-match", etag)]).await;
    assert_eq!((status, &*body), (StatusCode::NOT_MODIFIED, ""));
    assert_eq!(headers[header::ETAG], etag);
    assert_eq!(ask(&api, "/apis", &[("accept", v2), ("if-none-match", "\"x\"")]).await.0, StatusCode::OK);

    let (_, headers, _) = ask(&api, "/apis", &[("accept", &format!("{v2};profile=nopeer"))]).await;
    assert_eq!(headers[header::CONTENT_TYPE], v2);
    let beta = v2.replace("v=v2", "v=v2beta1");
    let refused = ask(&api, "/apis", &[("accept", &beta)]).await;
    assert_eq!(failure(&refused).0, 406);
    for path in [
        "/apis",
        "/apis/",
        "/apis/metrics.k8s.io",
        "/apis/metrics.k8s.io/v1",
        "/apis/metrics.k8s.io/v1beta1/",
    ] {
        assert_eq!(ask(&api, path, &[]).await.0, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn who_may_not_is_told_so() {
    let allowed = api();
    let (status, headers, body) = ask(&allowed, "/livez", &[("x-user", "bad")]).await;
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        body,
        "{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\",\"message\":\"Unauthorized\",\
         \"reason\":\"Unauthorized\",\"code\":401}\n"
    );
    assert!(!headers.contains_key(header::X_CONTENT_TYPE_OPTIONS));

    let settings = || Settings { now, ..Settings::default() };
    let denied = api_with(Decision::Deny { reason: "no rule".into() }, settings());
    let group = "in API group \"metrics.k8s.io\"";
    for (path, message, details) in [
        (
            "/apis/metrics.k8s.io/v1/nodes",
            format!(
                "nodes.metrics.k8s.io is forbidden: User \"bob\" cannot list resource \"nodes\" {group} at the cluster scope: no rule"
            ),
            r#""details":{"group":"metrics.k8s.io","kind":"nodes"}"#,
        ),
        (
            "/apis/metrics.k8s.io/v1/nodes/node-a",
            format!(
                "nodes.metrics.k8s.io \"node-a\" is forbidden: User \"bob\" cannot get resource \"nodes\" {group} at the cluster scope: no rule"
            ),
            r#""details":{"name":"node-a","group":"metrics.k8s.io","kind":"nodes"}"#,
        ),
        (
            "/apis/metrics.k8s.io/v1/namespaces/default/pods?watch=1",
            format!(
                "pods.metrics.k8s.io is forbidden: User \"bob\" cannot watch resource \"pods\" {group} in the namespace \"default\": no rule"
            ),
            r#""details":{"group":"metrics.k8s.io","kind":"pods"}"#,
        ),
        (
            "/apis/metrics.k8s.io/v1/pods?fieldSelector=metadata.name%3Dx",
            format!(
                "pods.metrics.k8s.io \"x\" is forbidden: User \"bob\" cannot list resource \"pods\" {group} at the cluster scope: no rule"
            ),
            r#""details":{"name":"x","group":"metrics.k8s.io","kind":"pods"}"#,
        ),
        (
            "/metrics",
            "forbidden: User \"bob\" cannot get path \"/metrics\": no rule".into(),
            r#""details":{}"#,
        ),
        (
            "/readyz/ping",
            "forbidden: User \"bob\" cannot get path \"/readyz/ping\": no rule".into(),
            r#""details":{}"#,
        ),
    ] {
        let answer = ask(&denied, path, &[]).await;
        assert_eq!(failure(&answer), (403, message));
        assert!(answer.2.contains(details), "{}", answer.2);
        assert_eq!(answer.1[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    }
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(ask(&denied, path, &[]).await.2, "ok");
    }
    assert_eq!(ask(&denied, "/apis", &[("x-user", "kube/system:masters")]).await.0, StatusCode::OK);

    let failed = api_with(Decision::Failed { cause: "connection refused".into() }, settings());
    let (status, headers, body) = ask(&failed, "/apis?x=1", &[]).await;
    assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(body, "Internal Server Error: \"/apis?x=1\": connection refused\n");
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
}

#[tokio::test]
async fn impersonation_and_upgrades_are_refused() {
    let api = api();
    for header in ["impersonate-user", "Impersonate-Group", "impersonate-extra-scopes"] {
        let answer = ask(&api, "/apis", &[(header, "alice"), ("x-user", "kube/system:masters")]).await;
        assert_eq!(failure(&answer).0, 403, "{header}");
    }
    let answer = ask(&api, "/apis", &[("connection", "upgrade"), ("upgrade", "websocket")]).await;
    assert_eq!(failure(&answer).0, 400);
}

#[tokio::test]
async fn requests_in_flight_are_limited() {
    let api = api_with(Decision::Allow, Settings { now, in_flight: 1, ..Settings::default() });
    let request = || Request::builder().uri("/apis/metrics.k8s.io/v1/nodes").body(()).unwrap();
    let unread = api.answer(request()).await;
    let (status, headers, body) = send(&api, request()).await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(body, "Too many requests, please try again later.\n");
    assert_eq!(headers[header::RETRY_AFTER], "1");
    assert_eq!(ask(&api, "/apis", &[("x-user", "kube/system:masters")]).await.0, StatusCode::OK);
    drop(unread);
    assert_eq!(send(&api, request()).await.0, StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_loses_place_and_answer_at_the_deadline() {
    let api = api_with(Decision::Allow, Settings { now, in_flight: 1, ..Settings::default() });
    let mut view = NodeView::default();
    for index in 0..2000_u32 {
        let name = format!("pod-{index:05}");
        api.source.inventory.apply_pod(mk_pod("many", &name, "many", &[("app", "web")], true));
        set(&api.source, &mut view, ("many", &name), 0, &[("c", usage(1, 1024))]);
    }
    api.source.views.publish("many".into(), view);
    let request = |query: &str| {
        Request::builder().uri(format!("/apis/metrics.k8s.io/v1/pods{query}")).body(()).unwrap()
    };
    for (query, seconds) in [("", 60), ("?timeout=5s", 5)] {
        let mut unread = api.answer(request(query)).await.into_body();
        assert!(unread.frame().await.unwrap().is_ok());
        tokio::time::sleep(Duration::from_secs(seconds - 1)).await;
        assert_eq!(api.answer(request("")).await.status(), StatusCode::TOO_MANY_REQUESTS);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(api.answer(request("")).await.status(), StatusCode::OK);
        assert!(unread.frame().await.unwrap().is_err());
        assert!(unread.frame().await.is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn requests_end_at_their_deadline() {
    let api = api();
    for (query, seconds) in [("", 60), ("?timeout=1m30s", 60), ("?timeout=2500ms", 2), ("?timeout=0", 60)] {
        let began = tokio::time::Instant::now();
        let answer = ask(&api, &format!("/apis{query}"), &[("x-user", "slow")]).await;
        let text = "Timeout: request did not complete within the allotted timeout".to_owned();
        assert_eq!(failure(&answer), (504, text));
        assert_eq!(began.elapsed().as_secs(), seconds, "{query}");
    }
    assert_eq!(ask(&api, "/apis?timeout=-1s", &[]).await.0, StatusCode::OK);
    for (timeout, why) in [
        ("soon", "invalid duration \"soon\""),
        ("-", "invalid duration \"-\""),
        (".s", "invalid duration \".s\""),
        ("5", "missing unit in duration \"5\""),
        ("1m5", "missing unit in duration \"1m5\""),
        ("2d", "unknown unit \"d\" in duration \"2d\""),
    ] {
        let bad = ask(&api, &format!("/apis?timeout={timeout}"), &[]).await;
        let text = format!("invalid timeout specified in the request URL - time: {why}");
        assert_eq!(failure(&bad), (400, text));
    }
}

#[tokio::test]
async fn an_audit_id_comes_back() {
    let api = api();
    assert_eq!(ask(&api, "/apis", &[("Audit-ID", "abc-1")]).await.1["audit-id"], "abc-1");
    let (_, one, _) = ask(&api, "/apis", &[]).await;
    let (_, other, _) = ask(&api, "/apis", &[]).await;
    assert_ne!(one["audit-id"], other["audit-id"]);
}

#[tokio::test]
async fn metrics_count_requests() {
    let api = api();
    ask(&api, "/apis/metrics.k8s.io/v1/nodes", &[]).await;
    ask(&api, "/apis/metrics.k8s.io/v1/nodes/nope", &[]).await;
    let (status, _, body) = ask(&api, "/metrics", &[]).await;
    assert_eq!(status, StatusCode::OK);
    for line in [
        r#"waggle_api_requests_total{resource="nodes",verb="list",code="200"} 1"#,
        r#"waggle_api_requests_total{resource="nodes",verb="get",code="404"} 1"#,
        "waggle_api_request_duration_seconds_count 2",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} in\n{body}");
    }
}

#[tokio::test]
async fn health_and_version_answer() {
    let api = api();
    let (status, headers, body) = ask(&api, "/readyz?verbose&exclude=log", &[]).await;
    assert_eq!(status, StatusCode::OK);
    assert!(
        body.ends_with("[+]shutdown ok\nreadyz check passed\n") && body.contains("[+]log excluded: ok\n"),
        "{body}"
    );
    assert_eq!(headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[header::CONTENT_TYPE], "text/plain; charset=utf-8");
    let (_, _, body) = ask(&api, "/version", &[]).await;
    let version: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(version["gitVersion"], concat!("v", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn long_lists_come_in_frames_and_lose_nothing() {
    let api = api();
    let pods: u32 = 2000;
    let mut view = NodeView::default();
    for index in 0..pods {
        let name = format!("pod-{index:05}");
        api.source.inventory.apply_pod(mk_pod("many", &name, "many", &[("app", "web")], true));
        set(&api.source, &mut view, ("many", &name), 0, &[("c", usage(u64::from(index), 1024))]);
    }
    api.source.views.publish("many".into(), view);
    let request = Request::builder().uri("/apis/metrics.k8s.io/v1/namespaces/many/pods").body(()).unwrap();
    let mut body = api.answer(request).await.into_body();
    let (mut frames, mut whole) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        frames.push(data.len());
        whole.extend_from_slice(&data);
    }
    assert!(frames.len() > 3 && frames.iter().all(|length| *length < 80 * 1024), "{frames:?}");
    let list: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2000);
    for (index, item) in items.iter().enumerate() {
        assert_eq!(item["metadata"]["name"], format!("pod-{index:05}"));
    }
    assert_eq!(items[7]["containers"][0]["usage"]["cpu"], "7n");
}
