//! Discovery, ids, metrics, health and version.

use super::*;

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
