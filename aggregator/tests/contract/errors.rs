//! Section 12: error answers, whole bodies.

use serde_json::{Value, json};

use crate::{
    common::MASTER,
    world::{BASE, Client, Rows, World, header},
};

fn status(code: u16, reason: &str, message: &str, details: Option<Value>) -> Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason,
        "code": code,
    });
    if let Some(details) = details {
        status["details"] = details;
    }
    status
}

async fn row(rows: &mut Rows, client: &Client<'_>, path: &str, headers: &[(&str, &str)], expected: Value) {
    let answer = client.caller.get(path, headers).await;
    let code = u64::from(answer.status.as_u16());
    rows.same(path, Some(code), expected["code"].as_u64());
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| json!(answer.body));
    rows.same(path, body, expected);
    if code == 403 {
        rows.same("nosniff", header(&answer, "x-content-type-options"), "nosniff");
    }
}

#[test]
fn what_is_not_there_is_told_apart() {
    World::shared().table("section 12, 404", async |rows, client| {
        let v = format!("{BASE}/v1beta1");
        let found = "the server could not find the requested resource";
        for (path, message, details) in [
            (
                "nodes/node-b",
                r#"nodemetrics.metrics.k8s.io "node-b" not found"#,
                json!({"name": "node-b", "group": "metrics.k8s.io", "kind": "nodemetrics"}),
            ),
            ("nodes/nope", r#"node "nope" not found"#, json!({"name": "nope", "kind": "node"})),
            (
                "namespaces/shop/pods/new",
                r#"podmetrics.metrics.k8s.io "shop/new" not found"#,
                json!({"name": "shop/new", "group": "metrics.k8s.io", "kind": "podmetrics"}),
            ),
            (
                "namespaces/shop/pods/nope",
                r#"pods "nope" not found"#,
                json!({"name": "nope", "kind": "pods"}),
            ),
            (
                "namespaces/shop/pods/done",
                r#"pods "done" not found"#,
                json!({"name": "done", "kind": "pods"}),
            ),
            (
                "namespaces/shop/pods/waiting",
                r#"pods "waiting" not found"#,
                json!({"name": "waiting", "kind": "pods"}),
            ),
            ("deployments", found, json!({})),
            ("nodes/node-a/status", found, json!({})),
            ("Nodes", found, json!({})),
            ("watch/nodes", found, json!({})),
        ] {
            let expected = status(404, "NotFound", message, Some(details));
            row(rows, client, &format!("{v}/{path}"), &MASTER, expected).await;
        }
    });
}

#[test]
fn bad_requests_are_told_why() {
    World::shared().table("section 12, 400, 405, 406", async |rows, client| {
        let v = format!("{BASE}/v1");
        for (path, message) in [
            ("pods?labelSelector=a!%3D%3D%3Db", "unable to parse requirement: found '==', expected: identifier"),
            ("nodes?labelSelector=a+in+b", "unable to parse requirement: found 'b' expected: '('"),
            (
                "pods?fieldSelector=status.phase%3DRunning",
                r#""status.phase" is not a known field selector: only "metadata.name", "metadata.namespace""#,
            ),
            (
                "nodes?fieldSelector=spec.nodeName%3Da",
                r#""spec.nodeName" is not a known field selector: only "metadata.name", "metadata.namespace""#,
            ),
        ] {
            let expected = status(400, "BadRequest", message, None);
            row(rows, client, &format!("{v}/{path}"), &MASTER, expected).await;
        }
        for (resource, kind) in [("pods", "pods"), ("nodes", "nodes"), ("namespaces/shop/pods", "pods")] {
            let message = format!("watch is not supported on resources of kind \"{kind}.metrics.k8s.io\"");
            let details = json!({"group": "metrics.k8s.io", "kind": kind});
            let expected = status(405, "MethodNotAllowed", &message, Some(details));
            row(rows, client, &format!("{v}/{resource}?watch=true"), &MASTER, expected).await;
        }
    });
}

#[test]
fn what_is_not_written_is_refused_with_what_is() {
    World::shared().table("section 12, 406", async |rows, client| {
        let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
        let unknown = format!(
            "406: Not Acceptable\n\nAvailable representations: {types}, application/json;stream=watch, \
             application/vnd.kubernetes.protobuf;stream=watch"
        );
        let conversion = format!("only the following media types are accepted: {types}");
        // The first text is written by another layer of the library, which adds empty details.
        let discovery = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";
        let nodes = format!("{BASE}/v1/nodes");
        for (path, accept, message, details) in [
            (&*nodes, "application/cbor", &unknown, Some(json!({}))),
            (&nodes, "application/json;as=Nope;v=v1;g=meta.k8s.io", &conversion, None),
            (&nodes, "application/json;as=Table;v=v2;g=meta.k8s.io", &conversion, None),
            (&nodes, "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", &conversion, None),
            ("/apis", discovery, &conversion, None),
        ] {
            let headers = [MASTER.as_slice(), &[("accept", accept)]].concat();
            row(rows, client, path, &headers, status(406, "NotAcceptable", message, details)).await;
        }
    });
}

#[test]
fn who_may_not_is_told_so() {
    World::shared().table("section 12, 403", async |rows, client| {
        let bob = [("x-remote-user", "bob")];
        let group = r#"in API group "metrics.k8s.io""#;
        let resource = |name: &str, kind: &str| {
            if name.is_empty() {
                json!({"group": "metrics.k8s.io", "kind": kind})
            } else {
                json!({"name": name, "group": "metrics.k8s.io", "kind": kind})
            }
        };
        for (path, message, details) in [
            (
                "/apis/metrics.k8s.io/v1/nodes",
                format!(r#"nodes.metrics.k8s.io is forbidden: User "bob" cannot list resource "nodes" {group} at the cluster scope"#),
                resource("", "nodes"),
            ),
            (
                "/apis/metrics.k8s.io/v1/nodes/node-a",
                format!(r#"nodes.metrics.k8s.io "node-a" is forbidden: User "bob" cannot get resource "nodes" {group} at the cluster scope"#),
                resource("node-a", "nodes"),
            ),
            (
                "/apis/metrics.k8s.io/v1beta1/namespaces/shop/pods",
                format!(r#"pods.metrics.k8s.io is forbidden: User "bob" cannot list resource "pods" {group} in the namespace "shop""#),
                resource("", "pods"),
            ),
            (
                "/apis/metrics.k8s.io/v1/namespaces/shop/pods/web-0",
                format!(r#"pods.metrics.k8s.io "web-0" is forbidden: User "bob" cannot get resource "pods" {group} in the namespace "shop""#),
                resource("web-0", "pods"),
            ),
            (
                "/apis/metrics.k8s.io/v1/pods?watch=true",
                format!(r#"pods.metrics.k8s.io is forbidden: User "bob" cannot watch resource "pods" {group} at the cluster scope"#),
                resource("", "pods"),
            ),
            ("/metrics", r#"forbidden: User "bob" cannot get path "/metrics""#.to_owned(), json!({})),
            ("/readyz/ping", r#"forbidden: User "bob" cannot get path "/readyz/ping""#.to_owned(), json!({})),
        ] {
            row(rows, client, path, &bob, status(403, "Forbidden", &message, Some(details))).await;
        }
        let unauthorized = status(401, "Unauthorized", "Unauthorized", None);
        let nodes = format!("{BASE}/v1/nodes");
        row(rows, client, &nodes, &[("authorization", "Bearer unknown")], unauthorized).await;
    });
}

#[test]
fn failures_come_in_the_negotiated_type() {
    World::shared().table("section 12, types", async |rows, client| {
        let nope = format!("{BASE}/v1/nodes/nope");
        for (accept, kind) in [
            ("application/vnd.kubernetes.protobuf, */*", "application/vnd.kubernetes.protobuf"),
            ("application/json", "application/json"),
            ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", "application/json"),
        ] {
            let answer = client.accepting(&nope, accept).await;
            rows.same(accept, (answer.status.as_u16(), header(&answer, "content-type")), (404, kind));
        }
        for path in ["/api", "/apix"] {
            let answer = client.get(path).await;
            let body = answer.json();
            rows.same(path, answer.status.as_u16(), 404);
            rows.holds(path, body.get("paths").is_some() && body.get("kind").is_none(), &body);
        }
    });
}
