//! The ConfigMap `extension-apiserver-authentication` while it changes under open connections (authentication.md, A4), and the
//! refusal of overlapping CAs (A12.1).

use http::StatusCode;
use serde_json::{Value, json};
use waggle_stand_in::{Authority, Identity, Kind, StandIn};

use crate::{
    common::{Aggregator, Connection, NODES, Protocol, until},
    reviewed,
};

const CONFIG: (Kind, &str, &str) = (Kind::ConfigMap, "kube-system", "extension-apiserver-authentication");

fn change(stand_in: &StandIn, keys: &[(&str, Value)]) {
    let mut config = stand_in.get(CONFIG.0, CONFIG.1, CONFIG.2).unwrap();
    for (key, value) in keys {
        config["data"][*key] = value.clone();
    }
    stand_in.apply(config).unwrap();
}

async fn status(connection: &mut Connection, headers: &[(&str, &str)]) -> StatusCode {
    connection.get("/version", headers).await.unwrap().status
}

/// Waits until the connection is answered so; an HTTP/2 connection that was refused is opened again.
async fn becomes(
    aggregator: &Aggregator,
    identity: &Identity,
    protocol: Protocol,
    headers: &[(&str, &str)],
    expected: StatusCode,
) {
    until("the change", async || {
        let mut connection = aggregator.connect(Some(identity), protocol).await;
        status(&mut connection, headers).await == expected
    })
    .await;
}

