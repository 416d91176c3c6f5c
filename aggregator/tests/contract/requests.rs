//! Sections 10 and 11: query parameters, methods, headers, compression.

use http::Method;
use serde_json::{Value, json};

use crate::{
    common::{MASTER, Protocol},
    world::{BASE, World, header},
};

#[test]
fn selectors_select() {
    World::shared().table("section 10, selectors", async |rows, client| {
        for (query, expected) in [
            ("labelSelector=app%3Dweb", &["web-0"][..]),
            ("labelSelector=app%3D%3Dweb", &["web-0"]),
            ("labelSelector=app!%3Dweb", &["db-0"]),
            ("labelSelector=app", &["web-0"]),
            ("labelSelector=!app", &["db-0"]),
            ("labelSelector=tier+in+(front,back)", &["web-0"]),
            ("labelSelector=tier+notin+(front,back)", &["db-0"]),
            ("labelSelector=rev%3E6,rev%3C8", &["web-0"]),
            ("labelSelector=app%3Dweb,tier%3Dback", &[]),
            ("labelSelector=", &["db-0", "web-0"]),
            ("labelSelector=%zz", &["db-0", "web-0"]),
            ("fieldSelector=metadata.name%3Dweb-0", &["web-0"]),
            ("fieldSelector=metadata.name%3D%3Dweb-0,metadata.namespace%3Dshop", &["web-0"]),
            ("fieldSelector=metadata.name!%3Dweb-0", &["db-0"]),
            ("fieldSelector=metadata.namespace%3Dother", &[]),
            ("labelSelector=app%3Dweb&fieldSelector=metadata.name%3Ddb-0", &[]),
        ] {
            let answer = client.get(&format!("{BASE}/v1/namespaces/shop/pods?{query}")).await;
            let names: Vec<Value> = answer.json()["items"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|i| i["metadata"]["name"].clone())
                .collect();
            let expected: Vec<Value> = expected.iter().map(|name| json!(name)).collect();
            rows.same(query, names, expected);
        }
        let nodes = client.get(&format!("{BASE}/v1/nodes?labelSelector=zone%3Dnode-a")).await.json();
        rows.same("nodes by label", nodes["items"][0]["metadata"]["name"].clone(), json!("node-a"));
        let nodes =
            client.get(&format!("{BASE}/v1/nodes?fieldSelector=metadata.namespace%3Dshop")).await.json();
        rows.same("nodes have no namespace", nodes["items"].clone(), json!([]));
    });
}

#[test]
fn parameters_are_taken_or_ignored() {
    World::shared().table("section 10", async |rows, client| {
        for query in [
            "limit=1",
            "limit=-1",
            "limit=500&continue=abc",
            "resourceVersion=zzz",
            "resourceVersion=0&resourceVersionMatch=NotOlderThan",
            "timeoutSeconds=1",
            "timeout=30s",
            "unknown=1&another",
            "watch=false",
            "watch=0",
            "pretty=false",
            "allowWatchBookmarks=true",
        ] {
            let answer = client.get(&format!("{BASE}/v1/namespaces/shop/pods?{query}")).await;
            let list = answer.json();
            rows.same(query, (answer.status.as_u16(), list["items"].as_array().map(Vec::len)), (200, Some(2)));
            rows.same(query, list["metadata"].clone(), json!({}));
        }
        let invalid = |what: &str| format!("ListOptions.meta.k8s.io \"\" is invalid: {what}");
        let events = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
        let matching =
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
        for (query, code, reason, message) in [
            ("limit=x", 400, "BadRequest", "strconv.ParseInt: parsing \"x\": invalid syntax".to_owned()),
            ("resourceVersionMatch=Exact", 422, "Invalid", invalid(matching)),
            ("sendInitialEvents=true", 422, "Invalid", invalid(events)),
        ] {
            let status = client.get(&format!("{BASE}/v1/pods?{query}")).await.json();
            rows.same(query, (&status["code"], &status["reason"]), (&json!(code), &json!(reason)));
            rows.same(query, status["message"].clone(), json!(message));
        }
        let details = client.get(&format!("{BASE}/v1/pods?sendInitialEvents=true")).await.json()["details"].clone();
        rows.same("details", (&details["group"], &details["kind"]), (&json!("meta.k8s.io"), &json!("ListOptions")));
        rows.same("causes", details["causes"][0]["field"].clone(), json!("sendInitialEvents"));
        let timeout = client.get(&format!("{BASE}/v1/pods?timeout=soon")).await;
        rows.same("timeout=soon", timeout.status.as_u16(), 400);
        let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let bad = client.accepting(&format!("{BASE}/v1/pods?includeObject=Bad"), table).await.json();
        let message = "Unable to convert to Table as requested: includeObject: Invalid value: \"Bad\": must be 'Metadata', \
                       'Object', 'None', or empty";
        rows.same("includeObject", (&bad["code"], &bad["message"]), (&json!(400), &json!(message)));
    });
}

