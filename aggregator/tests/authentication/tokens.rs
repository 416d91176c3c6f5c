//! Bearer tokens (authentication.md, A6): what is asked, what is kept, and how much at once.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::StatusCode;
use waggle_stand_in::{Fault, StandIn};

use crate::common::{Aggregator, Protocol, until};

const REVIEWS: &str = "create tokenreviews";

async fn asked(aggregator: &Aggregator, protocol: Protocol, token: &str) -> StatusCode {
    let value = format!("Bearer {token}");
    aggregator.caller(None, protocol).get("/version", &[("authorization", &value)]).await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verdicts_are_kept_and_failures_are_not() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    for protocol in Protocol::BOTH {
        let good = stand_in.issue_user_token("alice", &[]).unwrap();
        let bad = format!("nobody-knows-me-{protocol:?}");
        let long = "x".repeat(16 * 1024 + 1);
        // Asked once each, whether good or bad; too long, never.
        for (token, code, reviews) in [
            (&good, StatusCode::OK, 1),
            (&bad, StatusCode::UNAUTHORIZED, 1),
            (&long, StatusCode::UNAUTHORIZED, 0),
        ] {
            let before = stand_in.requests(REVIEWS);
            for _ in 0..3 {
                assert_eq!(asked(&aggregator, protocol, token).await, code);
            }
            assert_eq!(stand_in.requests(REVIEWS) - before, reviews, "{} bytes", token.len());
        }
        // A review that could not be made says nothing about the token.
        let later = stand_in.issue_user_token("bob", &[]).unwrap();
        stand_in.fault(REVIEWS, Fault::Status(403, None), 1);
        assert_eq!(asked(&aggregator, protocol, &later).await, StatusCode::UNAUTHORIZED);
        assert_eq!(asked(&aggregator, protocol, &later).await, StatusCode::OK);
    }
    assert!(aggregator.metric(&stand_in, "waggle_auth_token_reviews_total{result=\"failed\"}").await == 2);
    let large =
        aggregator.metric(&stand_in, "waggle_auth_credentials_refused_total{reason=\"token-too-large\"}");
    assert_eq!(large.await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_review_serves_all_who_wait_for_it() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    for protocol in Protocol::BOTH {
        let token = stand_in.issue_user_token("alice", &[]).unwrap();
        let before = stand_in.requests(REVIEWS);
        stand_in.fault(REVIEWS, Fault::Slow(Duration::from_secs(1)), 1);
        let codes = join_all((0..20).map(|_| asked(&aggregator, protocol, &token))).await;
        assert_eq!(codes, [StatusCode::OK; 20]);
        assert_eq!(stand_in.requests(REVIEWS) - before, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_keep_at_most_64_reviews_busy_and_nobody_else() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    stand_in.fault(REVIEWS, Fault::Hang, 1000);
    let tokens: Vec<String> = (0..80).map(|number| format!("guess-{number}")).collect();
    let began = Instant::now();
    let guesses = join_all(tokens.iter().map(|token| asked(&aggregator, Protocol::Http2, token)));
    let meanwhile = async {
        until("64 reviews", async || stand_in.requests(REVIEWS) == 64).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(stand_in.requests(REVIEWS), 64, "the others wait");
        let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), Protocol::Http2);
        let answer = proxy.get("/version", &[("x-remote-user", "bob")]).await;
        assert_eq!(answer.status, StatusCode::OK, "whoever needs no review does not wait");
        assert!(began.elapsed() < Duration::from_secs(9), "and all that was before the first gave up");
    };
    let (codes, ()) = tokio::join!(guesses, meanwhile);
    assert_eq!(codes, [StatusCode::UNAUTHORIZED; 80]);
    let spent = began.elapsed();
    assert!(
        spent > Duration::from_secs(9) && spent < Duration::from_secs(13),
        "10 s for all tries: {spent:?}"
    );
}
