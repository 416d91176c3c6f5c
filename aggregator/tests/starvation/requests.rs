//! Requests of strangers: many at once, and large ones.

use std::{sync::Arc, time::Duration};

use http::StatusCode;
use tokio::task::JoinSet;
use waggle_stand_in::{Fault, Rule, StandIn};

use crate::common::{Aggregator, NODES, Protocol, until};

const REVIEWS: &str = "create subjectaccessreviews";
const BOB: [(&str, &str); 1] = [("x-remote-user", "bob")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_take_no_place_that_probes_and_the_front_proxy_need() {
    let stand_in = StandIn::builder().start().await.unwrap();
    stand_in.allow(Rule::resources("bob", &["list"], "metrics.k8s.io", &["nodes"]));
    let aggregator = Arc::new(Aggregator::start(&stand_in).await);
    stand_in.fault(REVIEWS, Fault::Hang, 100_000);
    let mut strangers = JoinSet::new();
    for connection in 0..3 {
        // Over one connection each, 200 paths that were not asked for before.
        let caller = Arc::new(aggregator.caller(None, Protocol::Http2));
        for path in 0..200 {
            let caller = Arc::clone(&caller);
            strangers
                .spawn(async move { caller.get(&format!("/random/{connection}/{path}"), &[]).await.status });
        }
    }
    let before = stand_in.requests(REVIEWS);
    until("reviews of the strangers", async || stand_in.requests(REVIEWS) > before + 10).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for protocol in Protocol::BOTH {
        for path in ["/livez", "/healthz", "/readyz"] {
            let answer = aggregator.caller(None, protocol).get(path, &[]).await;
            assert_ne!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{path} over {protocol:?}");
        }
    }
    stand_in.clear_faults();
    let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), Protocol::Http2);
    let answer = tokio::time::timeout(Duration::from_secs(2), proxy.get(NODES, &BOB)).await;
    assert_eq!(answer.expect("its review does not wait for those of others").status, StatusCode::OK);
    let mut refused = 0;
    while let Some(status) = strangers.join_next().await {
        // Whose connection was parted with three times has no status.
        refused += u32::from(status.is_ok_and(|status| status == StatusCode::TOO_MANY_REQUESTS));
    }
    assert!(refused > 100, "{refused} of 600 strangers at once were refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_may_send_64_kib_of_headers() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let header = |kib: usize| "x".repeat(kib * 1024);
    let (small, large) = (header(56), header(80));
    for protocol in Protocol::BOTH {
        let mut direct = aggregator.connect(None, protocol).await;
        let answer = direct.get("/livez", &[("x-filler", &small)]).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{protocol:?}");
        let other = stand_in.issue_client_certificate("carol", &[]).unwrap();
        for identity in [None, Some(&other)] {
            let mut direct = aggregator.connect(identity, protocol).await;
            // hyper's client keeps to the limit that the server announces, and then fails by itself.
            if let Ok(answer) = direct.get("/livez", &[("x-filler", &large)]).await {
                assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "{protocol:?}");
            }
        }
        let mut proxy = aggregator.connect(Some(stand_in.front_proxy_client()), protocol).await;
        let answer = proxy.get("/livez", &[("x-remote-user", "bob"), ("x-filler", &large)]).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{protocol:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_many_tokens_may_wait_for_their_review() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Arc::new(Aggregator::start(&stand_in).await);
    let known = format!("Bearer {}", stand_in.issue_user_token("carol", &[]).unwrap());
    let known = [("authorization", &*known)];
    let caller = aggregator.caller(None, Protocol::Http1);
    assert_eq!(caller.get("/livez", &known).await.status, StatusCode::OK);
    stand_in.fault("create tokenreviews", Fault::Hang, 100_000);
    let mut guesses = JoinSet::new();
    for connection in 0..3 {
        let caller = Arc::new(aggregator.caller(None, Protocol::Http2));
        for number in 0..150 {
            let caller = Arc::clone(&caller);
            let token = format!("Bearer guess-{connection}-{number}");
            guesses.spawn(async move { caller.get("/version", &[("authorization", &token)]).await.status });
        }
    }
    let first = tokio::time::timeout(Duration::from_secs(5), guesses.join_next()).await;
    let first = first.expect("a caller over the limit is told at once").unwrap().unwrap();
    assert_eq!(first, StatusCode::TOO_MANY_REQUESTS);
    let waiting = aggregator.metric(&stand_in, "waggle_auth_token_reviews_waiting ").await;
    assert!((64..=320).contains(&waiting), "{waiting} wait");
    assert_eq!(caller.get("/livez", &known).await.status, StatusCode::OK, "a known token does not wait");
}
