//! Objects, lists and Tables, byte by byte.

use super::*;

#[tokio::test]
async fn objects_and_lists_are_these_bytes_in_both_versions() {
    let api = api();
    for version in ["v1", "v1beta1"] {
        let list = |kind: &str, items: &str| {
            format!(
                "{{\"kind\":\"{kind}\",\"apiVersion\":\"metrics.k8s.io/{version}\",\"metadata\":{{}},\"items\":[{items}]}}\n"
            )
        };
        let one = |kind: &str, rest: &str| {
            format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"metrics.k8s.io/{version}\",{rest}\n")
        };
        for (path, expected) in [
            ("pods", list("PodMetricsList", &format!("{{{DB},{{{WEB}"))),
            ("namespaces/shop/pods", list("PodMetricsList", &format!("{{{WEB}"))),
            ("namespaces/nope/pods", list("PodMetricsList", "")),
            ("pods?labelSelector=app%3Dweb", list("PodMetricsList", &format!("{{{WEB}"))),
            ("pods?labelSelector=app!%3Dweb&limit=1", list("PodMetricsList", &format!("{{{DB}"))),
            ("pods?fieldSelector=metadata.namespace%3Ddb", list("PodMetricsList", &format!("{{{DB}"))),
            ("nodes", list("NodeMetricsList", &format!("{{{NODE}"))),
            ("nodes?labelSelector=zone+in+(b)", list("NodeMetricsList", "")),
            ("nodes?fieldSelector=metadata.name%3Da", list("NodeMetricsList", &format!("{{{NODE}"))),
            ("nodes/a", one("NodeMetrics", NODE)),
            ("namespaces/shop/pods/web-0", one("PodMetrics", WEB)),
        ] {
            let (status, headers, body) =
                ask(&api, &format!("/apis/metrics.k8s.io/{version}/{path}"), &[]).await;
            assert_eq!((status, body), (StatusCode::OK, expected), "{path}");
            assert_eq!(headers[header::CONTENT_TYPE], "application/json");
            assert_eq!(headers[header::CACHE_CONTROL], "no-cache, private");
            assert_eq!(headers["audit-id"].len(), 36);
        }
    }
}

