//! The document of version 2 as `openapi.v2.Document` of google/gnostic-models, which older clients ask for. The tables
//! below name those of its fields that are used here; a test finds any other.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::api::yaml;

/// A message: the members of a JSON object with their field numbers, and the field that takes members beginning `x-`.
struct Shape {
    members: &'static [(&'static str, u64, Kind)],
    extensions: u64,
}

/// How a member is written.
enum Kind {
    Text,
    Flag,
    /// A list of texts.
    Texts,
    /// A text in a message of its own: `TypeItem`.
    Type,
    /// An object, inside messages that have nothing but the field of that number.
    Object(&'static [u64], &'static Shape),
    /// An object of objects: pairs of name and value in that field, the value inside messages as above.
    Named(u64, &'static [u64], &'static Shape),
    /// A list of parameters, each inside the messages that say of which sort it is.
    Parameters,
    /// A list of security requirements.
    Security,
}

static DOCUMENT: Shape = Shape {
    members: &[
        ("swagger", 1, Kind::Text),
        ("info", 2, Kind::Object(&[], &INFO)),
        ("paths", 8, Kind::Named(2, &[], &PATH)),
        ("definitions", 9, Kind::Named(1, &[], &SCHEMA)),
        ("security", 12, Kind::Security),
        ("securityDefinitions", 13, Kind::Named(1, &[2], &API_KEY)),
    ],
    extensions: 16,
};
static INFO: Shape =
    Shape { members: &[("title", 1, Kind::Text), ("version", 2, Kind::Text)], extensions: 7 };
static API_KEY: Shape = Shape {
    members: &[
        ("type", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("description", 4, Kind::Text),
    ],
    extensions: 5,
};
static PATH: Shape = Shape {
    members: &[("get", 2, Kind::Object(&[], &OPERATION)), ("parameters", 9, Kind::Parameters)],
    extensions: 10,
};
static OPERATION: Shape = Shape {
    members: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("produces", 6, Kind::Texts),
        ("responses", 9, Kind::Named(1, &[1], &RESPONSE)),
        ("schemes", 10, Kind::Texts),
    ],
    extensions: 13,
};
static RESPONSE: Shape = Shape {
    members: &[("description", 1, Kind::Text), ("schema", 2, Kind::Object(&[1], &SCHEMA))],
    extensions: 5,
};
static SCHEMA: Shape = Shape {
    members: &[
        ("$ref", 1, Kind::Text),
        ("format", 2, Kind::Text),
        ("description", 4, Kind::Text),
        ("required", 19, Kind::Texts),
        ("additionalProperties", 21, Kind::Object(&[1], &SCHEMA)),
        ("type", 22, Kind::Type),
        ("items", 23, Kind::Object(&[1], &SCHEMA)),
        ("properties", 25, Kind::Named(1, &[], &SCHEMA)),
    ],
    extensions: 31,
};
static QUERY_PARAMETER: Shape = Shape {
    members: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: 23,
};
static PATH_PARAMETER: Shape = Shape {
    members: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: 22,
};

/// A member that the tables have no field for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the protobuf form of OpenAPI has no field for {0}")]
pub struct NoField(String);

/// The document, which is an object of Swagger 2.0.
pub fn encode(document: &Value) -> Result<Bytes, NoField> {
    message(document, &DOCUMENT).map(Bytes::from)
}

fn message(value: &Value, shape: &Shape) -> Result<Vec<u8>, NoField> {
    let mut out = Vec::new();
    let members = object(value, "a message")?;
    for (name, number, kind) in shape.members {
        if let Some(member) = members.get(*name) {
            write(&mut out, *number, kind, name, member)?;
        }
    }
    let known = |name: &str| shape.members.iter().any(|(known, ..)| *known == name);
    for (name, member) in members.iter().filter(|(name, _)| !known(name)) {
        if !name.starts_with("x-") {
            return Err(NoField(name.clone()));
        }
        let text = yaml::whole(member.to_string().as_bytes()).map_err(|_| NoField(name.clone()))?;
        field(&mut out, shape.extensions, &pair(name, &wrapped(&[2], text.to_vec())));
    }
    Ok(out)
}

fn write(out: &mut Vec<u8>, number: u64, kind: &Kind, name: &str, member: &Value) -> Result<(), NoField> {
    match kind {
        Kind::Text => field(out, number, text(member, name)?.as_bytes()),
        Kind::Flag => {
            varint(out, number << 3);
            varint(out, member.as_bool().ok_or_else(|| NoField(name.to_owned()))?.into());
        }
        Kind::Texts => {
            for item in list(member, name)? {
                field(out, number, text(item, name)?.as_bytes());
            }
        }
        Kind::Type => field(out, number, &wrapped(&[1], text(member, name)?.into())),
        Kind::Object(inside, shape) => field(out, number, &wrapped(inside, message(member, shape)?)),
        Kind::Named(inner, inside, shape) => {
            let mut pairs = Vec::new();
            for (name, member) in object(member, name)? {
                field(&mut pairs, *inner, &pair(name, &wrapped(inside, message(member, shape)?)));
            }
            field(out, number, &pairs);
        }
        Kind::Parameters => {
            for parameter in list(member, name)? {
                let (sort, shape) = match text(&parameter["in"], name)? {
                    "query" => (3, &QUERY_PARAMETER),
                    "path" => (4, &PATH_PARAMETER),
                    other => return Err(NoField(format!("a parameter in {other}"))),
                };
                // `ParametersItem` holds a `Parameter`, that a `NonBodyParameter`, and that the sort.
                field(out, number, &wrapped(&[1, 2, sort], message(parameter, shape)?));
            }
        }
        Kind::Security => {
            for requirement in list(member, name)? {
                let mut pairs = Vec::new();
                for (name, scopes) in object(requirement, name)? {
                    let mut texts = Vec::new();
                    write(&mut texts, 1, &Kind::Texts, name, scopes)?;
                    field(&mut pairs, 1, &pair(name, &texts));
                }
                field(out, number, &pairs);
            }
        }
    }
    Ok(())
}

fn object<'a>(value: &'a Value, name: &str) -> Result<&'a Map<String, Value>, NoField> {
    value.as_object().ok_or_else(|| NoField(format!("{name} that is no object")))
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a [Value], NoField> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| NoField(format!("{name} that is no list")))
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, NoField> {
    value.as_str().ok_or_else(|| NoField(format!("{name} that is no text")))
}

/// A message of name and value.
fn pair(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + value.len() + 8);
    field(&mut out, 1, name.as_bytes());
    field(&mut out, 2, value);
    out
}

/// The bytes inside messages that have only the field of that number, the outermost first.
fn wrapped(inside: &[u64], bytes: Vec<u8>) -> Vec<u8> {
    inside.iter().rev().fold(bytes, |bytes, number| {
        let mut out = Vec::with_capacity(bytes.len() + 8);
        field(&mut out, *number, &bytes);
        out
    })
}

fn field(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or_default() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or_default());
}
