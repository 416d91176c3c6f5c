//! What is refused, and in which words.

use super::*;

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
            "/nothing",
            "/apis/metrics.k8s.io/v1/nothing",
        ] {
            let request = Request::builder().method(method).uri(path).body(()).unwrap();
            let answer = send(&api, request).await;
            let is_nothing = path.ends_with("nothing");
            // Probes of load balancers ask so.
            let is_taken =
                ["/readyz", "/openapi/v2", "/"].contains(&path) && ["HEAD", "OPTIONS"].contains(&method);
            let code = if is_nothing {
                404
            } else if is_taken {
                200
            } else {
                405
            };
            assert_eq!(answer.0.as_u16(), code, "{method} {path}");
            if method == "HEAD" {
                assert_eq!(&*answer.2, "", "{path}");
            }
            if method == "HEAD" || is_nothing || is_taken {
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
