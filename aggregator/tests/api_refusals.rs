//! Who is refused at the API port, over real TLS and both versions of HTTP, by the real binary: each with its code, its
//! text and its counter, and nothing else disturbed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Aggregator, Caller, MASTER, NODES, Protocol};
use http::StatusCode;
use serde_json::{Value, json};
use waggle_stand_in::{Authority, Fault, Identity, Rule, StandIn, TokenSpec};

const FORBIDDEN: &str = r#"nodes.metrics.k8s.io is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#;

/// The value of a counter with this label, 0 when it never counted.
async fn counted(caller: &Caller, family: &str, label: &str) -> u64 {
    let answer = caller.get("/metrics", &MASTER).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let text = answer.body;
    let line =
        text.lines().find(|line| line.starts_with(&format!("{family}_total{{")) && line.contains(label));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn agent_token(stand_in: &StandIn, audiences: &[&str]) -> String {
    stand_in
        .issue_token(&TokenSpec {
            namespace: "waggle-system".to_owned(),
            service_account: "waggle-agent".to_owned(),
            pod: None,
            node: None,
            audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
            ttl: Duration::from_mins(10),
        })
        .unwrap()
}

fn unauthorized() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
    })
}

/// What is presented (certificate, headers), and the reason it is counted under.
type Case<'a> = (&'a str, Option<&'a Identity>, &'a [(&'a str, &'a str)], &'a str);

async fn every_refusal(protocol: Protocol) {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let nobody: [&str; 0] = [];
    let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), protocol);
    let stranger = Authority::new("another").unwrap().client("front-proxy-client", &nobody).unwrap();
    let misnamed = stand_in.front_proxy_ca().client("somebody-else", &nobody).unwrap();
    let expired = stand_in.front_proxy_ca().expired_client("front-proxy-client", &nobody).unwrap();
    let forged = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let unknown = [("authorization", "Bearer nobody-knows-me")];
    let foreign = format!("Bearer {}", agent_token(&stand_in, &["waggle.aggregator"]));
    let agents = [("authorization", &*foreign)];
    let refused: [Case<'_>; 6] = [
        ("certificate of another CA", Some(&stranger), &forged, "front-proxy-certificate"),
        ("expired certificate", Some(&expired), &forged, "front-proxy-certificate"),
        ("right CA, wrong name", Some(&misnamed), &forged, "front-proxy-name"),
        ("right certificate, no headers", Some(stand_in.front_proxy_client()), &[], "client-certificate"),
        ("unknown token", None, &unknown, "token"),
        ("an agent's token", None, &agents, "token"),
    ];
    for (case, identity, headers, reason) in refused {
        let label = format!("reason=\"{reason}\"");
        let before = counted(&proxy, "waggle_auth_credentials_refused", &label).await;
        let answer = aggregator.caller(identity, protocol).get(NODES, headers).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{case}");
        assert_eq!(answer.json(), unauthorized(), "{case}");
        let after = counted(&proxy, "waggle_auth_credentials_refused", &label).await;
        assert_eq!(after, before + 1, "{case}");
    }
    for (case, headers) in [("headers without a certificate", &forged[..]), ("no credentials", &[])] {
        let before = counted(&proxy, "waggle_auth_requests", "by=\"anonymous\"").await;
        let caller = aggregator.caller(None, protocol);
        let answer = caller.get(NODES, headers).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{case}");
        assert_eq!(answer.json()["message"], FORBIDDEN, "{case}");
        assert_eq!(caller.get("/livez", headers).await.status, StatusCode::OK, "{case}");
        let after = counted(&proxy, "waggle_auth_requests", "by=\"anonymous\"").await;
        assert_eq!(after, before + 2, "{case}");
    }
    let impersonating = [forged[0], forged[1], ("impersonate-user", "root")];
    assert_eq!(proxy.get(NODES, &impersonating).await.status, StatusCode::FORBIDDEN);
    assert_eq!(proxy.get(NODES, &forged).await.status, StatusCode::OK, "nothing else is disturbed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_over_http1() {
    every_refusal(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_over_http2() {
    every_refusal(Protocol::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_credentials_get_in() {
    let stand_in = StandIn::builder().start().await.unwrap();
    stand_in.allow(Rule::resources("group-0999", &["list"], "metrics.k8s.io", &["nodes"]));
    stand_in.allow(Rule::resources("alice", &["list"], "metrics.k8s.io", &["nodes"]));
    let aggregator = Aggregator::start(&stand_in).await;
    let alice = stand_in.issue_client_certificate("alice", &[]).unwrap();
    let stranger = Authority::new("another").unwrap().client::<&str>("alice", &[]).unwrap();
    let token = format!("Bearer {}", stand_in.issue_user_token("alice", &[]).unwrap());
    let names: Vec<String> = (0..1000).map(|number| format!("group-{number:04}")).collect();
    let mut crowd = vec![("x-remote-user", "bob")];
    crowd.extend(names.iter().map(|name| ("x-remote-group", name.as_str())));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), protocol);
        let answer = proxy.get(NODES, &crowd).await;
        assert_eq!(answer.status, StatusCode::OK, "1,000 groups over {protocol:?}: {}", answer.body);
        assert_eq!(
            proxy.get(NODES, &crowd[..999]).await.status,
            StatusCode::FORBIDDEN,
            "without the last group"
        );
        let answer = aggregator.caller(Some(&alice), protocol).get(NODES, &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "client certificate over {protocol:?}: {}", answer.body);
        let bearer = [("authorization", &*token)];
        let answer = aggregator.caller(Some(&stranger), protocol).get(NODES, &bearer).await;
        assert_eq!(
            answer.status,
            StatusCode::OK,
            "a bad certificate with a good token over {protocol:?}: {}",
            answer.body
        );
    }
    assert_eq!(stand_in.requests("tokenreviews"), 1, "one review serves all requests of 10 s");

    let revoked = [("authorization", "Bearer unknown")];
    let caller = aggregator.caller(None, Protocol::Http2);
    for _ in 0..3 {
        assert_eq!(caller.get(NODES, &revoked).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(stand_in.requests("tokenreviews"), 2, "rejections are kept too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reviewed_is_refused() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), Protocol::Http2);
    stand_in.fault("subjectaccessreviews", Fault::Status(403, None), 100);
    let answer = proxy.get(NODES, &[("x-remote-user", "bob")]).await;
    assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(answer.body.starts_with(&format!("Internal Server Error: {NODES:?}: ")), "{}", answer.body);
    stand_in.fault("tokenreviews", Fault::Status(403, None), 100);
    let token = format!("Bearer {}", stand_in.issue_user_token("alice", &[]).unwrap());
    let answer = aggregator.caller(None, Protocol::Http2).get(NODES, &[("authorization", &*token)]).await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    assert_eq!(proxy.get(NODES, &MASTER).await.status, StatusCode::OK, "masters need no review");
}
