//! Section 8: content negotiation.

use crate::{
    common::MASTER,
    world::{BASE, World, header},
};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

#[test]
fn json_and_protobuf_are_negotiated() {
    World::shared().table("section 8", async |rows, client| {
        let nodes = format!("{BASE}/v1/nodes");
        for (accept, kind) in [
            ("*/*", JSON),
            ("text/html,*/*", JSON),
            (JSON, JSON),
            (PROTOBUF, PROTOBUF),
            ("application/cbor,application/json", JSON),
            ("application/vnd.kubernetes.protobuf, */*", PROTOBUF),
            ("application/vnd.kubernetes.protobuf,application/json", PROTOBUF),
            ("application/json;q=0.9,application/cbor;q=1", JSON),
            ("application/json;q=0.1,application/vnd.kubernetes.protobuf;q=0.5", PROTOBUF),
            ("application/json,application/vnd.kubernetes.protobuf", JSON),
        ] {
            let answer = client.accepting(&nodes, accept).await;
            rows.same(accept, (answer.status.as_u16(), header(&answer, "content-type")), (200, kind));
        }
        let absent = client.get(&nodes).await;
        rows.same("no Accept", header(&absent, "content-type"), JSON);
        for accept in ["application/cbor", "text/html", "application/json;as=Nope;v=v1;g=meta.k8s.io"] {
            let answer = client.accepting(&nodes, accept).await;
            rows.same(accept, (answer.status.as_u16(), header(&answer, "content-type")), (406, JSON));
        }
        // kube-apiserver rewrites bodies of that type.
        for path in ["/", "/nope", "/healthz", "/metrics", "/version", &nodes] {
            let answer = client.accepting(path, "text/html").await;
            rows.holds(
                path,
                !header(&answer, "content-type").contains("html"),
                header(&answer, "content-type"),
            );
        }
    });
}

#[test]
fn metadata_alone_comes_in_every_type() {
    World::shared().table("section 8, metadata", async |rows, client| {
        for kind in [JSON, PROTOBUF] {
            for version in ["v1", "v1beta1"] {
                for (path, object) in
                    [("nodes", "PartialObjectMetadataList"), ("nodes/node-a", "PartialObjectMetadata")]
                {
                    let accept = format!("{kind};as={object};g=meta.k8s.io;v={version}");
                    let answer = client.accepting(&format!("{BASE}/v1/{path}"), &accept).await;
                    rows.same(
                        &accept,
                        (answer.status.as_u16(), header(&answer, "content-type")),
                        (200, kind),
                    );
                    let said = [object, &format!("meta.k8s.io/{version}"), "node-a"];
                    rows.holds(&accept, said.iter().all(|word| answer.body.contains(word)), &answer.body);
                    rows.holds(&accept, !answer.body.contains("500m"), &answer.body);
                }
            }
        }
    });
}

#[test]
fn yaml_is_negotiated() {
    World::shared().table("section 8, YAML", async |rows, client| {
        for (path, kind) in [
            ("/apis", "APIGroupList"),
            ("/apis/metrics.k8s.io", "APIGroup"),
            ("/apis/metrics.k8s.io/v1", "APIResourceList"),
            ("/apis/metrics.k8s.io/v1/nodes", "NodeMetricsList"),
            ("/apis/metrics.k8s.io/v1/namespaces/shop/pods/web-0", "PodMetrics"),
            ("/apis/metrics.k8s.io/v1/nodes/nope", "Status"),
        ] {
            let answer = client.accepting(path, YAML).await;
            rows.same(path, header(&answer, "content-type"), YAML);
            let line = format!("kind: {kind}");
            rows.holds(path, answer.body.lines().any(|known| known == line), &answer.body);
        }
        let accept = "application/yaml;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
        let answer = client.accepting(&format!("{BASE}/v1/nodes"), accept).await;
        rows.same(accept, (answer.status.as_u16(), header(&answer, "content-type")), (200, YAML));
    });
}

#[test]
fn pretty_is_for_people() {
    World::shared().table("section 8, pretty", async |rows, client| {
        let indented = |body: &str| body.starts_with("{\n  \"kind\": \"NodeMetricsList\",\n");
        let nodes = format!("{BASE}/v1/nodes");
        for agent in ["curl/8.0", "Wget/1.21", "Mozilla/5.0 (X11)"] {
            let answer = client.with(&nodes, "user-agent", agent).await;
            rows.holds(agent, indented(&answer.body), &answer.body);
            let path = format!("{nodes}?pretty=false");
            let answer =
                client.caller.get(&path, &[MASTER.as_slice(), &[("user-agent", agent)]].concat()).await;
            rows.holds("pretty=false", !indented(&answer.body), &answer.body);
        }
        let answer = client.get(&format!("{nodes}?pretty=true")).await;
        rows.holds("pretty=true", indented(&answer.body), &answer.body);
        let answer = client.with(&nodes, "user-agent", "kubectl/v1.37.2").await;
        rows.holds("kubectl", !indented(&answer.body), &answer.body);
    });
}
