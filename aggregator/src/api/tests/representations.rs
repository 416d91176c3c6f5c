//! What is answered in which type: OpenAPI, YAML, indented JSON, gzip.

use super::*;

#[tokio::test]
async fn openapi_documents_are_cached_by_etag_date_and_hash() {
    let api = api();
    let (status, headers, body) = ask(&api, "/openapi/v3", &[]).await;
    assert_eq!(
        (status, &headers[header::CONTENT_TYPE]),
        (StatusCode::OK, &"application/json".parse().unwrap())
    );
    let index: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut urls = vec!["/openapi/v2".to_owned(), "/openapi/v3".to_owned()];
    for entry in index["paths"].as_object().unwrap().values() {
        urls.push(entry["serverRelativeURL"].as_str().unwrap().to_owned());
    }
    assert_eq!(urls.len(), 5);
    for url in &urls {
        let (status, headers, body) = ask(&api, url, &[("accept", "application/json")]).await;
        assert_eq!(status, StatusCode::OK, "{url}");
        assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok());
        let etag = headers[header::ETAG].to_str().unwrap();
        assert_eq!(headers[header::LAST_MODIFIED], "Mon, 04 May 2026 10:00:07 GMT");
        assert_eq!(headers[header::VARY], "Accept");
        if url.contains("hash=") {
            assert_eq!(headers[header::CACHE_CONTROL], "public, immutable");
            assert_eq!(headers[header::EXPIRES], "Tue, 04 May 2027 10:00:07 GMT");
            // A hash of yesterday is answered with today's document, not with a redirect.
            let (path, _) = url.split_once('?').unwrap();
            let (status, headers, other) = ask(&api, &format!("{path}?hash=AB"), &[]).await;
            assert_eq!((status, other), (StatusCode::OK, body));
            assert_eq!(headers[header::CACHE_CONTROL], "no-cache, private");
        }
        let date = "Mon, 04 May 2026 10:00:07 GMT";
        for (name, value, code) in [
            ("if-none-match", etag, 304),
            ("if-none-match", &*format!("\"x\", W/{etag}"), 304),
            ("if-none-match", "*", 304),
            ("if-none-match", "\"x\"", 200),
            ("if-modified-since", date, 304),
            ("if-modified-since", "Mon, 04 May 2026 10:00:06 GMT", 200),
        ] {
            let (status, headers, body) = ask(&api, url, &[(name, value)]).await;
            assert_eq!(status, code, "{url} {name}: {value}");
            assert_eq!(body.is_empty(), code == 304);
            assert_eq!(headers[header::ETAG], etag);
        }
        let refused = ask(&api, url, &[("accept", "application/yaml")]).await;
        assert_eq!(refused.0, 406);
        assert!(failure(&refused).1.contains("Available representations: application/json"), "{url}");
    }
    for (url, version, begin) in
        [("/openapi/v2", "v2", "\x0a\x032.0"), ("/openapi/v3/apis/metrics.k8s.io/v1", "v3", "\x0a\x053.0.0")]
    {
        let kind = format!("application/com.github.proto-openapi.spec.{version}.v1.0+protobuf");
        for accept in [kind.clone(), kind.replace(".v1.0", "@v1.0")] {
            let request = Request::builder().uri(url).header("accept", accept).body(()).unwrap();
            let (head, body) = api.answer(request).await.into_parts();
            assert_eq!(
                (head.status, &head.headers[header::CONTENT_TYPE]),
                (StatusCode::OK, &kind.parse().unwrap())
            );
            assert!(body.collect().await.unwrap().to_bytes().starts_with(begin.as_bytes()));
        }
    }
    let none =
        ask(&api, "/openapi/v3", &[("accept", "application/com.github.proto-openapi.spec.v3@v1.0+protobuf")]);
    assert_eq!(none.await.0, 406);
}