#[test]
fn other_methods_are_refused() {
    World::shared().table("section 11, methods", async |rows, client| {
        for method in
            [Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::HEAD, Method::OPTIONS]
        {
            for path in [
                "/apis/metrics.k8s.io/v1/nodes",
                "/apis/metrics.k8s.io/v1/namespaces/shop/pods/web-0",
                "/apis",
            ] {
                let row = format!("{method} {path}");
                let answer = client.caller.send(&method, path, &MASTER).await;
                rows.same(&row, answer.status.as_u16(), 405);
                if method != Method::HEAD {
                    let status = answer.json();
                    let text = "the server does not allow this method on the requested resource";
                    rows.same(&row, status["message"].clone(), json!(text));
                    let rest = (&status["reason"], &status["details"]);
                    rows.same(&row, rest, (&json!("MethodNotAllowed"), &json!({})));
                }
            }
        }
    });
}

#[test]
fn answers_carry_these_headers() {
    World::shared().table("section 11, headers", async |rows, client| {
        for path in
            ["/apis/metrics.k8s.io/v1/nodes/node-a", "/apis/metrics.k8s.io/v1/namespaces/shop/pods", "/apis"]
        {
            let answer = client.get(path).await;
            rows.same(path, header(&answer, "cache-control"), "no-cache, private");
            rows.same(path, header(&answer, "content-type"), "application/json");
            rows.same(path, header(&answer, "audit-id").len(), 36);
            rows.holds(path, answer.body.ends_with("}\n"), &answer.body);
            let length = header(&answer, "content-length");
            let fits = length.is_empty() || length == answer.bytes.len().to_string();
            rows.holds(path, fits, length);
        }
        let one = client.get("/apis/metrics.k8s.io/v1/nodes/node-a").await;
        rows.same("Content-Length", header(&one, "content-length"), &*one.bytes.len().to_string());
        let echoed = client.with("/apis", "audit-id", "abc-1").await;
        rows.same("Audit-ID", header(&echoed, "audit-id"), "abc-1");
        let master = MASTER.as_slice();
        if client.protocol == Protocol::Http1 {
            let upgrade = [master, &[("connection", "upgrade"), ("upgrade", "websocket")]].concat();
            let answer = client.caller.get("/apis", &upgrade).await;
            rows.same("Upgrade", answer.status.as_u16(), 400);
        }
    });
}

#[test]
fn long_answers_are_compressed() {
    World::shared().table("section 11, compression", async |rows, client| {
        let many = format!("{BASE}/v1/namespaces/many/pods");
        let plain = client.get(&many).await;
        rows.holds("the list is long enough", plain.bytes.len() > 128 << 10, plain.bytes.len());
        rows.same("not offered", header(&plain, "content-encoding"), "");
        let packed = client.with(&many, "accept-encoding", "gzip").await;
        rows.same("offered", header(&packed, "content-encoding"), "gzip");
        rows.holds("vary", header(&packed, "vary").contains("Accept-Encoding"), header(&packed, "vary"));
        rows.holds("gzip's first bytes", packed.bytes.starts_with(&[0x1f, 0x8b]), packed.bytes.len());
        rows.holds("shorter", packed.bytes.len() * 4 < plain.bytes.len(), packed.bytes.len());
        let short = client.with(&format!("{BASE}/v1/namespaces/shop/pods"), "accept-encoding", "gzip").await;
        rows.same("short", header(&short, "content-encoding"), "");
        rows.same(
            "another coding",
            header(&client.with(&many, "accept-encoding", "br").await, "content-encoding"),
            "",
        );
    });
}
