//! The documents in protobuf, as `openapi.v2.Document` and `openapi.v3.Document` of google/gnostic-models have them. Tables
//! name those fields that are used here; a test finds any other.

#[cfg(test)]
mod tests;
mod v2;
mod v3;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::Dialect;
use crate::api::yaml;

/// A message: the members of a JSON object with their field numbers, and the field that takes members beginning `x-`.
struct Shape {
    members: &'static [(&'static str, u64, Kind)],
    extensions: u64,
    /// It stands in a message that holds either it or, in its place, a reference.
    or_reference: bool,
}

/// How a member is written.
enum Kind {
    Text,
    Flag,
    /// A list of texts.
    Texts,
    /// A text in a message of its own: `TypeItem`.
    Type,
    /// An empty object, for which `DefaultType` has no field.
    Nothing,
    /// An object, inside messages that have nothing but the field of that number.
    Object(&'static [u64], &'static Shape),
    /// A list of objects.
    Objects(&'static Shape),
    /// An object of objects: pairs of name and value in that field, the value inside messages as above.
    Named(u64, &'static [u64], &'static Shape),
    /// A list of parameters of version 2, each inside the messages that say of which sort it is.
    Parameters,
    /// A list of security requirements.
    Security,
}

/// A member that the tables have no field for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the protobuf form of OpenAPI has no field for {0}")]
pub struct NoField(String);

/// A document in its dialect.
pub fn encode(dialect: Dialect, document: &Value) -> Result<Bytes, NoField> {
    let shape = match dialect {
        Dialect::V2 => &v2::DOCUMENT,
        Dialect::V3 => &v3::DOCUMENT,
    };
    message(document, shape).map(Bytes::from)
}

/// An object, or the reference in its place.
fn referable(value: &Value, shape: &Shape) -> Result<Vec<u8>, NoField> {
    match value.get("$ref") {
        _ if !shape.or_reference => message(value, shape),
        None => Ok(wrapped(&[1], message(value, shape)?)),
        Some(_) => Ok(wrapped(&[2], message(value, &v3::REFERENCE)?)),
    }
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
        Kind::Nothing if member.as_object().is_some_and(Map::is_empty) => field(out, number, &[]),
        Kind::Nothing => return Err(NoField(name.to_owned())),
        Kind::Object(inside, shape) => field(out, number, &wrapped(inside, referable(member, shape)?)),
        Kind::Objects(shape) => {
            for item in list(member, name)? {
                field(out, number, &referable(item, shape)?);
            }
        }
        Kind::Named(inner, inside, shape) => {
            let mut pairs = Vec::new();
            for (name, member) in object(member, name)? {
                field(&mut pairs, *inner, &pair(name, &wrapped(inside, referable(member, shape)?)));
            }
            field(out, number, &pairs);
        }
        Kind::Parameters => {
            for parameter in list(member, name)? {
                let (sort, shape) = match text(&parameter["in"], name)? {
                    "query" => (3, &v2::QUERY_PARAMETER),
                    "path" => (4, &v2::PATH_PARAMETER),
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