async fn every_change(protocol: Protocol) {
    const OK: StatusCode = StatusCode::OK;
    const NO: StatusCode = StatusCode::UNAUTHORIZED;
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let user = [("x-remote-user", "bob")];
    let proxy = stand_in.front_proxy_client();
    let second_ca = Authority::new("second-front-proxy-ca").unwrap();
    let second = second_ca.client::<&str>("front-proxy-client", &[]).unwrap();
    let mut open = aggregator.connect(Some(proxy), protocol).await;
    let mut other = aggregator.connect(Some(proxy), protocol).await;
    assert_eq!(status(&mut open, &user).await, OK);
    assert_eq!(status(&mut other, &user).await, OK);

    // Names: an open connection loses its right at once, and another one has it back.
    change(&stand_in, &[("requestheader-allowed-names", json!(r#"["somebody"]"#))]);
    becomes(&aggregator, proxy, protocol, &user, NO).await;
    assert_eq!(status(&mut open, &user).await, NO, "the open connection is judged by the new names");
    change(&stand_in, &[("requestheader-allowed-names", json!(r#"["front-proxy-client"]"#))]);
    becomes(&aggregator, proxy, protocol, &user, OK).await;
    assert_eq!(status(&mut other, &user).await, OK, "open all the time, judged by the newest");

    // CAs: both during a rotation, then the new one alone.
    let both = format!("{}{}", stand_in.front_proxy_ca().pem(), second_ca.pem());
    change(&stand_in, &[("requestheader-client-ca-file", json!(both))]);
    becomes(&aggregator, &second, protocol, &user, OK).await;
    assert_eq!(status(&mut other, &user).await, OK, "the old CA is trusted still");
    change(&stand_in, &[("requestheader-client-ca-file", json!(second_ca.pem()))]);
    becomes(&aggregator, proxy, protocol, &user, NO).await;
    let mut open = aggregator.connect(Some(&second), protocol).await;
    assert_eq!(status(&mut open, &user).await, OK);
    assert_eq!(status(&mut other, &user).await, NO, "the open connection is judged by the new CA");

    // Header names, on one connection that stays open.
    change(
        &stand_in,
        &[
            ("requestheader-username-headers", json!(r#"["X-New-User"]"#)),
            ("requestheader-group-headers", json!(r#"["X-New-Group"]"#)),
            ("requestheader-extra-headers-prefix", json!(r#"["X-New-Extra-"]"#)),
            ("requestheader-uid-headers", json!(r#"["X-New-Uid"]"#)),
        ],
    );
    let new = [
        ("x-new-user", "eve"),
        ("x-new-group", "dev"),
        ("x-new-uid", "u-7"),
        ("x-new-extra-scope", "s"),
        ("x-remote-user", "bob"),
        ("x-remote-group", "system:masters"),
    ];
    becomes(&aggregator, &second, protocol, &new, OK).await;
    stand_in.take_access_reviews();
    let answer = open.get(&format!("{NODES}/after"), &new).await.unwrap();
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.body);
    let spec = reviewed(&stand_in, "new headers");
    let found = json!([spec["user"], spec["uid"], spec["groups"], spec["extra"]]);
    assert_eq!(found, json!(["eve", "u-7", ["dev", "system:authenticated"], {"scope": ["s"]}]));

    // The cluster's CA, under an open connection with a client certificate.
    let alice = stand_in.issue_client_certificate("alice", &[]).unwrap();
    let mut hers = aggregator.connect(Some(&alice), protocol).await;
    assert_eq!(status(&mut hers, &[]).await, OK);
    let next = Authority::new("next-kubernetes").unwrap();
    change(&stand_in, &[("client-ca-file", json!(next.pem()))]);
    becomes(&aggregator, &alice, protocol, &[], NO).await;
    assert_eq!(status(&mut hers, &[]).await, NO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_under_open_connections_over_http1() {
    every_change(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_under_open_connections_over_http2() {
    every_change(Protocol::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_or_deleted_configmap_leaves_the_last_good_one() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let user = [("x-remote-user", "bob")];
    let mut open = Vec::new();
    for protocol in Protocol::BOTH {
        open.push(aggregator.connect(Some(stand_in.front_proxy_client()), protocol).await);
    }
    let good = stand_in.get(CONFIG.0, CONFIG.1, CONFIG.2).unwrap();
    let half = |pem: &str| json!(pem.split_at(pem.len() / 2).0);
    let torn = [
        ("requestheader-allowed-names", json!(r#"["front-proxy"#)),
        ("requestheader-group-headers", json!("X-Remote-Group")),
        ("requestheader-client-ca-file", half(stand_in.front_proxy_ca().pem())),
        ("client-ca-file", json!("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
        ("client-ca-file", json!("not PEM at all")),
    ];
    for (count, (key, value)) in torn.into_iter().enumerate() {
        // Names that would shut the front proxy out: nothing of a torn version may count.
        change(
            &stand_in,
            &[("requestheader-username-headers", json!(r#"["X-Other"]"#)), (key, value.clone())],
        );
        let errors = count as u64 + 1;
        until(key, async || aggregator.metric(&stand_in, "waggle_auth_config_errors_total ").await == errors)
            .await;
        for connection in &mut open {
            assert_eq!(status(connection, &user).await, StatusCode::OK, "{key} {value}");
        }
        stand_in.apply(good.clone()).unwrap();
    }
    assert!(aggregator.log().contains("keeping the last good one"), "{}", aggregator.log());
    assert!(stand_in.delete(CONFIG.0, CONFIG.1, CONFIG.2));
    until("the deletion", async || aggregator.log().contains("was deleted")).await;
    for connection in &mut open {
        assert_eq!(status(connection, &user).await, StatusCode::OK, "deleted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overlapping_cas_with_any_name_are_refused_unless_said_otherwise() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let alice = stand_in.issue_client_certificate("alice", &[]).unwrap();
    let forged = [("x-remote-user", "root")];
    let refusing = Aggregator::start(&stand_in).await;
    let trusting = Aggregator::start_with(&stand_in, &["--requestheader-trust-overlapping-ca"]).await;
    trusting.knows_the_front_proxy(&stand_in).await;
    let both = format!("{}{}", stand_in.front_proxy_ca().pem(), stand_in.cluster_ca_pem());
    change(
        &stand_in,
        &[("requestheader-allowed-names", json!("[]")), ("requestheader-client-ca-file", json!(both))],
    );
    until("the refusal", async || refusing.log().contains("refusing the front proxy")).await;
    until("the warning", async || trusting.log().contains("any holder of a client certificate")).await;
    for protocol in Protocol::BOTH {
        let claimed = async |aggregator: &Aggregator, case: &str| {
            stand_in.take_access_reviews();
            let path = format!("{NODES}/{protocol:?}-{case}");
            let answer = aggregator.caller(Some(&alice), protocol).get(&path, &forged).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{case}");
            reviewed(&stand_in, case)["user"].clone()
        };
        assert_eq!(claimed(&refusing, "refused").await, json!("alice"), "the headers count for nothing");
        assert_eq!(claimed(&trusting, "trusted").await, json!("root"), "as the flag says");
        let proxy = refusing.caller(Some(stand_in.front_proxy_client()), protocol);
        assert_eq!(proxy.get("/version", &forged).await.status, StatusCode::UNAUTHORIZED);
    }
}