#[tokio::test]
async fn yaml_says_what_json_says_in_sorted_keys() {
    let api = api();
    let yaml = concat!(
        "apiVersion: metrics.k8s.io/v1\nitems:\n- containers:\n  - name: web\n    usage:\n      cpu: 1234624492n\n",
        "      memory: 3145732Ki\n  - name: sidecar\n    usage:\n      cpu: '0'\n      memory: 1k\n  metadata:\n",
        "    creationTimestamp: '2026-05-04T10:00:07Z'\n    labels:\n      app: web\n    name: web-0\n",
        "    namespace: shop\n  timestamp: '2026-05-04T10:00:01Z'\n  window: 14.998s\nkind: PodMetricsList\nmetadata: {}\n",
    );
    let accept = [("accept", "application/yaml")];
    let (status, headers, body) = ask(&api, "/apis/metrics.k8s.io/v1/namespaces/shop/pods", &accept).await;
    assert_eq!((status, &*body.replace('"', "'")), (StatusCode::OK, yaml));
    assert_eq!(headers[header::CONTENT_TYPE], "application/yaml");
    for (path, begin) in [
        ("/apis/metrics.k8s.io/v1/nodes/a", "apiVersion: metrics.k8s.io/v1\nkind: NodeMetrics\nmetadata:\n"),
        (
            "/apis/metrics.k8s.io/v1beta1/namespaces/nope/pods",
            "apiVersion: metrics.k8s.io/v1beta1\nitems: []\nkind: ",
        ),
        (
            "/apis/metrics.k8s.io/v1/nodes/nope",
            "apiVersion: v1\ncode: 404\ndetails:\n  kind: node\n  name: nope\n",
        ),
        ("/apis", "groups:\n- name: metrics.k8s.io\n  preferredVersion:\n"),
        ("/apis/metrics.k8s.io", "apiVersion: v1\nkind: APIGroup\nname: metrics.k8s.io\n"),
        (
            "/apis/metrics.k8s.io/v1",
            "apiVersion: v1\ngroupVersion: metrics.k8s.io/v1\nkind: APIResourceList\n",
        ),
    ] {
        let (_, headers, body) = ask(&api, path, &accept).await;
        assert!(body.starts_with(begin), "{path}: {body}");
        assert_eq!(headers[header::CONTENT_TYPE], "application/yaml");
    }
    let table = [("accept", "application/yaml;as=Table;v=v1;g=meta.k8s.io")];
    let (_, _, body) = ask(&api, "/apis/metrics.k8s.io/v1/nodes?includeObject=None", &table).await;
    assert!(body.starts_with("apiVersion: meta.k8s.io/v1\ncolumnDefinitions:\n- description: "), "{body}");
    assert!(
        body.ends_with("rows:\n- cells:\n  - a\n  - 250m\n  - 1Gi\n  - 14.998s\n  object: null\n"),
        "{body}"
    );
}

#[tokio::test]
async fn people_are_answered_with_indented_json() {
    let api = api();
    for path in [
        "/apis",
        "/apis/metrics.k8s.io/v1",
        "/apis/metrics.k8s.io/v1/pods",
        "/apis/metrics.k8s.io/v1/nodes/a",
        "/apis/metrics.k8s.io/v1/nodes/nope",
    ] {
        let (_, _, plain) = ask(&api, path, &[]).await;
        let document: serde_json::Value = serde_json::from_str(&plain).unwrap();
        for (query, header) in [("?pretty=1", ("accept", "*/*")), ("", ("user-agent", "curl/8.5.0"))] {
            let (_, headers, body) = ask(&api, &format!("{path}{query}"), &[header]).await;
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            assert!(body.starts_with("{\n  \"kind\": \"") && body.ends_with("\n}"), "{body}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), document, "{path}");
        }
    }
}

#[tokio::test]
async fn long_lists_are_compressed_for_those_who_ask() {
    let api = api();
    let mut view = NodeView::default();
    for index in 0..2000_u32 {
        let name = format!("pod-{index:05}");
        api.source.inventory.apply_pod(mk_pod("many", &name, "many", &[("app", "web")], true));
        set(&api.source, &mut view, ("many", &name), 0, &[("c", usage(u64::from(index), 1024))]);
    }
    api.source.views.publish("many".into(), view);
    let fetch = async |path: &str, accept: &str| {
        let request = Request::builder()
            .uri(format!("/apis/metrics.k8s.io/v1/{path}"))
            .header("accept", accept)
            .header("accept-encoding", "gzip");
        let (head, body) = api.answer(request.body(()).unwrap()).await.into_parts();
        (head.headers, body.collect().await.unwrap().to_bytes())
    };
    for accept in ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"] {
        let (headers, bytes) = fetch("pods", accept).await;
        assert_eq!(headers[header::CONTENT_ENCODING], "gzip", "{accept}");
        assert_eq!(headers[header::VARY], "Accept-Encoding");
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*bytes), &mut plain).unwrap();
        assert!(plain.len() > 5 * bytes.len(), "{} of {}", bytes.len(), plain.len());
        let text = String::from_utf8_lossy(&plain);
        assert_eq!(text.matches("pod-").count(), 2000, "{accept}");
        let (headers, bytes) = fetch("namespaces/shop/pods", accept).await;
        assert!(!headers.contains_key(header::CONTENT_ENCODING) && !headers.contains_key(header::VARY));
        assert!(bytes.len() < 1000);
    }
}
