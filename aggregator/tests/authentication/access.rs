//! SubjectAccessReviews (authentication.md, A8) and the texts of refusals (A10).

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use waggle_stand_in::{Fault, Rule, StandIn};

use crate::{
    common::{Aggregator, Answer, MASTER, NODES, Protocol},
    reviewed,
};

const REVIEWS: &str = "create subjectaccessreviews";
const BOB: [(&str, &str); 1] = [("x-remote-user", "bob")];

async fn world() -> (StandIn, Aggregator) {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    (stand_in, aggregator)
}

async fn get(
    stand_in: &StandIn,
    aggregator: &Aggregator,
    protocol: Protocol,
    path: &str,
    user: &str,
) -> Answer {
    let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), protocol);
    proxy.get(path, &[("x-remote-user", user)]).await
}

/// A request, the attributes of its review, and the text of its refusal to `U`.
fn requests() -> Vec<(Method, String, Value, String)> {
    let resource = |verb: &str, version: &str, resource: &str, namespace: &str, name: &str| {
        let mut spec =
            json!({"verb": verb, "group": "metrics.k8s.io", "version": version, "resource": resource});
        for (key, value) in [("namespace", namespace), ("name", name)] {
            if !value.is_empty() {
                spec[key] = json!(value);
            }
        }
        json!({"resourceAttributes": spec})
    };
    let path = |verb: &str, path: &str| json!({"nonResourceAttributes": {"verb": verb, "path": path}});
    let base = "/apis/metrics.k8s.io";
    let pods = r#"pods.metrics.k8s.io is forbidden: User "U" cannot list resource "pods" in API group "metrics.k8s.io""#;
    vec![
        (
            Method::GET,
            format!("{base}/v1beta1/nodes"),
            resource("list", "v1beta1", "nodes", "", ""),
            r#"nodes.metrics.k8s.io is forbidden: User "U" cannot list resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#.into(),
        ),
        (
            Method::GET,
            format!("{base}/v1/nodes/node-a"),
            resource("get", "v1", "nodes", "", "node-a"),
            r#"nodes.metrics.k8s.io "node-a" is forbidden: User "U" cannot get resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#.into(),
        ),
        (
            Method::GET,
            format!("{base}/v1/pods"),
            resource("list", "v1", "pods", "", ""),
            format!("{pods} at the cluster scope"),
        ),
        (
            Method::GET,
            format!("{base}/v1/namespaces/shop/pods"),
            resource("list", "v1", "pods", "shop", ""),
            format!(r#"{pods} in the namespace "shop""#),
        ),
        (
            Method::GET,
            format!("{base}/v1/namespaces/shop/pods/web-0"),
            resource("get", "v1", "pods", "shop", "web-0"),
            r#"pods.metrics.k8s.io "web-0" is forbidden: User "U" cannot get resource "pods" in API group "metrics.k8s.io" in the namespace "shop""#.into(),
        ),
        (
            Method::GET,
            format!("{base}/v1/namespaces/shop/pods?watch=true"),
            resource("watch", "v1", "pods", "shop", ""),
            r#"pods.metrics.k8s.io is forbidden: User "U" cannot watch resource "pods" in API group "metrics.k8s.io" in the namespace "shop""#.into(),
        ),
        (
            Method::POST,
            format!("{base}/v1/nodes"),
            resource("create", "v1", "nodes", "", ""),
            r#"nodes.metrics.k8s.io is forbidden: User "U" cannot create resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#.into(),
        ),
        (
            Method::DELETE,
            format!("{base}/v1/nodes/node-a"),
            resource("delete", "v1", "nodes", "", "node-a"),
            r#"nodes.metrics.k8s.io "node-a" is forbidden: User "U" cannot delete resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#.into(),
        ),
        (
            Method::GET,
            "/metrics".into(),
            path("get", "/metrics"),
            r#"forbidden: User "U" cannot get path "/metrics""#.into(),
        ),
        (
            Method::POST,
            "/metrics".into(),
            path("post", "/metrics"),
            r#"forbidden: User "U" cannot post path "/metrics""#.into(),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_and_texts_of_every_kind_of_request() {
    let (stand_in, aggregator) = world().await;
    for protocol in Protocol::BOTH {
        // A user of each protocol's own: no answer comes from the cache.
        let user = format!("user-{protocol:?}");
        let mut proxy = aggregator.connect(Some(stand_in.front_proxy_client()), protocol).await;
        for (method, path, attributes, text) in &requests() {
            let case = format!("{method} {path} over {protocol:?}");
            stand_in.take_access_reviews();
            let answer = proxy.send(method, path, &[("x-remote-user", &user)]).await.unwrap();
            let spec = reviewed(&stand_in, &case);
            let mut expected = attributes.clone();
            expected["user"] = json!(user);
            expected["groups"] = json!(["system:authenticated"]);
            assert_eq!(spec, expected, "{case}");
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{case}");
            assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{case}");
            let status = answer.json();
            assert_eq!(status["message"], *text.replace("\"U\"", &format!("{user:?}")), "{case}");
            assert_eq!((&status["reason"], &status["code"]), (&json!("Forbidden"), &json!(403)), "{case}");
            let about = &attributes["resourceAttributes"];
            let mut details = json!({});
            if about.is_object() {
                details = json!({"group": about["group"], "kind": about["resource"]});
                if about["name"].is_string() {
                    details["name"] = about["name"].clone();
                }
            }
            assert_eq!(status["details"], details, "{case}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn selectors_are_asked_about_only_after_a_denial() {
    let (stand_in, aggregator) = world().await;
    stand_in.allow(Rule::resources("all", &["list"], "metrics.k8s.io", &["pods"]));
    stand_in.allow(Rule::resources("some", &["list"], "metrics.k8s.io", &["pods"]).selecting("app", "web"));
    stand_in.allow(
        Rule::resources("field", &["list"], "metrics.k8s.io", &["pods"])
            .selecting("metadata.namespace", "shop"),
    );
    let pods = "/apis/metrics.k8s.io/v1/pods";
    for (protocol, version) in [(Protocol::Http1, "v1"), (Protocol::Http2, "v1beta1")] {
        let pods = pods.replace("v1", version);
        let ask = async |user: &str, query: &str| {
            stand_in.take_access_reviews();
            let answer = get(&stand_in, &aggregator, protocol, &format!("{pods}{query}"), user).await;
            let specs = stand_in.take_access_reviews();
            let selectors: Vec<Value> = specs
                .iter()
                .map(|spec| {
                    let about = &spec["resourceAttributes"];
                    json!([about["labelSelector"]["requirements"], about["fieldSelector"]["requirements"]])
                })
                .collect();
            (answer.status, selectors)
        };
        let web = json!([{"key": "app", "operator": "In", "values": ["web"]}]);
        // Whoever may list all is asked about once, whatever he selects.
        assert_eq!(ask("all", "?labelSelector=app%3Dweb").await, (StatusCode::OK, vec![json!([null, null])]));
        assert_eq!(ask("all", "?labelSelector=app%3Ddb").await, (StatusCode::OK, vec![]));
        // Whoever may list some is asked about twice, and then both answers are kept.
        let twice = vec![json!([null, null]), json!([web, null])];
        assert_eq!(ask("some", "?labelSelector=app%3Dweb").await, (StatusCode::OK, twice));
        assert_eq!(ask("some", "?labelSelector=app%3Dweb").await, (StatusCode::OK, vec![]));
        let other = json!([{"key": "app", "operator": "NotIn", "values": ["web"]}]);
        assert_eq!(
            ask("some", "?labelSelector=app!%3Dweb").await,
            (StatusCode::FORBIDDEN, vec![json!([other, null])])
        );
        assert_eq!(ask("some", "").await, (StatusCode::FORBIDDEN, vec![]));
        let shop = json!([{"key": "metadata.namespace", "operator": "In", "values": ["shop"]}]);
        assert_eq!(
            ask("field", "?fieldSelector=metadata.namespace%3Dshop").await,
            (StatusCode::OK, vec![json!([null, null]), json!([null, shop])])
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_kept_for_all_but_the_longest_questions() {
    let (stand_in, aggregator) = world().await;
    stand_in.allow(Rule::resources("may", &["list"], "metrics.k8s.io", &["nodes"]));
    let long = format!("{NODES}/{}", "x".repeat(10_000));
    for protocol in Protocol::BOTH {
        for (user, path, code, reviews) in [
            ("may", NODES, StatusCode::OK, 1),
            ("may-not", NODES, StatusCode::FORBIDDEN, 1),
            ("may-not", &*long, StatusCode::FORBIDDEN, 3),
        ] {
            let user = &format!("{user}{}", if user == "may" { "" } else { "-either" });
            let before = stand_in.requests(REVIEWS);
            for _ in 0..3 {
                assert_eq!(get(&stand_in, &aggregator, protocol, path, user).await.status, code);
            }
            let asked = stand_in.requests(REVIEWS) - before;
            // The second protocol finds what the first one asked for.
            let known = protocol == Protocol::Http2 && reviews == 1;
            assert_eq!(asked, if known { 0 } else { reviews }, "{user} {}", path.len());
        }
    }
    stand_in.fault(REVIEWS, Fault::Slow(Duration::from_secs(1)), 1);
    let before = stand_in.requests(REVIEWS);
    let twenty = (0..20).map(|_| get(&stand_in, &aggregator, Protocol::Http2, NODES, "crowd"));
    assert!(join_all(twenty).await.iter().all(|answer| answer.status == StatusCode::FORBIDDEN));
    assert_eq!(stand_in.requests(REVIEWS) - before, 1, "one review serves all who wait for it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_pass_is_tried_again_and_a_failure_is_500_in_plain_text() {
    let (stand_in, aggregator) = world().await;
    stand_in.allow(Rule::resources("system:authenticated", &["list"], "metrics.k8s.io", &["nodes"]));
    let second = Some(Duration::from_secs(1));
    // The fault, how many of them, the tries that follow, and whether the last one counts.
    let rows = [
        ("a server's own error", Fault::Status(500, None), 1, 2, StatusCode::OK, 500),
        ("a timeout of the server's", Fault::Status(504, None), 1, 2, StatusCode::OK, 500),
        ("too many requests", Fault::Status(429, second), 1, 2, StatusCode::OK, 1000),
        ("unavailable with a time to come back", Fault::Status(503, second), 1, 2, StatusCode::OK, 1000),
        ("a lost connection", Fault::Cut, 1, 2, StatusCode::OK, 500),
        ("a refusal", Fault::Status(403, None), 1, 1, StatusCode::INTERNAL_SERVER_ERROR, 0),
        ("unavailable without", Fault::Status(503, None), 1, 1, StatusCode::INTERNAL_SERVER_ERROR, 0),
        ("five errors", Fault::Status(500, None), 5, 5, StatusCode::INTERNAL_SERVER_ERROR, 4000),
    ];
    for protocol in Protocol::BOTH {
        for (case, fault, times, tries, code, at_least) in rows {
            let user = format!("{case} {protocol:?}");
            let before = stand_in.requests(REVIEWS);
            stand_in.fault(REVIEWS, fault, times);
            let began = Instant::now();
            let answer = get(&stand_in, &aggregator, protocol, NODES, &user).await;
            assert_eq!(answer.status, code, "{case}: {}", answer.body);
            assert_eq!(stand_in.requests(REVIEWS) - before, tries, "{case}");
            assert!(began.elapsed() >= Duration::from_millis(at_least), "{case}: {:?}", began.elapsed());
            if code == StatusCode::INTERNAL_SERVER_ERROR {
                assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8", "{case}");
                assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{case}");
                let text = format!("Internal Server Error: {NODES:?}: the API server answered ");
                assert!(answer.body.starts_with(&text), "{case}: {}", answer.body);
                let again = get(&stand_in, &aggregator, protocol, NODES, &user).await;
                assert_eq!(again.status, StatusCode::OK, "{case}: a failure is not kept");
            }
        }
    }
    stand_in.take_access_reviews();
    stand_in.fault(REVIEWS, Fault::Hang, 100);
    let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), Protocol::Http2);
    let began = Instant::now();
    let (hangs, ()) = tokio::join!(proxy.get(NODES, &BOB), async {
        for path in [NODES, "/metrics", "/version"] {
            assert_eq!(proxy.get(path, &MASTER).await.status, StatusCode::OK, "masters need no review");
        }
        assert!(began.elapsed() < Duration::from_secs(5));
    });
    assert_eq!(hangs.status, StatusCode::INTERNAL_SERVER_ERROR, "{}", hangs.body);
    assert!(
        began.elapsed() >= Duration::from_secs(10) && began.elapsed() < Duration::from_secs(14),
        "10 s per try"
    );
    assert_eq!(
        stand_in.take_access_reviews(),
        Vec::<Value>::new(),
        "none was answered: the masters caused none"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impersonation_and_upgrades_are_refused() {
    let (stand_in, aggregator) = world().await;
    let kubelet = stand_in.issue_client_certificate("kubelet", &["system:masters"]).unwrap();
    for protocol in Protocol::BOTH {
        for identity in [stand_in.front_proxy_client(), &kubelet] {
            for name in
                ["impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-scopes"]
            {
                let mut connection = aggregator.connect(Some(identity), protocol).await;
                let headers = [MASTER[0], MASTER[1], (name, "root")];
                let answer = connection.get(NODES, &headers).await.unwrap();
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{name}");
                assert!(answer.body.contains("impersonation is not supported here"), "{}", answer.body);
            }
        }
    }
    let mut connection = aggregator.connect(Some(&kubelet), Protocol::Http1).await;
    for upgrade in ["websocket", "SPDY/3.1", "h2c"] {
        let headers = [("connection", "Upgrade"), ("upgrade", upgrade)];
        let answer = connection.get(NODES, &headers).await.unwrap();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{upgrade}");
        assert!(!answer.headers.contains_key("upgrade"), "{upgrade}");
    }
    for path in ["/apis//metrics.k8s.io", "/apis/metrics.k8s.io%2Fv1", "/apis/metrics.k8s.io/../v1"] {
        let answer = connection.get(path, &[]).await.unwrap();
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: refused, never redirected");
    }
}
