//! Version 3, read back with prost.

use prost::Message;
use serde_json::{Value, json};

use super::super::{Dialect, encode};

/// A message: each field with its number, as prost has it.
macro_rules! message {
    ($name:ident { $($(#[$field:meta])* $key:ident: $type:ty,)* }) => {
        #[derive(Clone, PartialEq, Message)]
        struct $name { $($(#[$field])* $key: $type,)* }
    };
}

/// A name and what has it.
macro_rules! named {
    ($name:ident, $value:ty) => {
        message!($name {
            #[prost(string, tag = "1")]
            name: String,
            #[prost(message, required, tag = "2")]
            value: $value,
        });
    };
}

message!(Document {
    #[prost(string, tag = "1")]
    openapi: String,
    #[prost(message, required, tag = "4")]
    paths: Paths,
    #[prost(message, required, tag = "5")]
    components: Components,
});
message!(Paths {
    #[prost(message, repeated, tag = "1")]
    path: Vec<NamedPath>,
});
named!(NamedPath, PathItem);
message!(PathItem {
    #[prost(message, required, tag = "4")]
    get: Operation,
    #[prost(message, repeated, tag = "13")]
    parameters: Vec<ParameterOrReference>,
});
message!(ParameterOrReference {
    #[prost(message, required, tag = "1")]
    parameter: Parameter,
});
message!(Parameter {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    place: String,
    #[prost(string, tag = "3")]
    description: String,
    #[prost(bool, tag = "4")]
    required: bool,
    #[prost(message, required, tag = "10")]
    schema: SchemaOrReference,
});
message!(Operation {
    #[prost(string, tag = "5")]
    id: String,
    #[prost(message, required, tag = "8")]
    responses: Responses,
});
message!(Responses {
    #[prost(message, repeated, tag = "2")]
    named: Vec<NamedResponse>,
});
named!(NamedResponse, ResponseOrReference);
message!(ResponseOrReference {
    #[prost(message, required, tag = "1")]
    response: Response,
});
message!(Response {
    #[prost(string, tag = "1")]
    description: String,
    #[prost(message, optional, tag = "3")]
    content: Option<MediaTypes>,
});
message!(MediaTypes {
    #[prost(message, repeated, tag = "1")]
    named: Vec<NamedMediaType>,
});
named!(NamedMediaType, MediaType);
message!(MediaType {
    #[prost(message, required, tag = "1")]
    schema: SchemaOrReference,
});
message!(Components {
    #[prost(message, required, tag = "1")]
    schemas: Schemas,
    #[prost(message, required, tag = "7")]
    security_schemes: Schemas,
});
message!(Schemas {
    #[prost(message, repeated, tag = "1")]
    named: Vec<NamedSchema>,
});
named!(NamedSchema, SchemaOrReference);
message!(SchemaOrReference {
    #[prost(message, optional, boxed, tag = "1")]
    schema: Option<Box<Schema>>,
    #[prost(message, optional, tag = "2")]
    reference: Option<Reference>,
});
message!(Reference {
    #[prost(string, tag = "1")]
    to: String,
});
message!(Schema {
    #[prost(bool, tag = "20")]
    unique: bool,
    #[prost(string, repeated, tag = "23")]
    required: Vec<String>,
    #[prost(string, tag = "25")]
    kind: String,
    #[prost(message, repeated, tag = "26")]
    all_of: Vec<SchemaOrReference>,
    #[prost(message, repeated, tag = "27")]
    one_of: Vec<SchemaOrReference>,
    #[prost(message, optional, tag = "30")]
    items: Option<Inside>,
    #[prost(message, optional, tag = "31")]
    properties: Option<Schemas>,
    #[prost(message, optional, tag = "32")]
    additional: Option<Inside>,
    #[prost(message, optional, tag = "33")]
    default: Option<Nothing>,
    #[prost(string, tag = "34")]
    description: String,
    #[prost(string, tag = "35")]
    format: String,
    #[prost(message, repeated, tag = "36")]
    extensions: Vec<NamedAny>,
});
message!(Inside {
    #[prost(message, optional, boxed, tag = "1")]
    schema: Option<Box<SchemaOrReference>>,
});
message!(Nothing {});
named!(NamedAny, Any);
message!(Any {
    #[prost(string, tag = "2")]
    yaml: String,
});

/// A schema as JSON has it. Extensions are YAML: only that they are there is looked at, their values are those of `like`.
fn schema(found: &SchemaOrReference, like: &Value) -> Value {
    if let Some(reference) = &found.reference {
        assert!(found.schema.is_none());
        return json!({ "$ref": reference.to });
    }
    let found = found.schema.as_ref().unwrap();
    let mut value = json!({});
    if found.unique {
        value["uniqueItems"] = json!(true);
    }
    for (key, text) in [("type", &found.kind), ("description", &found.description), ("format", &found.format)]
    {
        if !text.is_empty() {
            value[key] = json!(text);
        }
    }
    if !found.required.is_empty() {
        value["required"] = json!(found.required);
    }
    for (key, items) in [("allOf", &found.all_of), ("oneOf", &found.one_of)] {
        if !items.is_empty() {
            value[key] = items.iter().map(|item| schema(item, &Value::Null)).collect();
        }
    }
    for (key, inside) in [("items", &found.items), ("additionalProperties", &found.additional)] {
        if let Some(inside) = inside {
            value[key] = schema(inside.schema.as_ref().unwrap(), &Value::Null);
        }
    }
    if found.default.is_some() {
        value["default"] = json!({});
    }
    if let Some(properties) = &found.properties {
        value["properties"] = schemas(properties, &like["properties"]);
    }
    for extension in &found.extensions {
        assert!(!extension.value.yaml.is_empty());
        value[&extension.name] = like[&extension.name].clone();
    }
    value
}

fn schemas(found: &Schemas, like: &Value) -> Value {
    found.named.iter().map(|found| (found.name.clone(), schema(&found.value, &like[&found.name]))).collect()
}

fn parameter(found: ParameterOrReference) -> Value {
    let Parameter { name, place, description, required, schema: kind } = found.parameter;
    let kind = schema(&kind, &Value::Null);
    let mut value = json!({ "name": name, "in": place, "description": description, "schema": kind });
    if required {
        value["required"] = json!(true);
    }
    value
}

fn response(found: Response) -> Value {
    let mut value = json!({ "description": found.description });
    if let Some(content) = found.content {
        let kinds = content.named.into_iter();
        let kinds =
            kinds.map(|kind| (kind.name, json!({ "schema": schema(&kind.value.schema, &Value::Null) })));
        value["content"] = kinds.collect();
    }
    value
}

#[test]
fn each_document_says_in_protobuf_what_it_says_in_json() {
    let documents = crate::api::openapi::Documents::new(0);
    for path in ["apis/metrics.k8s.io", "apis/metrics.k8s.io/v1", "apis/metrics.k8s.io/v1beta1"] {
        let document = documents.group(path).unwrap();
        let json: Value = serde_json::from_slice(&document.json).unwrap();
        let bytes = document.protobuf.clone().unwrap();
        assert_eq!(encode(Dialect::V3, &json).unwrap(), bytes);
        let found = Document::decode(bytes).unwrap();
        assert_eq!(found.openapi, json["openapi"]);
        let expected = &json["components"]["schemas"];
        assert_eq!(schemas(&found.components.schemas, expected), *expected);
        assert_eq!(found.components.security_schemes.named[0].name, "BearerToken");
        assert_eq!(found.paths.path.len(), json["paths"].as_object().unwrap().len());
        for NamedPath { name, value: item } in found.paths.path {
            let expected = &json["paths"][&name];
            let parameters: Vec<_> = item.parameters.into_iter().map(parameter).collect();
            assert_eq!(parameters, *expected["parameters"].as_array().unwrap_or(&Vec::new()));
            assert_eq!(item.get.id, expected["get"]["operationId"]);
            let responses = item.get.responses.named.into_iter();
            let responses: Value =
                responses.map(|found| (found.name, response(found.value.response))).collect();
            assert_eq!(responses, expected["get"]["responses"]);
        }
    }
}
