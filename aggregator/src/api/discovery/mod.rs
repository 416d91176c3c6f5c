//! Discovery: the documents that say what is served, legacy and aggregated. They depend on nothing that may be missing
//! at start: kube-apiserver's availability check reads them before any agent is there.

mod messages;

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA512, digest};
use bytes::Bytes;
use http::HeaderValue;
use messages::{ApiGroup, ApiGroupDiscoveryList, ApiGroupList, ApiResourceList};

use super::{negotiate::Representation, pretty, protobuf, yaml};

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

/// A document in every representation.
#[derive(Debug, Clone)]
pub struct Document {
    json: Bytes,
    pretty: Bytes,
    yaml: Bytes,
    protobuf: Bytes,
}

impl Document {
    fn new(json: String, protobuf: Bytes) -> Self {
        let json = Bytes::from(json);
        let pretty = pretty::whole(&json);
        // A document in JSON is one in YAML too, should this ever fail.
        let yaml = yaml::whole(&json).unwrap_or_else(|_| json.clone());
        Self { json, pretty, yaml, protobuf }
    }

    /// Its bytes.
    pub fn get(&self, representation: Representation) -> Bytes {
        match representation {
            Representation::Json => self.json.clone(),
            Representation::PrettyJson => self.pretty.clone(),
            Representation::Yaml => self.yaml.clone(),
            Representation::Protobuf => self.protobuf.clone(),
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
    pub aggregated: Document,
    /// The aggregated document's ETag: upper-case SHA-512 of its JSON in quotes, equal for equal content.
    pub etag: HeaderValue,
}

impl Documents {
    /// The documents of a server on `port`, which the legacy ones name.
    pub fn new(port: u16) -> Self {
        Self::with_verbs(port, &["get", "list"])
    }

    /// The same with what may be done with nodes and pods.
    pub fn with_verbs(port: u16, verbs: &[&str]) -> Self {
        let versions = r#"[{"groupVersion":"metrics.k8s.io/v1","version":"v1"},{"groupVersion":"metrics.k8s.io/v1beta1","version":"v1beta1"}]"#;
        let group = format!(
            r#""name":"metrics.k8s.io","versions":{versions},"preferredVersion":{{"groupVersion":"metrics.k8s.io/v1","version":"v1"}},"serverAddressByClientCIDRs":[{{"clientCIDR":"0.0.0.0/0","serverAddress":":{port}"}}]"#
        );
        let aggregated = aggregated(verbs);
        let message = ApiGroup { address: format!(":{port}") };
        Self {
            groups: Document::new(
                format!("{{\"kind\":\"APIGroupList\",\"groups\":[{{{group}}}]}}\n"),
                protobuf::document("", "APIGroupList", &ApiGroupList(&message)),
            ),
            group: Document::new(
                format!("{{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",{group}}}\n"),
                protobuf::document("v1", "APIGroup", &message),
            ),
            resources: Version::ALL.map(|version| resources(version, verbs)),
            etag: etag(aggregated.as_bytes()),
            aggregated: Document::new(
                aggregated,
                protobuf::document(
                    "apidiscovery.k8s.io/v2",
                    "APIGroupDiscoveryList",
                    &ApiGroupDiscoveryList(verbs),
                ),
            ),
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

fn resources(version: Version, verbs: &[&str]) -> Document {
    let list = json_list(verbs);
    let json = format!(
        concat!(
            r#"{{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"metrics.k8s.io/{version}","resources":["#,
            r#"{{"name":"nodes","singularName":"","namespaced":false,"kind":"NodeMetrics","verbs":{list}}},"#,
            r#"{{"name":"pods","singularName":"","namespaced":true,"kind":"PodMetrics","verbs":{list}}}]}}"#,
            "\n"
        ),
        version = version.name(),
        list = list
    );
    Document::new(json, protobuf::document("v1", "APIResourceList", &ApiResourceList(version, verbs)))
}

/// The ETag of a content: its SHA-512 in upper-case hexadecimal digits, in quotes.
pub fn etag(content: &[u8]) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", hash(content))).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The SHA-512 of a content in upper-case hexadecimal digits.
pub fn hash(content: &[u8]) -> String {
    let mut text = String::with_capacity(128);
    for byte in digest(&SHA512, content).as_ref() {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02X}");
    }
    text
}

fn json_list(verbs: &[&str]) -> String {
    format!("[\"{}\"]", verbs.join("\",\""))
}

fn aggregated(verbs: &[&str]) -> String {
    let list = json_list(verbs);
    let resources = [("nodes", "NodeMetrics", "Cluster"), ("pods", "PodMetrics", "Namespaced")].map(|(name, kind, scope)| {
        format!(
            r#"{{"resource":"{name}","responseKind":{{"group":"","version":"","kind":"{kind}"}},"scope":"{scope}","singularResource":"","verbs":{list}}}"#
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
        serde_json::from_slice(&document.get(Representation::Json)).unwrap()
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
            value(&documents.aggregated),
            json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {},
                   "items": [{"metadata": {"name": "metrics.k8s.io"}, "versions": [version("v1"), version("v1beta1")]}]})
        );
    }

    #[test]
    fn the_etag_depends_on_the_content_alone() {
        let (one, other) = (Documents::new(1), Documents::new(2));
        assert_eq!(one.etag, other.etag);
        let inner =
            one.etag.to_str().unwrap().strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap();
        assert_eq!(inner.len(), 128);
        assert!(inner.chars().all(|c| c.is_ascii_digit() || ('A'..='F').contains(&c)));
    }
}
