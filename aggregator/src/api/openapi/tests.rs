use std::collections::BTreeSet;

use super::*;

const METRICS: &str = "io.k8s.metrics.pkg.apis.metrics";

fn parse(document: &Document) -> Value {
    serde_json::from_slice(&document.json).unwrap()
}

fn documents() -> Vec<(&'static str, Value)> {
    let all = Documents::new(0);
    let v3 = ["apis/metrics.k8s.io", "apis/metrics.k8s.io/v1", "apis/metrics.k8s.io/v1beta1"];
    let v3 = v3.map(|path| (path, parse(all.group(path).unwrap())));
    std::iter::once(("v2", parse(&all.v2))).chain(v3).collect()
}

/// Every value of a key, wherever it stands.
fn values<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, member)| {
            if name == key {
                found.push(member);
            }
            values(member, key, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| values(item, key, found)),
        _ => {}
    }
}

fn schemas(document: &Value) -> &Map<String, Value> {
    ["/definitions", "/components/schemas"]
        .into_iter()
        .find_map(|pointer| document.pointer(pointer))
        .and_then(Value::as_object)
        .unwrap()
}

#[test]
fn every_reference_leads_somewhere_and_every_schema_is_referred_to() {
    for (name, document) in documents() {
        let mut references = Vec::new();
        values(&document, "$ref", &mut references);
        assert!(references.len() > 2, "{name}");
        let targets: BTreeSet<_> = references.iter().map(|reference| reference.as_str().unwrap()).collect();
        for target in &targets {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some_and(Value::is_object), "{name}: {target}");
        }
        for schema in schemas(&document).keys() {
            assert!(targets.iter().any(|target| target.ends_with(&format!("/{schema}"))), "{name}: {schema}");
        }
    }
}

#[test]
fn kinds_name_themselves() {
    for (name, document) in documents() {
        for (schema, content) in schemas(&document) {
            assert!(content["description"].is_string(), "{name}: {schema}");
            let extension = &content["x-kubernetes-group-version-kind"];
            let Some(rest) = schema.strip_prefix(&format!("{METRICS}.")) else {
                assert!(extension.is_null(), "{name}: {schema}");
                continue;
            };
            let (version, kind) = rest.split_once('.').unwrap();
            if kind == "ContainerMetrics" {
                assert!(extension.is_null());
                continue;
            }
            assert_eq!(*extension, json!([{"group": "metrics.k8s.io", "version": version, "kind": kind}]));
            for key in ["kind", "apiVersion", "metadata"] {
                assert!(content["properties"][key].is_object(), "{name}: {schema}.{key}");
            }
        }
        let mut lists = Vec::new();
        values(&document, "containers", &mut lists);
        assert!(lists.iter().all(|list| list["x-kubernetes-list-type"] == "atomic"), "{name}");
    }
}

