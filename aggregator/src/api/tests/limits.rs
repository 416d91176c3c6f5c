//! Places in flight and deadlines.

use super::*;

#[tokio::test]
async fn requests_in_flight_are_limited() {
    let api = api_with(Decision::Allow, Settings { now, in_flight: one_direct(), ..Settings::default() });
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
