//! Who is taken for whom: the order of authenticators (authentication.md, A2), always-allowed paths (A7) and the front proxy's
//! headers (A3).

use std::time::Duration;

use http::StatusCode;
use serde_json::{Value, json};
use waggle_stand_in::{Authority, Identity, StandIn, TokenSpec};

use crate::{
    common::{Aggregator, NODES, Protocol},
    reviewed,
};

/// What becomes of a caller.
enum Outcome {
    /// Taken for this user; groups as the review has them.
    User(&'static str, &'static [&'static str]),
    Anonymous,
    Unauthorized,
}

use Outcome::{Anonymous, Unauthorized, User};

/// What is presented (certificate, headers), and what becomes of it.
type Row<'a> = (&'a str, Option<&'a Identity>, &'a [(&'a str, &'a str)], Outcome);

fn expired_token(stand_in: &StandIn) -> String {
    stand_in
        .issue_token(&TokenSpec {
            namespace: "default".into(),
            service_account: "late".into(),
            pod: None,
            node: None,
            audiences: vec![],
            ttl: Duration::ZERO,
        })
        .unwrap()
}

async fn every_caller(protocol: Protocol) {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let proxy = stand_in.front_proxy_client();
    let misnamed = stand_in.front_proxy_ca().client::<&str>("somebody-else", &[]).unwrap();
    let late_proxy = stand_in.front_proxy_ca().expired_client::<&str>("front-proxy-client", &[]).unwrap();
    let alice = stand_in.issue_client_certificate("alice", &["dev", "ops"]).unwrap();
    let late_alice = stand_in.cluster_ca().expired_client("alice", &["dev"]).unwrap();
    let stranger = Authority::new("another").unwrap().client::<&str>("front-proxy-client", &[]).unwrap();
    let bearer = |token: String| format!("Bearer {token}");
    let carol = bearer(stand_in.issue_user_token("carol", &["qa".to_owned()]).unwrap());
    let late = bearer(expired_token(&stand_in));
    let bob = [("x-remote-user", "bob"), ("x-remote-group", "dev")];
    let authenticated = &["dev", "system:authenticated"];
    let qa = User("carol", &["qa", "system:authenticated"]);
    let token = [("authorization", &*carol)];
    let late_token = [("authorization", &*late)];
    let both = [bob[0], bob[1], token[0]];
    let rows: Vec<Row<'_>> = vec![
        ("nothing", None, &[], Anonymous),
        ("headers without a certificate", None, &bob, Anonymous),
        ("the front proxy", Some(proxy), &bob, User("bob", authenticated)),
        ("the front proxy with somebody's token", Some(proxy), &both, User("bob", authenticated)),
        ("the front proxy without a user", Some(proxy), &[], Unauthorized),
        ("the front proxy with an empty user", Some(proxy), &[("x-remote-user", "")], Unauthorized),
        ("the front proxy's CA, another name", Some(&misnamed), &bob, Unauthorized),
        ("the front proxy's certificate expired", Some(&late_proxy), &bob, Unauthorized),
        ("a certificate of an unknown CA", Some(&stranger), &bob, Unauthorized),
        ("a client certificate", Some(&alice), &[], User("alice", &["dev", "ops", "system:authenticated"])),
        (
            "a client certificate with forged headers",
            Some(&alice),
            &bob,
            User("alice", &["dev", "ops", "system:authenticated"]),
        ),
        ("an expired client certificate", Some(&late_alice), &[], Unauthorized),
        ("a token", None, &token, User("carol", &["qa", "system:authenticated"])),
        ("a bad certificate with a token", Some(&stranger), &token, qa),
        (
            "an expired certificate with a token",
            Some(&late_alice),
            &token,
            User("carol", &["qa", "system:authenticated"]),
        ),
        (
            "a bad certificate with a bad token",
            Some(&stranger),
            &[("authorization", "Bearer x")],
            Unauthorized,
        ),
        ("an unknown token", None, &[("authorization", "Bearer x")], Unauthorized),
        ("an expired token", None, &late_token, Unauthorized),
        ("another scheme", None, &[("authorization", "Basic YTpi")], Anonymous),
        ("an empty bearer", None, &[("authorization", "Bearer ")], Anonymous),
    ];
    for (case, identity, headers, outcome) in rows {
        stand_in.take_access_reviews();
        // A path of its own for each: no answer comes from the cache.
        let path = format!("{NODES}/{}", case.replace([' ', ',', '\''], "-"));
        let caller = aggregator.caller(identity, protocol);
        let answer = caller.get(&path, headers).await;
        let health = caller.get("/livez", headers).await.status;
        match outcome {
            User(name, groups) => {
                let spec = reviewed(&stand_in, case);
                assert_eq!((&spec["user"], &spec["groups"]), (&json!(name), &json!(groups)), "{case}");
                assert_eq!((answer.status, health), (StatusCode::FORBIDDEN, StatusCode::OK), "{case}");
            }
            Anonymous => {
                let spec = reviewed(&stand_in, case);
                let groups = json!(["system:unauthenticated"]);
                assert_eq!((&spec["user"], &spec["groups"]), (&json!("system:anonymous"), &groups), "{case}");
                assert_eq!((answer.status, health), (StatusCode::FORBIDDEN, StatusCode::OK), "{case}");
            }
            Unauthorized => {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{case}");
                assert_eq!(answer.json(), unauthorized(), "{case}");
                assert!(!answer.headers.contains_key("x-content-type-options"), "{case}");
                assert_eq!(
                    health,
                    StatusCode::UNAUTHORIZED,
                    "{case}: a bad credential is bad for health too"
                );
                assert_eq!(stand_in.take_access_reviews(), Vec::<Value>::new(), "{case}");
            }
        }
    }
}

