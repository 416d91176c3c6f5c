//! Discovery: the documents that say what is served, legacy and aggregated. They depend on nothing that may be missing
//! at start: kube-apiserver's availability check reads them before any agent is there.

mod messages;

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA512, digest};
use bytes::Bytes;
use messages::{ApiGroup, ApiGroupList, ApiResourceList};

use super::{negotiate::Format, protobuf};

/// The versions of `metrics.k8s.io`, preferred first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// `v1`
    V1,
    /// `v1beta1`
    V1beta1,
}

impl Version {
    /// All, preferred first.
    pub const ALL: [Self; 2] = [Self::V1, Self::V1beta1];

    /// As paths have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V1beta1 => "v1beta1",
        }
    }

    /// As `apiVersion` has it.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::V1 => "metrics.k8s.io/v1",
            Self::V1beta1 => "metrics.k8s.io/v1beta1",
        }
    }

    /// From a path's segment; exact.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.name() == name)
    }
}

/// A document in every format.
#[derive(Debug, Clone)]
pub struct Document {
    json: Bytes,
    protobuf: Bytes,
}

impl Document {
    /// Its bytes.
    pub fn get(&self, format: Format) -> Bytes {
        match format {
            Format::Json => self.json.clone(),
            Format::Protobuf => self.protobuf.clone(),
        }
    }
}

/// The documents, made once.
#[derive(Debug, Clone)]
pub struct Documents {
    /// `/apis`, APIGroupList: without `apiVersion`, as Kubernetes writes it.
    pub groups: Document,
    /// `/apis/metrics.k8s.io`, APIGroup.
    pub group: Document,
    resources: [Document; 2],
    /// `/apis` as APIGroupDiscoveryList of `apidiscovery.k8s.io/v2`.
    pub aggregated: Bytes,
    /// The aggregated document's ETag: upper-case SHA-512 in quotes, equal for equal content.
    pub etag: String,
}

impl Documents {
    /// The documents of a server on `port`, which the legacy ones name.
    pub fn new(port: u16) -> Self {
        let versions = r#"[{"groupVersion":"metrics.k8s.io/v1","version":"v1"},{"groupVersion":"metrics.k8s.io/v1beta1","version":"v1beta1"}]"#;
        let group = format!(
            r#""name":"metrics.k8s.io","versions":{versions},"preferredVersion":{{"groupVersion":"metrics.k8s.io/v1","version":"v1"}},"serverAddressByClientCIDRs":[{{"clientCIDR":"0.0.0.0/0","serverAddress":":{port}"}}]"#
        );
        let aggregated = aggregated();
        let mut etag = String::with_capacity(130);
        etag.push('"');
        for byte in digest(&SHA512, aggregated.as_bytes()).as_ref() {
            // Writing into a String cannot fail.
            let _ = write!(etag, "{byte:02X}");
        }
        etag.push('"');
        let message = ApiGroup { address: format!(":{port}") };
        Self {
            groups: Document {
                json: format!("{{\"kind\":\"APIGroupList\",\"groups\":[{{{group}}}]}}\n").into(),
                protobuf: protobuf::document("", "APIGroupList", &ApiGroupList(&message)),
            },
            group: Document {
                json: format!("{{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",{group}}}\n").into(),
                protobuf: protobuf::document("v1", "APIGroup", &message),
            },
            resources: Version::ALL.map(resources),
            aggregated: aggregated.into(),
            etag,
        }
    }

    /// `/apis/metrics.k8s.io/V`, APIResourceList.
    pub fn resources(&self, version: Version) -> &Document {
        let [v1, v1beta1] = &self.resources;
        match version {
            Version::V1 => v1,
            Version::V1beta1 => v1beta1,
        }
    }
}

fn resources(version: Version) -> Document {
    let json = format!(
        concat!(
            r#"{{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"metrics.k8s.io/{}","resources":["#,
            r#"{{"name":"nodes","singularName":"","namespaced":false,"kind":"NodeMetrics","verbs":["get","list"]}},"#,
            r#"{{"name":"pods","singularName":"","namespaced":true,"kind":"PodMetrics","verbs":["get","list"]}}]}}"#,
            "\n"
        ),
        version.name()
    );
    Document {
        json: json.into(),
        protobuf: protobuf::document("v1", "APIResourceList", &ApiResourceList(version)),
    }
}

fn aggregated() -> String {
    let resources = [("nodes", "NodeMetrics", "Cluster"), ("pods", "PodMetrics", "Namespaced")].map(|(name, kind, scope)| {
        format!(
            r#"{{"resource":"{name}","responseKind":{{"group":"","version":"","kind":"{kind}"}},"scope":"{scope}","singularResource":"","verbs":["get","list"]}}"#
        )
    });
    let versions = Version::ALL.map(|version| {
        format!(
            r#"{{"version":"{}","resources":[{}],"freshness":"Current"}}"#,
            version.name(),
            resources.join(",")
        )
    });
    format!(
        concat!(
            r#"{{"kind":"APIGroupDiscoveryList","apiVersion":"apidiscovery.k8s.io/v2","metadata":{{}},"items":["#,
            r#"{{"metadata":{{"name":"metrics.k8s.io"}},"versions":[{}]}}]}}"#,
            "\n"
        ),
        versions.join(",")
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn value(document: &Document) -> Value {
        serde_json::from_slice(&document.get(Format::Json)).unwrap()
    }

    #[test]
    fn legacy_documents_name_both_versions() {
        let documents = Documents::new(10250);
        let group = json!({
            "name": "metrics.k8s.io",
            "versions": [
                {"groupVersion": "metrics.k8s.io/v1", "version": "v1"},
                {"groupVersion": "metrics.k8s.io/v1beta1", "version": "v1beta1"},
            ],
            "preferredVersion": {"groupVersion": "metrics.k8s.io/v1", "version": "v1"},
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ":10250"}],
        });
        assert_eq!(value(&documents.groups), json!({"kind": "APIGroupList", "groups": [group]}));
        let mut expected = group;
        expected["kind"] = "APIGroup".into();
        expected["apiVersion"] = "v1".into();
        assert_eq!(value(&documents.group), expected);
        for version in Version::ALL {
            assert_eq!(
                value(documents.resources(version)),
                json!({
                    "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version.api_version(),
                    "resources": [
                        {"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics",
                         "verbs": ["get", "list"]},
                        {"name": "pods", "singularName": "", "namespaced": true, "kind": "PodMetrics",
                         "verbs": ["get", "list"]},
                    ],
                })
            );
        }
    }

    #[test]
    fn the_aggregated_document_is_that_of_v2() {
        let resource = |name, kind, scope| {
            json!({"resource": name, "responseKind": {"group": "", "version": "", "kind": kind}, "scope": scope,
                   "singularResource": "", "verbs": ["get", "list"]})
        };
        let version = |name| {
            json!({"version": name, "freshness": "Current", "resources":
                [resource("nodes", "NodeMetrics", "Cluster"), resource("pods", "PodMetrics", "Namespaced")]})
        };
        let documents = Documents::new(1);
        assert_eq!(
            serde_json::from_slice::<Value>(&documents.aggregated).unwrap(),
            json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
                   "items": [{"metadata": {"name": "metrics.k8s.io"}, "versions": [version("v1"), version("v1beta1")]}]})
        );
    }

    #[test]
    fn the_etag_depends_on_the_content_alone() {
        let (one, other) = (Documents::new(1), Documents::new(2));
        assert_eq!(one.etag, other.etag);
        let inner = one.etag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap();
        assert_eq!(inner.len(), 128);
        assert!(inner.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c)));
    }
}
