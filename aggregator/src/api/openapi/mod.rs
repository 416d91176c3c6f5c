//! The OpenAPI documents, version 2 and 3: what `kubectl explain` and generators of clients read. kube-apiserver merges
//! them with its own, so that one bad reference here would spoil the document of a whole cluster: the tests resolve all.
//!
//! Definitions have the names of Kubernetes' generators; their texts are ours.

mod paths;
mod protobuf;
mod schemas;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use http::HeaderValue;
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use serde_json::{Map, Value, json};

use super::discovery::{self, Version};

/// The two forms in which the same is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// Swagger 2.0, one document.
    V2,
    /// OpenAPI 3.0, one document per version.
    V3,
}

const JSON: &str = "application/json";
/// What documents come in; the last is the older name of the one before.
const V2_TYPES: [&str; 3] = [
    JSON,
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];
const V3_TYPES: [&str; 3] = [
    JSON,
    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
];

/// A document with what caches are told about it.
#[derive(Debug, Clone)]
pub struct Document {
    /// The types that it comes in: JSON, and protobuf by its two names.
    types: &'static [&'static str],
    /// JSON.
    pub json: Bytes,
    /// Protobuf; the index has none. It has the ETag of the JSON: `Vary` tells them apart.
    pub protobuf: Option<Bytes>,
    /// The ETag's content, as the index names it.
    pub hash: String,
    /// The ETag.
    pub etag: HeaderValue,
}

impl Document {
    /// In JSON alone.
    fn new(document: &Value) -> Self {
        let json = Bytes::from(document.to_string());
        let (hash, etag) = (discovery::hash(&json), discovery::etag(&json));
        Self { types: &[JSON], json, protobuf: None, hash, etag }
    }

    fn of(dialect: Dialect, document: &Value) -> Self {
        // It is a constant: that it can be written is known from the tests.
        let protobuf = protobuf::encode(dialect, document).ok();
        let types: &[_] = match dialect {
            _ if protobuf.is_none() => &[JSON],
            Dialect::V2 => &V2_TYPES,
            Dialect::V3 => &V3_TYPES,
        };
        Self { types, protobuf, ..Self::new(document) }
    }

    /// The types that it comes in.
    pub fn types(&self) -> &'static [&'static str] {
        self.types
    }

    /// Its bytes in one of the types, and the type as it is named in the answer.
    pub fn get(&self, kind: &str) -> (HeaderValue, Bytes) {
        match (&self.protobuf, self.types) {
            (Some(bytes), [_, protobuf, ..]) if kind != JSON => {
                (HeaderValue::from_static(protobuf), bytes.clone())
            }
            _ => (HeaderValue::from_static(JSON), self.json.clone()),
        }
    }
}

