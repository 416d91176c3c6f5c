//! The schemas of what is answered: the objects of `metrics.k8s.io` in both versions, and the types of apimachinery in
//! them.

mod meta;

use serde_json::{Map, Value, json};

use super::{Dialect, Version};

pub const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
pub const INFO: &str = "io.k8s.apimachinery.pkg.version.Info";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// The schema's name of a kind of `metrics.k8s.io`.
pub fn name_of(version: Version, kind: &str) -> String {
    format!("io.k8s.metrics.pkg.apis.metrics.{}.{kind}", version.name())
}

/// All schemas by name.
pub fn all(dialect: Dialect) -> Map<String, Value> {
    let write = Write(dialect);
    let meta = write.object_types().into_iter().chain(write.discovery_types());
    let mut schemas: Map<_, _> = meta.map(|(name, schema)| (format!("{META}.{name}"), schema)).collect();
    schemas.insert(QUANTITY.to_owned(), write.quantity());
    schemas.insert(INFO.to_owned(), meta::info());
    for version in Version::ALL {
        schemas.extend(write.metrics(version));
    }
    schemas
}

/// Properties in the order of reading: name, schema, whether it is always there.
type Properties<'a> = [(&'a str, Value, bool)];

#[derive(Clone, Copy)]
struct Write(Dialect);

impl Write {
    fn metrics(self, version: Version) -> Map<String, Value> {
        let usage = || {
            let mut schema = map(
                "The amounts used: cpu in cores, averaged over the window, and memory in bytes, the working set.",
                self.0.to(QUANTITY),
            );
            if self.0 == Dialect::V3 {
                schema["default"] = json!({});
            }
            schema
        };
        let time = || {
            self.described(
                "The end of the interval that was measured. It begins one window earlier.",
                &format!("{META}.Time"),
            )
        };
        let window = || {
            self.described(
                "The length of the interval over which CPU use was averaged, such as 14.998s.",
                &format!("{META}.Duration"),
            )
        };
        let metadata = || {
            self.described(
                "Name and labels of the object that was measured. The creation timestamp is the time of the request.",
                &format!("{META}.ObjectMeta"),
            )
        };
        let containers = || {
            let mut schema = list(
                "The containers of the pod, measured over one and the same interval.",
                self.0.to(&name_of(version, "ContainerMetrics")),
            );
            schema["x-kubernetes-list-type"] = json!("atomic");
            schema
        };
        let measured = [("timestamp", time(), true), ("window", window(), true)];
        let [timestamp, window] = measured;
        let container = object(
            "CPU and memory used by a container.",
            &[
                ("name", string("The name of the container in the pod's specification."), true),
                ("usage", usage(), true),
            ],
        );
        let node = object(
            "CPU and memory used by a node.",
            &[("metadata", metadata(), false), timestamp.clone(), window.clone(), ("usage", usage(), true)],
        );
        let pod = object(
            "CPU and memory used by the containers of a pod.",
            &[("metadata", metadata(), false), timestamp, window, ("containers", containers(), true)],
        );
        let list_of = |kind: &str, text: &str| {
            object(
                text,
                &[
                    (
                        "metadata",
                        self.described("Empty: a list is always complete.", &format!("{META}.ListMeta")),
                        false,
                    ),
                    (
                        "items",
                        list("The objects, in the order of their names.", self.0.to(&name_of(version, kind))),
                        true,
                    ),
                ],
            )
        };
        let top = |kind: &str, schema: Value| (name_of(version, kind), typed(schema, version, kind));
        [
            (name_of(version, "ContainerMetrics"), container),
            top("NodeMetrics", node),
            top("NodeMetricsList", list_of("NodeMetrics", "Nodes with the CPU and memory that they use.")),
            top("PodMetrics", pod),
            top("PodMetricsList", list_of("PodMetrics", "Pods with the CPU and memory that they use.")),
        ]
        .into_iter()
        .collect()
    }

    fn described(self, description: &str, name: &str) -> Value {
        self.0.described(description, name)
    }
}

fn string(description: &str) -> Value {
    json!({ "description": description, "type": "string" })
}

fn list(description: &str, items: Value) -> Value {
    let mut schema = json!({ "description": description, "type": "array" });
    schema["items"] = items;
    schema
}

fn map(description: &str, values: Value) -> Value {
    let mut schema = json!({ "description": description, "type": "object" });
    schema["additionalProperties"] = values;
    schema
}

fn object(description: &str, properties: &Properties<'_>) -> Value {
    let members: Map<_, _> =
        properties.iter().map(|(name, schema, _)| ((*name).to_owned(), schema.clone())).collect();
    let mut schema = json!({ "description": description, "type": "object", "properties": members });
    let required: Vec<_> =
        properties.iter().filter(|(_, _, required)| *required).map(|(name, ..)| *name).collect();
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// An object that can be asked for by itself: it names its kind and version.
fn typed(mut schema: Value, version: Version, kind: &str) -> Value {
    schema["properties"]["kind"] = string("The kind of this object, in CamelCase.");
    schema["properties"]["apiVersion"] = string("The group and version of this object's schema.");
    schema["x-kubernetes-group-version-kind"] =
        json!([{ "group": "metrics.k8s.io", "version": version.name(), "kind": kind }]);
    schema
}