#[test]
fn each_version_has_its_five_kinds_and_its_operations() {
    let kinds = ["ContainerMetrics", "NodeMetrics", "NodeMetricsList", "PodMetrics", "PodMetricsList"];
    let all = documents();
    let v2 = &all[0].1;
    for (version, capital) in [("v1", "V1"), ("v1beta1", "V1beta1")] {
        let (_, v3) = all.iter().find(|(path, _)| path.ends_with(&format!("/{version}"))).unwrap();
        for document in [v2, v3] {
            for kind in kinds {
                assert!(
                    schemas(document).contains_key(&format!("{METRICS}.{version}.{kind}")),
                    "{version}.{kind}"
                );
            }
            for (path, id, action, kind) in [
                ("", format!("getMetrics{capital}APIResources"), None, ""),
                ("nodes", format!("listMetrics{capital}NodeMetrics"), Some("list"), "NodeMetrics"),
                ("nodes/{name}", format!("readMetrics{capital}NodeMetrics"), Some("get"), "NodeMetrics"),
                (
                    "pods",
                    format!("listMetrics{capital}PodMetricsForAllNamespaces"),
                    Some("list"),
                    "PodMetrics",
                ),
                (
                    "namespaces/{namespace}/pods",
                    format!("listMetrics{capital}NamespacedPodMetrics"),
                    Some("list"),
                    "PodMetrics",
                ),
                (
                    "namespaces/{namespace}/pods/{name}",
                    format!("readMetrics{capital}NamespacedPodMetrics"),
                    Some("get"),
                    "PodMetrics",
                ),
            ] {
                let path = format!("/apis/metrics.k8s.io/{version}/{path}");
                let item = &document["paths"][&path];
                assert_eq!(item["get"]["operationId"], id, "{path}");
                assert_eq!(item["get"]["x-kubernetes-action"].as_str(), action, "{path}");
                if action.is_some() {
                    let expected = json!({"group": "metrics.k8s.io", "version": version, "kind": kind});
                    assert_eq!(item["get"]["x-kubernetes-group-version-kind"], expected);
                }
                for parameter in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                {
                    let declared = item["parameters"].as_array().unwrap();
                    let found = declared.iter().find(|declared| declared["name"] == parameter).unwrap();
                    assert_eq!((&found["in"], &found["required"]), (&json!("path"), &json!(true)), "{path}");
                }
            }
        }
    }
    for (path, id) in [
        ("/apis/", "getAPIVersions"),
        ("/apis/metrics.k8s.io/", "getMetricsAPIGroup"),
        ("/version/", "getCodeVersion"),
    ] {
        assert_eq!(v2["paths"][path]["get"]["operationId"], id);
    }
    let mut ids = Vec::new();
    values(v2, "operationId", &mut ids);
    let distinct: BTreeSet<_> = ids.iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!((ids.len(), distinct.len()), (15, 15));
}

#[test]
fn documents_say_only_what_their_dialect_knows() {
    for (name, document) in documents() {
        if name == "v2" {
            assert_eq!(document["swagger"], "2.0");
            for key in ["allOf", "oneOf", "content", "components"] {
                let mut found = Vec::new();
                values(&document, key, &mut found);
                assert!(found.is_empty(), "{key}");
            }
        } else {
            assert_eq!(document["openapi"], "3.0.0");
            for key in ["produces", "schemes", "definitions"] {
                let mut found = Vec::new();
                values(&document, key, &mut found);
                assert!(found.is_empty(), "{name}: {key}");
            }
            only_references(&document);
        }
    }
}

/// In version 3 nothing may stand beside `$ref`.
fn only_references(value: &Value) {
    match value {
        Value::Object(members) => {
            assert!(!members.contains_key("$ref") || members.len() == 1, "{value}");
            members.values().for_each(only_references);
        }
        Value::Array(items) => items.iter().for_each(only_references),
        _ => {}
    }
}

#[test]
fn the_index_names_each_document_with_its_hash() {
    let documents = Documents::new(1_777_888_807);
    let index = parse(&documents.index);
    let paths = index["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 3);
    for (path, entry) in paths {
        let document = documents.group(path).unwrap();
        assert_eq!(document.hash.len(), 128);
        assert_eq!(document.etag, format!("\"{}\"", document.hash));
        assert_eq!(entry["serverRelativeURL"], format!("/openapi/v3/{path}?hash={}", document.hash));
    }
    assert!(documents.group("apis").is_none());
    assert!(documents.v2.protobuf.as_ref().is_some_and(|bytes| bytes.len() > 10_000));
    let later = Documents::new(1_777_888_808);
    assert_eq!(later.index.etag, documents.index.etag);
    assert_eq!(documents.modified, "Mon, 04 May 2026 10:00:07 GMT");
    assert!(documents.unmodified_since("Mon, 04 May 2026 10:00:07 GMT"));
    for changed in ["Mon, 04 May 2026 10:00:06 GMT", "yesterday", ""] {
        assert!(!documents.unmodified_since(changed), "{changed}");
    }
}