/// The documents, made once.
#[derive(Debug, Clone)]
pub struct Documents {
    /// `/openapi/v2`
    pub v2: Document,
    /// `/openapi/v3`: where the others are, with their hashes.
    pub index: Document,
    /// By their paths below `/openapi/v3/`.
    groups: [(&'static str, Document); 3],
    /// When they were made, as `Last-Modified` has it.
    pub modified: HeaderValue,
    modified_second: i64,
}

impl Documents {
    /// The documents, made at `now` (seconds since the epoch). Their content depends on nothing but this program.
    pub fn new(now: i64) -> Self {
        let group = |parts: &[Part]| Document::of(Dialect::V3, &document(Dialect::V3, parts));
        let groups = [
            ("apis/metrics.k8s.io", group(&[Part::Group])),
            ("apis/metrics.k8s.io/v1", group(&[Part::Version(Version::V1)])),
            ("apis/metrics.k8s.io/v1beta1", group(&[Part::Version(Version::V1beta1)])),
        ];
        let entry = |(path, document): &(&str, Document)| {
            let url = format!("/openapi/v3/{path}?hash={}", document.hash);
            ((*path).to_owned(), json!({ "serverRelativeURL": url }))
        };
        let index = json!({ "paths": groups.iter().map(entry).collect::<Map<_, _>>() });
        let all = [
            Part::Groups,
            Part::Group,
            Part::Version(Version::V1),
            Part::Version(Version::V1beta1),
            Part::Code,
        ];
        let v2 = document(Dialect::V2, &all);
        Self {
            v2: Document::of(Dialect::V2, &v2),
            index: Document::new(&index),
            groups,
            modified: date(now),
            modified_second: now,
        }
    }

    /// A document of `/openapi/v3/`, by the rest of its path.
    pub fn group(&self, path: &str) -> Option<&Document> {
        self.groups.iter().find(|(known, _)| *known == path).map(|(_, document)| document)
    }

    /// Whether nothing changed since that `If-Modified-Since`.
    pub fn unmodified_since(&self, text: &str) -> bool {
        let since = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text);
        since.is_ok_and(|since| since.as_second() >= self.modified_second)
    }
}

/// A date as HTTP writes it, of seconds since the epoch.
pub fn date(second: i64) -> HeaderValue {
    Timestamp::from_second(second)
        .ok()
        .and_then(|instant| DateTimePrinter::new().timestamp_to_rfc9110_string(&instant).ok())
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// What a document speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// `/apis/`
    Groups,
    /// `/apis/metrics.k8s.io/`
    Group,
    /// A version's resources.
    Version(Version),
    /// `/version/`
    Code,
}

/// A document on some parts, with the schemas that they reach and no others.
fn document(dialect: Dialect, parts: &[Part]) -> Value {
    let paths: Map<_, _> = parts.iter().flat_map(|part| paths::of(dialect, *part)).collect();
    let known = schemas::all(dialect);
    let mut reached = Map::new();
    reach(&Value::Object(paths.clone()), &known, &mut reached);
    let info = json!({ "title": "Waggle metrics.k8s.io", "version": env!("CARGO_PKG_VERSION") });
    let token = json!({
        "type": "apiKey", "in": "header", "name": "authorization",
        "description": "A bearer token. Certificates are taken too, and the identities that kube-apiserver forwards.",
    });
    match dialect {
        Dialect::V2 => json!({
            "swagger": "2.0", "info": info, "paths": paths, "definitions": reached,
            "securityDefinitions": { "BearerToken": token }, "security": [{ "BearerToken": [] }],
        }),
        Dialect::V3 => json!({
            "openapi": "3.0.0", "info": info, "paths": paths,
            "components": { "schemas": reached, "securitySchemes": { "BearerToken": token } },
        }),
    }
}

/// Adds the schemas that a value refers to, and those that they refer to.
fn reach(value: &Value, known: &Map<String, Value>, reached: &mut Map<String, Value>) {
    match value {
        Value::Object(members) => {
            for (key, member) in members {
                let target =
                    member.as_str().filter(|_| key == "$ref").and_then(|text| text.rsplit('/').next());
                if let Some((name, schema)) = target.and_then(|name| known.get_key_value(name))
                    && !reached.contains_key(name)
                {
                    reached.insert(name.clone(), schema.clone());
                    reach(schema, known, reached);
                }
                reach(member, known, reached);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| reach(item, known, reached)),
        _ => {}
    }
}

impl Dialect {
    /// A reference that stands alone.
    fn to(self, name: &str) -> Value {
        match self {
            Self::V2 => json!({ "$ref": format!("#/definitions/{name}") }),
            Self::V3 => json!({ "$ref": format!("#/components/schemas/{name}") }),
        }
    }

    /// A reference with a text of its own; version 3 allows nothing beside `$ref`.
    fn described(self, description: &str, name: &str) -> Value {
        match self {
            Self::V2 => json!({ "description": description, "$ref": format!("#/definitions/{name}") }),
            Self::V3 => json!({ "description": description, "allOf": [self.to(name)] }),
        }
    }
}
