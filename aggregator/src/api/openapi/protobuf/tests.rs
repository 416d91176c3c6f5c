use prost::Message as _;
use serde_json::json;

use super::*;

mod third;

/// The messages that the test looks at, as prost knows them.
mod read {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub struct Document {
        #[prost(string, tag = "1")]
        pub swagger: String,
        #[prost(message, tag = "8")]
        pub paths: Option<Paths>,
        #[prost(message, tag = "9")]
        pub definitions: Option<Schemas>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Paths {
        #[prost(message, repeated, tag = "2")]
        pub path: Vec<NamedPath>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NamedPath {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, tag = "2")]
        pub value: Option<PathItem>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct PathItem {
        #[prost(message, tag = "2")]
        pub get: Option<Operation>,
        #[prost(message, repeated, tag = "9")]
        pub parameters: Vec<ParametersItem>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct ParametersItem {
        #[prost(message, tag = "1")]
        pub parameter: Option<Parameter>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Parameter {
        #[prost(message, tag = "2")]
        pub non_body: Option<NonBody>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NonBody {
        #[prost(message, tag = "3")]
        pub query: Option<Query>,
        #[prost(message, tag = "4")]
        pub path: Option<Path>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Query {
        #[prost(string, tag = "4")]
        pub name: String,
        #[prost(string, tag = "6")]
        pub kind: String,
        #[prost(bool, tag = "20")]
        pub unique: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Path {
        #[prost(bool, tag = "1")]
        pub required: bool,
        #[prost(string, tag = "4")]
        pub name: String,
        #[prost(string, tag = "5")]
        pub kind: String,
        #[prost(bool, tag = "19")]
        pub unique: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Operation {
        #[prost(string, tag = "5")]
        pub id: String,
        #[prost(string, repeated, tag = "6")]
        pub produces: Vec<String>,
        #[prost(message, repeated, tag = "13")]
        pub extensions: Vec<NamedAny>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NamedAny {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, tag = "2")]
        pub value: Option<Any>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Any {
        #[prost(string, tag = "2")]
        pub yaml: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Schemas {
        #[prost(message, repeated, tag = "1")]
        pub named: Vec<NamedSchema>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct NamedSchema {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, tag = "2")]
        pub value: Option<Schema>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Schema {
        #[prost(string, tag = "1")]
        pub reference: String,
        #[prost(string, tag = "4")]
        pub description: String,
        #[prost(string, repeated, tag = "19")]
        pub required: Vec<String>,
        #[prost(message, tag = "25")]
        pub properties: Option<Schemas>,
    }
}

/// Place, name, type, and whether it is required and unique.
fn parameter(item: read::ParametersItem) -> [Value; 5] {
    let sort = item.parameter.unwrap().non_body.unwrap();
    match (sort.query, sort.path) {
        (Some(query), None) => {
            [json!("query"), json!(query.name), json!(query.kind), Value::Null, json!(query.unique)]
        }
        (None, Some(path)) => {
            [json!("path"), json!(path.name), json!(path.kind), json!(path.required), json!(path.unique)]
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_document_says_in_protobuf_what_it_says_in_json() {
    let documents = crate::api::openapi::Documents::new(0);
    let json: Value = serde_json::from_slice(&documents.v2.json).unwrap();
    let document = read::Document::decode(encode(Dialect::V2, &json).unwrap()).unwrap();
    assert_eq!(document.swagger, "2.0");
    let paths = document.paths.unwrap().path;
    assert_eq!(paths.len(), json["paths"].as_object().unwrap().len());
    for path in paths {
        let (item, expected) = (path.value.unwrap(), &json["paths"][&path.name]);
        let parameters: Vec<_> = item.parameters.into_iter().map(parameter).collect();
        assert_eq!(parameters.len(), expected["parameters"].as_array().map_or(0, Vec::len));
        for (index, found) in parameters.iter().enumerate() {
            let expected = &expected["parameters"][index];
            assert_eq!(
                *found,
                ["in", "name", "type", "required", "uniqueItems"].map(|key| expected[key].clone())
            );
        }
        let (operation, expected) = (item.get.unwrap(), &expected["get"]);
        assert_eq!(operation.id, expected["operationId"]);
        assert_eq!(json!(operation.produces), expected["produces"]);
        let action = operation.extensions.iter().find(|named| named.name == "x-kubernetes-action");
        let action = action.map(|named| named.value.as_ref().unwrap().yaml.trim_end());
        assert_eq!(action, expected["x-kubernetes-action"].as_str());
    }
    let schemas = document.definitions.unwrap().named;
    assert_eq!(schemas.len(), json["definitions"].as_object().unwrap().len());
    for schema in schemas {
        let (found, expected) = (schema.value.unwrap(), &json["definitions"][&schema.name]);
        assert_eq!(found.description, expected["description"]);
        assert_eq!(found.required.len(), expected["required"].as_array().map_or(0, Vec::len));
        for property in found.properties.unwrap_or_default().named {
            let expected = &expected["properties"][&property.name];
            let property = property.value.unwrap();
            assert_eq!(property.reference, expected["$ref"].as_str().unwrap_or_default());
            assert_eq!(property.description, expected["description"].as_str().unwrap_or_default());
        }
    }
}

#[test]
fn what_has_no_field_is_found() {
    for document in
        [json!({"swagger": "2.0", "host": "x"}), json!({"swagger": 2}), json!({"paths": {"/": {"put": {}}}})]
    {
        assert!(encode(Dialect::V2, &document).is_err(), "{document}");
    }
    for document in [
        json!({"openapi": "3.0.0", "servers": []}),
        json!({"components": {"schemas": {"x": {"default": 1}}}}),
        json!({"components": {"schemas": {"x": {"$ref": "y", "type": "string"}}}}),
    ] {
        assert!(encode(Dialect::V3, &document).is_err(), "{document}");
    }
}
