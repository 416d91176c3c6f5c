//! Discovery: legacy documents, and the aggregated form of `/api` and `/apis` with the backends' entries merged in.

use std::{cmp::Reverse, collections::BTreeMap};

use http::{HeaderMap, Response, StatusCode, header::ACCEPT};
use serde_json::{Value, json};

use crate::{
    answer::{self, Body},
    store::Kind,
};

/// What the aggregator knows about one version of one group.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) group: String,
    /// The version itself, such as `v1beta1`.
    pub(crate) name: String,
    pub(crate) priority: i64,
    pub(crate) fresh: bool,
    /// In the form of aggregated discovery.
    pub(crate) resources: Vec<Value>,
}

const REVIEWS: [(&str, &str, &str); 2] = [
    ("authentication.k8s.io", "tokenreviews", "TokenReview"),
    ("authorization.k8s.io", "subjectaccessreviews", "SubjectAccessReview"),
];
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Answers a discovery path of our own; `None` for any other path.
pub(crate) fn answer(path: &str, headers: &HeaderMap, aggregated: &[Version]) -> Option<Response<Body>> {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let grouped = accept.split(',').any(|kind| {
        kind.contains("as=APIGroupDiscoveryList")
            && kind.split(';').any(|parameter| parameter.trim() == "v=v2")
    });
    let path = path.strip_suffix('/').unwrap_or(path);
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    match parts[..] {
        ["api"] if grouped => Some(group_list(&[(String::new(), vec![core()])])),
        ["api"] => Some(answer::ok(&json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1"}],
        }))),
        ["api", "v1"] => Some(resource_list(&core())),
        ["apis"] if grouped => Some(group_list(&groups(aggregated))),
        ["apis"] => {
            let groups: Vec<Value> =
                groups(aggregated).iter().map(|(name, v)| legacy_group(name, v)).collect();
            Some(answer::ok(&json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})))
        }
        ["apis", group] => {
            let groups = groups(aggregated);
            let (name, versions) = groups.iter().find(|(name, _)| name == group)?;
            let mut body = legacy_group(name, versions);
            body["kind"] = json!("APIGroup");
            body["apiVersion"] = json!("v1");
            Some(answer::ok(&body))
        }
        ["apis", group, "v1"] => own().iter().find(|v| v.group == group).map(resource_list),
        _ => None,
    }
}

/// The discovery form of a backend's legacy resource list.
pub(crate) fn from_resource_list(list: &Value) -> Option<Vec<Value>> {
    let resources = list.get("resources")?.as_array()?;
    Some(
        resources
            .iter()
            .map(|r| {
                json!({
                    "resource": r["name"],
                    "responseKind": {"group": "", "version": "", "kind": r["kind"]},
                    "scope": if r["namespaced"] == true { "Namespaced" } else { "Cluster" },
                    "singularResource": r["singularName"], "verbs": r["verbs"],
                })
            })
            .collect(),
    )
}

fn core() -> Version {
    let kinds = Kind::ALL.into_iter().filter(|kind| kind.group().is_empty());
    let resources = kinds.map(|kind| stored("", kind)).collect();
    Version { group: String::new(), name: "v1".to_owned(), priority: 1, fresh: true, resources }
}

fn own() -> Vec<Version> {
    let made = |group: &str, resources: Vec<Value>| Version {
        group: group.to_owned(),
        name: "v1".to_owned(),
        priority: 1,
        fresh: true,
        resources,
    };
    let mut own =
        vec![made(Kind::ApiService.group(), vec![stored(Kind::ApiService.group(), Kind::ApiService)])];
    for (group, resource, kind) in REVIEWS {
        own.push(made(group, vec![entry(group, resource, kind, false, &["create"])]));
    }
    own
}

fn stored(group: &str, kind: Kind) -> Value {
    entry(group, kind.resource(), kind.name(), kind.namespaced(), &["get", "list", "watch"])
}

fn entry(group: &str, resource: &str, kind: &str, namespaced: bool, verbs: &[&str]) -> Value {
    json!({
        "resource": resource, "responseKind": {"group": group, "version": "v1", "kind": kind},
        "scope": if namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.to_ascii_lowercase(), "verbs": verbs,
    })
}

/// Groups by name, the versions of each by priority, then the newest first.
fn groups(aggregated: &[Version]) -> Vec<(String, Vec<Version>)> {
    let mut groups: BTreeMap<String, Vec<Version>> = BTreeMap::new();
    for version in own().into_iter().chain(aggregated.iter().cloned()) {
        groups.entry(version.group.clone()).or_default().push(version);
    }
    for versions in groups.values_mut() {
        versions.sort_by_key(|v| (Reverse(v.priority), Reverse(maturity(&v.name))));
    }
    groups.into_iter().collect()
}

/// Orders versions as Kubernetes does: v2, v1, v2beta1, v1beta2, v1alpha1.
fn maturity(version: &str) -> (u8, u32, u32) {
    let number = |text: &str| text.parse().unwrap_or_default();
    let bare = version.trim_start_matches('v');
    if let Some((major, minor)) = bare.split_once("beta") {
        return (1, number(major), number(minor));
    }
    if let Some((major, minor)) = bare.split_once("alpha") {
        return (0, number(major), number(minor));
    }
    (2, number(bare), 0)
}

fn group_list(groups: &[(String, Vec<Version>)]) -> Response<Body> {
    let items: Vec<Value> = groups
        .iter()
        .map(|(name, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|v| {
                    json!({
                        "version": v.name, "resources": v.resources,
                        "freshness": if v.fresh { "Current" } else { "Stale" },
                    })
                })
                .collect();
            let metadata = if name.is_empty() { json!({}) } else { json!({"name": name}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items,
    });
    answer::with_type(StatusCode::OK, AGGREGATED, list.to_string())
}

fn legacy_group(name: &str, versions: &[Version]) -> Value {
    let version = |v: &Version| json!({"groupVersion": format!("{name}/{}", v.name), "version": v.name});
    json!({
        "name": name, "versions": versions.iter().map(version).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(version),
    })
}

fn resource_list(version: &Version) -> Response<Body> {
    let resources: Vec<Value> = version
        .resources
        .iter()
        .map(|r| {
            json!({
                "name": r["resource"], "singularName": r["singularResource"],
                "namespaced": r["scope"] == "Namespaced", "kind": r["responseKind"]["kind"], "verbs": r["verbs"],
            })
        })
        .collect();
    let group_version = if version.group.is_empty() {
        version.name.clone()
    } else {
        format!("{}/{}", version.group, version.name)
    };
    answer::ok(&json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    }))
}
