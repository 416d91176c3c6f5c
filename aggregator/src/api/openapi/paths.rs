//! The operations: which path is asked how, and what is answered.

use serde_json::{Value, json};

use super::{
    Dialect, Part, Version,
    schemas::{self, INFO, META},
};

/// What documents and resources come in.
const TYPES: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];

/// The paths of a part, each with its only operation.
pub fn of(dialect: Dialect, part: Part) -> Vec<(String, Value)> {
    match part {
        Part::Groups => vec![document(
            dialect,
            "/apis/",
            ("getAPIVersions", "apis", "The groups that are served."),
            "APIGroupList",
        )],
        Part::Group => vec![document(
            dialect,
            "/apis/metrics.k8s.io/",
            ("getMetricsAPIGroup", "metrics", "The versions of the group."),
            "APIGroup",
        )],
        Part::Code => {
            vec![document(dialect, "/version/", ("getCodeVersion", "version", "What program answers."), "")]
        }
        Part::Version(version) => resources(dialect, version),
    }
}

fn document(
    dialect: Dialect,
    path: &str,
    (id, tag, description): (&str, &str, &str),
    kind: &str,
) -> (String, Value) {
    let operation = if kind.is_empty() {
        operation(dialect, &TYPES[..1], id, tag, description, INFO)
    } else {
        operation(dialect, &TYPES, id, tag, description, &format!("{META}.{kind}"))
    };
    (path.to_owned(), json!({ "get": operation }))
}

/// A resource's operations: list everywhere, list in a namespace where there are any, get.
fn resources(dialect: Dialect, version: Version) -> Vec<(String, Value)> {
    let name = version.name();
    let base = format!("/apis/metrics.k8s.io/{name}");
    let (capital, tag) = (format!("MetricsV{}", &name[1..]), format!("metrics_{name}"));
    let id = |verb: &str, what: &str| format!("{verb}{capital}{what}");
    let action = |verb: &str, what: &str, text: &str, kind: &str, listed: bool| {
        let list = if listed { "List" } else { "" };
        let answer = schemas::name_of(version, &format!("{kind}{list}"));
        let mut operation = operation(dialect, &TYPES, &id(verb, what), &tag, text, &answer);
        operation["x-kubernetes-action"] = json!(if listed { "list" } else { "get" });
        operation["x-kubernetes-group-version-kind"] =
            json!({ "group": "metrics.k8s.io", "version": name, "kind": kind });
        operation
    };
    let item = |operation: Value, names: &[&str], listed: bool| {
        let named = names.iter().map(|name| in_path(dialect, name));
        let queried =
            query_parameters(listed).iter().map(|(name, kind, text)| in_query(dialect, name, kind, text));
        json!({ "get": operation, "parameters": named.chain(queried).collect::<Vec<_>>() })
    };
    let discovery_id = id("get", "APIResources");
    vec![
        document(
            dialect,
            &format!("{base}/"),
            (&discovery_id, &tag, "The resources of the version."),
            "APIResourceList",
        ),
        (
            format!("{base}/nodes"),
            item(action("list", "NodeMetrics", "What each node uses.", "NodeMetrics", true), &[], true),
        ),
        (
            format!("{base}/nodes/{{name}}"),
            item(action("read", "NodeMetrics", "What a node uses.", "NodeMetrics", false), &["name"], false),
        ),
        (
            format!("{base}/pods"),
            item(
                action(
                    "list",
                    "PodMetricsForAllNamespaces",
                    "What each pod uses, in all namespaces.",
                    "PodMetrics",
                    true,
                ),
                &[],
                true,
            ),
        ),
        (
            format!("{base}/namespaces/{{namespace}}/pods"),
            item(
                action(
                    "list",
                    "NamespacedPodMetrics",
                    "What each pod of a namespace uses.",
                    "PodMetrics",
                    true,
                ),
                &["namespace"],
                true,
            ),
        ),
        (
            format!("{base}/namespaces/{{namespace}}/pods/{{name}}"),
            item(
                action("read", "NamespacedPodMetrics", "What a pod uses.", "PodMetrics", false),
                &["name", "namespace"],
                false,
            ),
        ),
    ]
}

fn operation(
    dialect: Dialect,
    types: &[&str],
    id: &str,
    tag: &str,
    description: &str,
    answer: &str,
) -> Value {
    let schema = dialect.to(answer);
    let unauthorized = json!({ "description": "Unauthorized" });
    match dialect {
        Dialect::V2 => json!({
            "description": description, "operationId": id, "tags": [tag], "schemes": ["https"], "produces": types,
            "responses": { "200": { "description": "OK", "schema": schema }, "401": unauthorized },
        }),
        Dialect::V3 => {
            let content: serde_json::Map<_, _> =
                types.iter().map(|kind| ((*kind).to_owned(), json!({ "schema": schema }))).collect();
            json!({
                "description": description, "operationId": id, "tags": [tag],
                "responses": { "200": { "description": "OK", "content": content }, "401": unauthorized },
            })
        }
    }
}

/// Name, type, text.
type Parameter = (&'static str, &'static str, &'static str);

fn query_parameters(listed: bool) -> &'static [Parameter] {
    const ALL: [Parameter; 6] = [
        ("pretty", "string", "Indents JSON, if it is true."),
        ("labelSelector", "string", "Selects by the labels of the nodes or pods."),
        ("fieldSelector", "string", "Selects by metadata.name and metadata.namespace."),
        ("limit", "integer", "Accepted and ignored: a list is always complete."),
        ("continue", "string", "Accepted and ignored: a list is always complete."),
        ("resourceVersion", "string", "Accepted and ignored: what is answered is always the newest."),
    ];
    if listed { &ALL } else { &ALL[..1] }
}

fn in_query(dialect: Dialect, name: &str, kind: &str, description: &str) -> Value {
    match dialect {
        Dialect::V2 => {
            json!({ "name": name, "in": "query", "description": description, "type": kind, "uniqueItems": true })
        }
        Dialect::V3 => json!({
            "name": name, "in": "query", "description": description, "schema": { "type": kind, "uniqueItems": true },
        }),
    }
}

fn in_path(dialect: Dialect, name: &str) -> Value {
    let description = if name == "name" { "The name of the object." } else { "The namespace." };
    match dialect {
        Dialect::V2 => json!({
            "name": name, "in": "path", "description": description, "required": true, "type": "string",
            "uniqueItems": true,
        }),
        Dialect::V3 => json!({
            "name": name, "in": "path", "description": description, "required": true,
            "schema": { "type": "string", "uniqueItems": true },
        }),
    }
}
