//! The types of apimachinery that `metrics.k8s.io` and its discovery are made of.

use serde_json::{Value, json};

use super::{Dialect, META, Write, list, map, object, string};

type Named = (&'static str, Value);

impl Write {
    /// What is said of objects and lists, and the types in it.
    pub(super) fn object_types(self) -> Vec<Named> {
        let time = |text| self.described(text, &format!("{META}.Time"));
        let number = |text| json!({ "description": text, "type": "integer", "format": "int64" });
        let flag = |text| json!({ "description": text, "type": "boolean" });
        vec![
            (
                "Time",
                json!({ "description": "An instant as RFC 3339 writes it, in UTC.", "type": "string", "format": "date-time" }),
            ),
            ("Duration", string("A length of time as Go writes it, such as 1m0s or 14.998s.")),
            (
                "FieldsV1",
                json!({ "description": "A set of fields, as server-side apply writes it.", "type": "object" }),
            ),
            (
                "ListMeta",
                object(
                    "What is said of a list as a whole.",
                    &[
                        (
                            "continue",
                            string("Where to go on reading a list that was cut; empty when it was not."),
                            false,
                        ),
                        ("remainingItemCount", number("How many objects were cut off."), false),
                        ("resourceVersion", string("The version of the list in its store."), false),
                        ("selfLink", string("Not used any more."), false),
                    ],
                ),
            ),
            ("ObjectMeta", self.object_meta()),
            ("OwnerReference", {
                let mut schema = object(
                    "What an object belongs to.",
                    &[
                        ("apiVersion", string("The owner's group and version."), true),
                        (
                            "blockOwnerDeletion",
                            flag("Whether the owner waits for this object to go first."),
                            false,
                        ),
                        ("controller", flag("Whether the owner is the controller."), false),
                        ("kind", string("The owner's kind."), true),
                        ("name", string("The owner's name."), true),
                        ("uid", string("The owner's identity."), true),
                    ],
                );
                schema["x-kubernetes-map-type"] = json!("atomic");
                schema
            }),
            (
                "ManagedFieldsEntry",
                object(
                    "Which fields somebody set.",
                    &[
                        ("apiVersion", string("The version in which the fields are named."), false),
                        ("fieldsType", string("The form of the set: FieldsV1."), false),
                        ("fieldsV1", self.described("The fields.", &format!("{META}.FieldsV1")), false),
                        ("manager", string("Who set them."), false),
                        ("operation", string("Apply or Update."), false),
                        ("subresource", string("The subresource through which they were set."), false),
                        ("time", time("When they were set."), false),
                    ],
                ),
            ),
        ]
    }

    /// What discovery says.
    pub(super) fn discovery_types(self) -> Vec<Named> {
        let of = |name: &str| self.0.to(&format!("{META}.{name}"));
        let kind = ("kind", string("The kind of this object, in CamelCase."), false);
        let api_version = ("apiVersion", string("The group and version of this object's schema."), false);
        vec![
            (
                "APIGroupList",
                object(
                    "The groups that are served.",
                    &[
                        api_version.clone(),
                        ("groups", list("The groups.", of("APIGroup")), true),
                        kind.clone(),
                    ],
                ),
            ),
            (
                "APIGroup",
                object(
                    "A group and its versions.",
                    &[
                        api_version.clone(),
                        kind.clone(),
                        ("name", string("The name of the group."), true),
                        (
                            "preferredVersion",
                            self.described(
                                "The version to choose.",
                                &format!("{META}.GroupVersionForDiscovery"),
                            ),
                            false,
                        ),
                        (
                            "serverAddressByClientCIDRs",
                            list("Where the server is reached.", of("ServerAddressByClientCIDR")),
                            false,
                        ),
                        (
                            "versions",
                            list("The versions that are served.", of("GroupVersionForDiscovery")),
                            true,
                        ),
                    ],
                ),
            ),
            (
                "GroupVersionForDiscovery",
                object(
                    "A version of a group.",
                    &[
                        ("groupVersion", string("Group and version, with a slash between them."), true),
                        ("version", string("The version."), true),
                    ],
                ),
            ),
            (
                "ServerAddressByClientCIDR",
                object(
                    "Where some clients reach the server.",
                    &[
                        ("clientCIDR", string("The clients' addresses."), true),
                        ("serverAddress", string("The server's address."), true),
                    ],
                ),
            ),
            (
                "APIResourceList",
                object(
                    "The resources of a version.",
                    &[
                        api_version,
                        ("groupVersion", string("Group and version, with a slash between them."), true),
                        kind,
                        ("resources", list("The resources.", of("APIResource")), true),
                    ],
                ),
            ),
            ("APIResource", Self::api_resource()),
        ]
    }

    /// `ObjectMeta`: of its fields only name, namespace, labels and creation timestamp are served.
    fn object_meta(self) -> Value {
        let strings = |text| list(text, json!({ "type": "string" }));
        let labels = |text| map(text, json!({ "type": "string" }));
        let time = |text| self.described(text, &format!("{META}.Time"));
        let number = |text| json!({ "description": text, "type": "integer", "format": "int64" });
        let of = |name: &str| self.0.to(&format!("{META}.{name}"));
        object(
            "What is said of every object.",
            &[
                ("annotations", labels("Notes that are not selected by."), false),
                ("creationTimestamp", time("When the object was created."), false),
                (
                    "deletionGracePeriodSeconds",
                    number("How long the object may take to end once it is deleted."),
                    false,
                ),
                ("deletionTimestamp", time("When the object is to be gone."), false),
                ("finalizers", unique(strings("What has to happen before the object goes."), "set"), false),
                ("generateName", string("The begin of a name that the server completes."), false),
                ("generation", number("How often what is wanted has changed."), false),
                ("labels", labels("Names and values that objects are selected by."), false),
                (
                    "managedFields",
                    unique(list("Who set which fields.", of("ManagedFieldsEntry")), "atomic"),
                    false,
                ),
                ("name", string("The name, unique in its namespace."), false),
                ("namespace", string("The namespace; empty for what belongs to the whole cluster."), false),
                (
                    "ownerReferences",
                    owners(list("What this object belongs to.", of("OwnerReference"))),
                    false,
                ),
                ("resourceVersion", string("The version of the object in its store."), false),
                ("selfLink", string("Not used any more."), false),
                ("uid", string("The identity, unique in space and time."), false),
            ],
        )
    }

    /// `APIResource`.
    fn api_resource() -> Value {
        let strings = |text| list(text, json!({ "type": "string" }));
        let flag = |text| json!({ "description": text, "type": "boolean" });
        object(
            "A resource.",
            &[
                ("categories", strings("Names for groups of resources, such as all."), false),
                ("group", string("The group, where it is another than the list's."), false),
                ("kind", string("The kind of its objects."), true),
                ("name", string("The name, in the plural."), true),
                ("namespaced", flag("Whether its objects are in namespaces."), true),
                ("shortNames", strings("Shorter names."), false),
                ("singularName", string("The name in the singular."), true),
                ("storageVersionHash", string("The version in which objects are stored, hashed."), false),
                ("verbs", strings("What can be done with it."), true),
                ("version", string("The version, where it is another than the list's."), false),
            ],
        )
    }

    /// A number with a suffix; readers of version 3 take a bare number too.
    pub(super) fn quantity(self) -> Value {
        let text = "A number of cores or bytes in Kubernetes' notation, such as 250m, 1234624492n or 50Mi.";
        match self.0 {
            Dialect::V2 => string(text),
            Dialect::V3 => {
                json!({ "description": text, "oneOf": [{ "type": "string" }, { "type": "number" }] })
            }
        }
    }
}

/// `version.Info`, as `/version` answers it.
pub(super) fn info() -> Value {
    let names = [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ];
    let properties = names.map(|name| (name, json!({ "type": "string" }), true));
    object("What program answers.", &properties)
}

/// A list with what server-side apply is to know of it.
fn unique(mut list: Value, kind: &str) -> Value {
    list["x-kubernetes-list-type"] = json!(kind);
    list
}

fn owners(list: Value) -> Value {
    let mut list = unique(list, "map");
    list["x-kubernetes-list-map-keys"] = json!(["uid"]);
    list["x-kubernetes-patch-merge-key"] = json!("uid");
    list["x-kubernetes-patch-strategy"] = json!("merge");
    list
}
