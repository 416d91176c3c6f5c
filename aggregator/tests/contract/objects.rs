//! Sections 5 and 13: objects byte by byte, and what two reads have in common.

use crate::world::{BASE, World, header, since_epoch};

/// `"key":"…"` of a body, without the key.
fn text<'a>(body: &'a str, key: &str) -> &'a str {
    let (_, rest) = body.split_once(&format!("\"{key}\":\"")).unwrap();
    rest.split_once('"').unwrap().0
}

/// Whole seconds since 1970 of `2026-05-04T10:00:01Z`; nothing else has that length and end.
fn seconds(stamp: &str) -> i64 {
    assert!(stamp.len() == 20 && stamp.ends_with('Z'), "{stamp}");
    stamp.parse::<jiff::Timestamp>().unwrap().as_second()
}

/// The bytes of the shop's pods at these times.
fn shop(version: &str, created: &str, stamp: &str) -> String {
    let head = format!(
        r#"{{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/{version}","metadata":{{}},"items":["#
    );
    let times = format!(r#""timestamp":"{stamp}","window":"2s""#);
    let db = format!(
        r#"{{"metadata":{{"name":"db-0","namespace":"shop","creationTimestamp":"{created}"}},{times},"containers":[{{"name":"db","usage":{{"cpu":"250m","memory":"50Mi"}}}}]}}"#
    );
    let labels = r#""labels":{"app":"web","rev":"7","tier":"front"}"#;
    let web = format!(
        r#"{{"metadata":{{"name":"web-0","namespace":"shop","creationTimestamp":"{created}",{labels}}},{times},"containers":[{}]}}"#,
        [
            r#"{"name":"web","usage":{"cpu":"1234624492n","memory":"3145732Ki"}}"#,
            r#"{"name":"extra","usage":{"cpu":"0","memory":"0"}}"#,
            r#"{"name":"proxy","usage":{"cpu":"1","memory":"4Ki"}}"#,
            r#"{"name":"debug","usage":{"cpu":"1500u","memory":"12Ki"}}"#,
        ]
        .join(",")
    );
    format!("{head}{db},{web}]}}\n")
}

#[test]
fn objects_are_these_bytes() {
    World::shared().table("section 5", async |rows, client| {
        for version in ["v1", "v1beta1"] {
            let path = |rest: &str| format!("{BASE}/{version}/{rest}");
            let list = client.get(&path("namespaces/shop/pods")).await.body;
            let (created, stamp) = (text(&list, "creationTimestamp"), text(&list, "timestamp"));
            rows.same("list of pods", &*list, &shop(version, created, stamp));

            let one = client.get(&path("namespaces/shop/pods/db-0")).await.body;
            let created = text(&one, "creationTimestamp");
            let expected = format!(
                r#"{{"kind":"PodMetrics","apiVersion":"metrics.k8s.io/{version}","metadata":{{"name":"db-0","namespace":"shop","creationTimestamp":"{created}"}},"timestamp":"{stamp}","window":"2s","containers":[{{"name":"db","usage":{{"cpu":"250m","memory":"50Mi"}}}}]}}"#
            );
            rows.same("a pod", one.trim_end(), &expected);

            let one = client.get(&path("nodes/node-a")).await.body;
            let created = text(&one, "creationTimestamp");
            let node = format!(
                r#""metadata":{{"name":"node-a","creationTimestamp":"{created}","labels":{{"zone":"node-a"}}}},"timestamp":"{stamp}","window":"2s","usage":{{"cpu":"500m","memory":"512Mi"}}}}"#
            );
            let head = format!(r#"{{"kind":"NodeMetrics","apiVersion":"metrics.k8s.io/{version}","#);
            rows.same("a node", one.trim_end(), &format!("{head}{node}"));

            let empty = client.get(&path("namespaces/nowhere/pods")).await.body;
            let expected = format!(
                "{{\"kind\":\"PodMetricsList\",\"apiVersion\":\"metrics.k8s.io/{version}\",\"metadata\":{{}},\"items\":[]}}\n"
            );
            rows.same("an empty list", empty, expected);
        }
    });
}

#[test]
fn times_are_those_of_the_request_and_of_the_sample() {
    World::shared().table("section 5.2", async |rows, client| {
        let second = || i64::try_from(since_epoch() / 1_000_000_000).unwrap();
        let before = second();
        let body = client.get(&format!("{BASE}/v1/nodes/node-a")).await.body;
        let created = seconds(text(&body, "creationTimestamp"));
        rows.holds("creationTimestamp is the request's", (before..=second()).contains(&created), created);
        let stamp = seconds(text(&body, "timestamp"));
        rows.holds("timestamp is the sample's", stamp <= before && before - stamp < 1800, stamp);
    });
}

#[test]
fn lists_are_in_order() {
    World::shared().table("section 5, orders", async |rows, client| {
        let list = client.get(&format!("{BASE}/v1/pods")).await.json();
        let items = list["items"].as_array().unwrap();
        let name = |item: &serde_json::Value| {
            let of = |key: &str| item["metadata"][key].as_str().unwrap().to_owned();
            (of("namespace"), of("name"))
        };
        let names: Vec<_> = items.iter().map(name).collect();
        let mut sorted = names.clone();
        sorted.sort();
        sorted.dedup();
        rows.holds("pods by namespace, then name, none twice", names.len() == 22 && names == sorted, &names);
        let absent = items.iter().all(|item| item.get("kind").is_none() && item.get("apiVersion").is_none());
        rows.holds("items have no kind", absent, items);
        let known = ["name", "namespace", "creationTimestamp", "labels"];
        let plain = items.iter().all(|item| {
            item["metadata"].as_object().unwrap().keys().all(|key| known.contains(&key.as_str()))
        });
        rows.holds("metadata has nothing else", plain, items);
    });
}

#[test]
fn reads_agree() {
    World::shared().table("section 13", async |rows, client| {
        let read = async |path: &str| {
            let body = client.get(path).await.body;
            // With its key: a sample's timestamp can be the same second.
            let created = format!(r#""creationTimestamp":"{}""#, text(&body, "creationTimestamp"));
            body.replace(&created, "")
        };
        for path in ["pods", "nodes", "namespaces/shop/pods/web-0"] {
            let first = read(&format!("{BASE}/v1/{path}")).await;
            rows.same(
                "two reads without a report between",
                read(&format!("{BASE}/v1/{path}")).await,
                first.clone(),
            );
            let beta = read(&format!("{BASE}/v1beta1/{path}")).await;
            let as_v1 = beta.replace("metrics.k8s.io/v1beta1", "metrics.k8s.io/v1");
            rows.same("v1 and v1beta1 differ in apiVersion alone", as_v1, first);
            rows.holds("v1beta1 says so", beta.contains("metrics.k8s.io/v1beta1"), &beta);
        }
        let answer = client.get(&format!("{BASE}/v1/nodes")).await;
        rows.same("type", header(&answer, "content-type"), "application/json");
    });
}
