//! The router through `answer`, with a gate that is told what to say. Here is what all tests share.

mod limits;
mod messages;
mod objects;
mod port;
mod protobuf;
mod refusals;
mod representations;
mod stalled;
mod surface;
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
    fn is_front_proxy(&self, _: &PeerCertificates) -> bool {
        false
    }

    async fn authenticate(&self, _: &PeerCertificates, headers: &HeaderMap) -> Result<User, Unauthenticated> {
        let mut parts = headers.get("x-user").map_or("bob", |user| user.to_str().unwrap()).split('/');
        match parts.next().unwrap() {
            "bad" => Err(Unauthenticated::Unauthorized),
            "slow" => std::future::pending().await,
            name => {
                Ok(User { name: name.into(), groups: parts.map(Into::into).collect(), ..User::default() })
            }
        }
    }

    async fn authorize(&self, _: Origin, _: &User, _: &Attributes, _: &Selectors) -> Decision {
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
        terminating: false,
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

/// Sets the entry of a pod that the inventory has, this many seconds old.
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

/// A single place for clients that come directly.
fn one_direct() -> InFlight {
    InFlight { direct: 1, ..InFlight::default() }
}

/// Pods with values, in one namespace of one node.
fn crowd(source: &Source, pods: u32) {
    let mut view = NodeView::default();
    for index in 0..pods {
        let name = format!("pod-{index:05}");
        source.inventory.apply_pod(mk_pod("many", &name, "many", &[("app", "web")], true));
        set(source, &mut view, ("many", &name), 0, &[("c", usage(1, 1024))]);
    }
    source.views.publish("many".into(), view);
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
