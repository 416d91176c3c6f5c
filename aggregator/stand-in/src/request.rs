//! What a request asks for, read from method, path and query (kubernetes/apiserver `endpoints/request/requestinfo.go`).

use std::collections::HashMap;

use http::{Method, Uri};
use percent_encoding::percent_decode_str;

use crate::{
    policy::{Object, Wish},
    selector::Filter,
};

/// A request, understood.
#[derive(Debug, Clone, Default)]
pub(crate) struct RequestInfo {
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) query: HashMap<String, String>,
    /// Group and version, for everything below `/api/V` and `/apis/G/V`.
    pub(crate) group_version: Option<(String, String)>,
    /// With the subresource after a slash; empty for anything that is not a resource.
    pub(crate) resource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl RequestInfo {
    pub(crate) fn parse(method: &Method, uri: &Uri) -> Self {
        let query = parse_query(uri.query().unwrap_or_default());
        let path = uri.path().to_owned();
        let mut info = Self { verb: method.as_str().to_ascii_lowercase(), query, path, ..Self::default() };
        let path = info.path.clone();
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let (group, rest) = match parts.first() {
            Some(&"api") => ("", 1),
            Some(&"apis") if parts.len() > 2 => (parts.remove(1), 1),
            _ => return info,
        };
        let Some(version) = parts.get(rest) else { return info };
        info.group_version = Some((group.to_owned(), (*version).to_owned()));
        let mut parts =
            parts.into_iter().skip(rest + 1).map(|part| percent_decode_str(part).decode_utf8_lossy());
        let Some(mut resource) = parts.next() else { return info };
        if resource == "namespaces" {
            if let Some(namespace) = parts.next() {
                info.namespace = namespace.into_owned();
            }
            resource = parts.next().unwrap_or("namespaces".into());
        }
        info.resource = resource.into_owned();
        info.name = parts.next().unwrap_or_default().into_owned();
        if let Some(subresource) = parts.next() {
            info.resource = format!("{}/{subresource}", info.resource);
        }
        info.verb = info.resource_verb(method);
        if info.name.is_empty() {
            info.name =
                info.filter().ok().and_then(|filter| filter.name().map(str::to_owned)).unwrap_or_default();
        }
        info
    }

    fn resource_verb(&self, method: &Method) -> String {
        let verb = match *method {
            Method::GET if self.flag("watch") => "watch",
            Method::GET if self.name.is_empty() => "list",
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => return method.as_str().to_ascii_lowercase(),
        };
        verb.to_owned()
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.query
            .get(key)
            .is_some_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True"))
    }

    pub(crate) fn parameter(&self, key: &str) -> &str {
        self.query.get(key).map_or("", String::as_str)
    }

    pub(crate) fn filter(&self) -> Result<Filter, String> {
        Filter::parse(self.parameter("labelSelector"), self.parameter("fieldSelector"))
    }

    pub(crate) fn wish(&self) -> Wish<'_> {
        let object = match &self.group_version {
            Some((group, _)) if !self.resource.is_empty() => Object::Resource {
                group,
                resource: &self.resource,
                namespace: &self.namespace,
                name: &self.name,
            },
            _ => Object::Path(&self.path),
        };
        Wish { verb: &self.verb, object, selected: &[] }
    }

    /// What is counted, and what faults aim at: the resource, else the path.
    pub(crate) fn target(&self) -> &str {
        if self.resource.is_empty() { &self.path } else { &self.resource }
    }
}

fn parse_query(query: &str) -> HashMap<String, String> {
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}
