//! The fields of version 3 (gnostic-models, `openapiv3/OpenAPIv3.proto`).

use super::{Kind, Shape};

pub(super) static DOCUMENT: Shape = Shape {
    members: &[
        ("openapi", 1, Kind::Text),
        ("info", 2, Kind::Object(&[], &INFO)),
        ("paths", 4, Kind::Named(1, &[], &PATH)),
        ("components", 5, Kind::Object(&[], &COMPONENTS)),
    ],
    extensions: 9,
    or_reference: false,
};
pub(super) static REFERENCE: Shape =
    Shape { members: &[("$ref", 1, Kind::Text)], extensions: 0, or_reference: false };
static INFO: Shape = Shape {
    members: &[("title", 1, Kind::Text), ("version", 6, Kind::Text)],
    extensions: 7,
    or_reference: false,
};
static PATH: Shape = Shape {
    members: &[("get", 4, Kind::Object(&[], &OPERATION)), ("parameters", 13, Kind::Objects(&PARAMETER))],
    extensions: 14,
    or_reference: false,
};
static OPERATION: Shape = Shape {
    members: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("responses", 8, Kind::Named(2, &[], &RESPONSE)),
    ],
    extensions: 13,
    or_reference: false,
};
static PARAMETER: Shape = Shape {
    members: &[
        ("name", 1, Kind::Text),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 10, Kind::Object(&[], &SCHEMA)),
    ],
    extensions: 14,
    or_reference: true,
};
static RESPONSE: Shape = Shape {
    members: &[("description", 1, Kind::Text), ("content", 3, Kind::Named(1, &[], &MEDIA_TYPE))],
    extensions: 5,
    or_reference: true,
};
static MEDIA_TYPE: Shape =
    Shape { members: &[("schema", 1, Kind::Object(&[], &SCHEMA))], extensions: 5, or_reference: false };
static COMPONENTS: Shape = Shape {
    members: &[
        ("schemas", 1, Kind::Named(1, &[], &SCHEMA)),
        ("securitySchemes", 7, Kind::Named(1, &[], &SECURITY_SCHEME)),
    ],
    extensions: 10,
    or_reference: false,
};
static SECURITY_SCHEME: Shape = Shape {
    members: &[
        ("type", 1, Kind::Text),
        ("description", 2, Kind::Text),
        ("name", 3, Kind::Text),
        ("in", 4, Kind::Text),
    ],
    extensions: 9,
    or_reference: true,
};
static SCHEMA: Shape = Shape {
    members: &[
        ("uniqueItems", 20, Kind::Flag),
        ("required", 23, Kind::Texts),
        ("type", 25, Kind::Text),
        ("allOf", 26, Kind::Objects(&SCHEMA)),
        ("oneOf", 27, Kind::Objects(&SCHEMA)),
        ("items", 30, Kind::Object(&[1], &SCHEMA)),
        ("properties", 31, Kind::Named(1, &[], &SCHEMA)),
        ("additionalProperties", 32, Kind::Object(&[1], &SCHEMA)),
        ("default", 33, Kind::Nothing),
        ("description", 34, Kind::Text),
        ("format", 35, Kind::Text),
    ],
    extensions: 36,
    or_reference: true,
};
