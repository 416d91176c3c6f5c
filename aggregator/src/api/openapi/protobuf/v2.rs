//! The fields of version 2 (gnostic-models, `openapiv2/OpenAPIv2.proto`).

use super::{Kind, Shape};

pub(super) static DOCUMENT: Shape = Shape {
    members: &[
        ("swagger", 1, Kind::Text),
        ("info", 2, Kind::Object(&[], &INFO)),
        ("paths", 8, Kind::Named(2, &[], &PATH)),
        ("definitions", 9, Kind::Named(1, &[], &SCHEMA)),
        ("security", 12, Kind::Security),
        ("securityDefinitions", 13, Kind::Named(1, &[2], &API_KEY)),
    ],
    extensions: 16,
    or_reference: false,
};
static INFO: Shape = Shape {
    members: &[("title", 1, Kind::Text), ("version", 2, Kind::Text)],
    extensions: 7,
    or_reference: false,
};
static API_KEY: Shape = Shape {
    members: &[
        ("type", 1, Kind::Text),
        ("name", 2, Kind::Text),
        ("in", 3, Kind::Text),
        ("description", 4, Kind::Text),
    ],
    extensions: 5,
    or_reference: false,
};
static PATH: Shape = Shape {
    members: &[("get", 2, Kind::Object(&[], &OPERATION)), ("parameters", 9, Kind::Parameters)],
    extensions: 10,
    or_reference: false,
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
    or_reference: false,
};
static RESPONSE: Shape = Shape {
    members: &[("description", 1, Kind::Text), ("schema", 2, Kind::Object(&[1], &SCHEMA))],
    extensions: 5,
    or_reference: false,
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
    or_reference: false,
};
pub(super) static QUERY_PARAMETER: Shape = Shape {
    members: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 6, Kind::Text),
        ("uniqueItems", 20, Kind::Flag),
    ],
    extensions: 23,
    or_reference: false,
};
pub(super) static PATH_PARAMETER: Shape = Shape {
    members: &[
        ("required", 1, Kind::Flag),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("name", 4, Kind::Text),
        ("type", 5, Kind::Text),
        ("uniqueItems", 19, Kind::Flag),
    ],
    extensions: 22,
    or_reference: false,
};