#[tokio::test]
async fn swap_is_served_only_where_it_was_switched_on() {
    let api = api_with(Decision::Allow, Settings { now, swap: true, ..Settings::default() });
    let (_, _, body) = ask(&api, "/apis/metrics.k8s.io/v1/nodes/a", &[]).await;
    assert!(body.contains(r#""usage":{"cpu":"250m","memory":"1Gi","swap":"4Ki"}"#), "{body}");
}

#[tokio::test]
async fn a_table_has_a_column_for_swap_where_one_of_its_objects_has_swap() {
    let source = source();
    let without = |usage: Usage| Usage { swap: None, ..usage };
    let mut view = (*source.views.node("a").unwrap()).clone();
    set(&source, &mut view, ("db", "db-0"), 0, &[("db", without(usage(1_500_000, 52_428_800)))]);
    source.views.publish("a".into(), view);
    let api = api_of(source, Decision::Allow, Settings { now, swap: true, ..Settings::default() });
    let table = async |path: &str| -> serde_json::Value {
        let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
        serde_json::from_str(&ask(&api, &format!("/apis/metrics.k8s.io/v1/{path}"), &accept).await.2).unwrap()
    };
    let columns = |table: &serde_json::Value| -> Vec<String> {
        let columns = table["columnDefinitions"].as_array().unwrap().iter();
        columns.map(|column| column["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = table("pods").await;
    assert_eq!(columns(&all), ["Name", "cpu", "memory", "swap", "Window"]);
    assert_eq!(all["rows"][0]["cells"], serde_json::json!(["db-0", "1500u", "50Mi", "0", "14.998s"]));
    assert_eq!(all["rows"][1]["cells"][3], "8Ki", "the sum over its containers");
    for path in ["namespaces/db/pods", "namespaces/db/pods/db-0"] {
        assert_eq!(columns(&table(path).await), ["Name", "cpu", "memory", "Window"], "{path}");
    }
    let node = table("nodes/a").await;
    assert_eq!((columns(&node).len(), &node["rows"][0]["cells"][3]), (5, &serde_json::json!("4Ki")));
}

#[tokio::test]
async fn tables_are_these_bytes() {
    let api = api();
    let columns = concat!(
        r#""columnDefinitions":[{"name":"Name","type":"string","format":"name","description":"Name of the resource","priority":0},"#,
        r#"{"name":"cpu","type":"string","format":"quantity","description":"","priority":0},"#,
        r#"{"name":"memory","type":"string","format":"quantity","description":"","priority":0},"#,
        r#"{"name":"Window","type":"string","format":"duration","description":"","priority":0}]"#
    );
    let metadata = r#""metadata":{"name":"web-0","namespace":"shop","creationTimestamp":"2026-05-04T10:00:07Z","labels":{"app":"web"}}"#;
    for version in ["v1", "v1beta1"] {
        let table = |rest: &str| {
            format!(
                "{{\"kind\":\"Table\",\"apiVersion\":\"meta.k8s.io/{version}\",\"metadata\":{{}},{rest}}}\n"
            )
        };
        let row = |object: &str| {
            // The pod's cells are the sums over its containers.
            table(&format!(
                r#"{columns},"rows":[{{"cells":["web-0","1234624492n","3221230568","14.998s"],"object":{object}}}]"#
            ))
        };
        let partial =
            format!(r#"{{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/{version}",{metadata}}}"#);
        let full = format!(r#"{{"kind":"PodMetrics","apiVersion":"metrics.k8s.io/v1beta1",{WEB}"#);
        for (path, expected) in [
            ("namespaces/shop/pods", row(&partial)),
            ("namespaces/shop/pods/web-0", row(&partial)),
            ("namespaces/shop/pods?includeObject=Metadata", row(&partial)),
            ("namespaces/shop/pods?includeObject=None", row("null")),
            ("namespaces/shop/pods?includeObject=Object", row(&full)),
            ("namespaces/nope/pods", table(r#""columnDefinitions":null,"rows":null"#)),
        ] {
            let accept = format!("application/json;as=Table;v={version};g=meta.k8s.io");
            let headers = [("accept", accept.as_str())];
            let (status, _, body) =
                ask(&api, &format!("/apis/metrics.k8s.io/v1beta1/{path}"), &headers).await;
            assert_eq!((status, body), (StatusCode::OK, expected), "{path}");
        }
    }
    let headers = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let bad = ask(&api, "/apis/metrics.k8s.io/v1/pods?includeObject=Bad", &headers).await;
    let text = "Unable to convert to Table as requested: includeObject: Invalid value: \"Bad\": must be 'Metadata', \
                'Object', 'None', or empty";
    assert_eq!(failure(&bad), (400, text.to_owned()));
}

#[tokio::test]
async fn metadata_alone_can_be_asked_for() {
    let api = api();
    let metadata = r#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"db-0","namespace":"db","creationTimestamp":"2026-05-04T10:00:07Z"}}"#;
    let list = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let (_, _, body) = ask(&api, "/apis/metrics.k8s.io/v1/namespaces/db/pods", &list).await;
    let head = r#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{},"items":["#;
    assert_eq!(body, format!("{head}{metadata}]}}\n"));
    let one = [("accept", "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io")];
    let (_, _, body) = ask(&api, "/apis/metrics.k8s.io/v1/namespaces/db/pods/db-0", &one).await;
    assert_eq!(body, format!("{metadata}\n"));
}

#[tokio::test]
async fn long_lists_come_in_frames_and_lose_nothing() {
    let api = api();
    let pods: u32 = 2000;
    let mut view = NodeView::default();
    for index in 0..pods {
        let name = format!("pod-{index:05}");
        api.source.inventory.apply_pod(mk_pod("many", &name, "many", &[("app", "web")], true));
        set(&api.source, &mut view, ("many", &name), 0, &[("c", usage(u64::from(index), 1024))]);
    }
    api.source.views.publish("many".into(), view);
    let request = Request::builder().uri("/apis/metrics.k8s.io/v1/namespaces/many/pods").body(()).unwrap();
    let mut body = api.answer(request).await.into_body();
    let (mut frames, mut whole) = (Vec::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        frames.push(data.len());
        whole.extend_from_slice(&data);
    }
    assert!(frames.len() > 3 && frames.iter().all(|length| *length < 80 * 1024), "{frames:?}");
    let list: serde_json::Value = serde_json::from_slice(&whole).unwrap();
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 2000);
    for (index, item) in items.iter().enumerate() {
        assert_eq!(item["metadata"]["name"], format!("pod-{index:05}"));
    }
    assert_eq!(items[7]["containers"][0]["usage"]["cpu"], "7n");
}