fn unauthorized() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_over_http1() {
    every_caller(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_caller_over_http2() {
    every_caller(Protocol::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_three_health_paths_need_no_decision() {
    let stand_in = StandIn::builder().start().await.unwrap();
    stand_in.forbid("system:unauthenticated");
    let aggregator = Aggregator::start(&stand_in).await;
    for protocol in Protocol::BOTH {
        let caller = aggregator.caller(None, protocol);
        stand_in.take_access_reviews();
        for path in ["/healthz", "/livez"] {
            assert_eq!(caller.get(path, &[]).await.status, StatusCode::OK, "{path}");
        }
        // Not ready without nodes, and answered all the same.
        let ready = caller.get("/readyz", &[]).await;
        assert_eq!(ready.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(ready.body.contains("[-]metric-storage-ready failed"), "{}", ready.body);
        assert_eq!(stand_in.take_access_reviews(), Vec::<Value>::new());
        let others = [
            "/livez/ping",
            "/readyz/shutdown",
            "/metrics",
            "/version",
            "/openapi/v2",
            "/openapi/v3",
            "/apis",
            "/",
        ];
        for path in others {
            let answer = caller.get(path, &[]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
            let text = format!("forbidden: User \"system:anonymous\" cannot get path \"{path}\"");
            assert_eq!(answer.json()["message"], *text, "{path}");
            assert_eq!(answer.json()["details"], json!({}), "{path}");
        }
    }
}

type Headers = &'static [(&'static str, &'static str)];

/// Headers, and the `spec` of the review without what is asked for.
fn headers() -> Vec<(&'static str, Headers, Value)> {
    let all = "system:authenticated";
    vec![
        ("name", &[("X-Remote-User", "a")], json!({"user": "a", "groups": [all]})),
        ("second header", &[("x-second-user", "b")], json!({"user": "b", "groups": [all]})),
        (
            "the first configured header counts, not the first sent",
            &[("x-second-user", "b"), ("x-remote-user", "a2")],
            json!({"user": "a2", "groups": [all]}),
        ),
        (
            "the next header where the first is empty",
            &[("x-remote-user", ""), ("x-second-user", "c")],
            json!({"user": "c", "groups": [all]}),
        ),
        (
            "the first of several values",
            &[("x-remote-user", "d"), ("x-remote-user", "e")],
            json!({"user": "d", "groups": [all]}),
        ),
        (
            "any UTF-8",
            &[("x-remote-user", "jürgen ✓"), ("x-remote-group", "größe")],
            json!({"user": "jürgen ✓", "groups": ["größe", all]}),
        ),
        (
            "groups of both headers, commas kept, empty ones dropped",
            &[
                ("x-remote-user", "f"),
                ("x-second-group", "z"),
                ("x-remote-group", "a,b"),
                ("x-remote-group", ""),
                ("x-remote-group", "c"),
            ],
            json!({"user": "f", "groups": ["a,b", "c", "z", all]}),
        ),
        (
            "a UID is not configured, and not assumed",
            &[("x-remote-user", "g"), ("x-remote-uid", "1234")],
            json!({"user": "g", "groups": [all]}),
        ),
        (
            "extra: lower case, unescaped, all values, both prefixes",
            &[
                ("x-remote-user", "h"),
                ("X-Remote-Extra-Acme.com%2Fproject", "p"),
                ("x-remote-extra-scopes", "one"),
                ("x-remote-extra-scopes", "two"),
                ("x-remote-extra-odd%2", "raw"),
                ("x-second-extra-scopes", "three"),
            ],
            json!({"user": "h", "groups": [all],
                   "extra": {"acme.com/project": ["p"], "odd%2": ["raw"], "scopes": ["one", "two", "three"]}}),
        ),
        (
            "an underscore is another header",
            &[("x-remote-user", "i"), ("x_remote_group", "system:masters")],
            json!({"user": "i", "groups": [all]}),
        ),
        (
            "somebody whom kube-apiserver calls anonymous",
            &[("x-remote-user", "system:anonymous"), ("x-remote-group", "system:unauthenticated")],
            json!({"user": "system:anonymous", "groups": ["system:unauthenticated"]}),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_front_proxys_headers_become_the_user() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let mut config = stand_in.authentication_config();
    config["data"]["requestheader-username-headers"] = json!(r#"["X-Remote-User","X-Second-User"]"#);
    config["data"]["requestheader-group-headers"] = json!(r#"["X-Remote-Group","X-Second-Group"]"#);
    config["data"]["requestheader-extra-headers-prefix"] = json!(r#"["X-Remote-Extra-","X-Second-Extra-"]"#);
    stand_in.apply(config).unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    for protocol in Protocol::BOTH {
        let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), protocol);
        for (number, (case, headers, expected)) in headers().iter().enumerate() {
            stand_in.take_access_reviews();
            let answer = proxy.get(&format!("{NODES}/{protocol:?}-{number}"), headers).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{case}");
            let mut spec = reviewed(&stand_in, case);
            spec.as_object_mut().unwrap().remove("resourceAttributes");
            assert_eq!(spec, *expected, "{case} over {protocol:?}");
        }
    }
}
