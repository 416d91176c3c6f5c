//! The same lists as a server would write them that derives its encoders: objects are built for each request, serde or
//! prost writes them into one buffer. What Waggle's way is compared with, in the same run.
#![allow(dead_code, reason = "every benchmark takes its part")]

use std::collections::{BTreeMap, HashMap};

use bytes::BytesMut;
use prost::Message;
use serde::Serialize;
use waggle_aggregator::{
    api::{Source, quantity},
    units::RealTime,
    view::Usage,
};

fn text(write: impl FnOnce(&mut BytesMut)) -> String {
    let mut out = BytesMut::new();
    write(&mut out);
    String::from_utf8_lossy(&out).into_owned()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    kind: &'static str,
    api_version: &'static str,
    metadata: Empty,
    items: Vec<Pod>,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct Pod {
    metadata: Metadata,
    timestamp: String,
    window: String,
    containers: Vec<Container>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    creation_timestamp: String,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Container {
    name: String,
    usage: Quantities,
}

#[derive(Serialize)]
struct Quantities {
    cpu: String,
    memory: String,
}

fn owned(pair: (&str, &str)) -> (String, String) {
    (pair.0.to_owned(), pair.1.to_owned())
}

fn quantities(usage: &Usage) -> Quantities {
    Quantities {
        cpu: text(|out| quantity::cpu(usage.cpu).write(out)),
        memory: text(|out| quantity::memory(usage.memory).write(out)),
    }
}

/// All pods as JSON, by serde.
pub fn json(source: &Source, created: RealTime) -> Vec<u8> {
    let mut views = HashMap::new();
    let mut items = Vec::new();
    for pod in source.inventory.pods(None) {
        let view = views.entry(pod.node.clone()).or_insert_with(|| source.views.node(&pod.node));
        let Some(entry) = view.as_ref().and_then(|view| view.pods.get(&pod)) else { continue };
        items.push(Pod {
            metadata: Metadata {
                name: pod.name.to_string(),
                namespace: pod.namespace.to_string(),
                creation_timestamp: text(|out| quantity::instant(out, created)),
                labels: pod.labels.iter().map(owned).collect(),
            },
            timestamp: text(|out| quantity::instant(out, entry.measured.timestamp)),
            window: text(|out| quantity::duration(out, entry.measured.window)),
            containers: entry
                .containers()
                .map(|(name, usage)| Container { name: name.to_owned(), usage: quantities(&usage) })
                .collect(),
        });
    }
    let list =
        List { kind: "PodMetricsList", api_version: "metrics.k8s.io/v1beta1", metadata: Empty {}, items };
    let mut out = serde_json::to_vec(&list).expect("text can be written");
    out.push(b'\n');
    out
}

#[derive(Clone, PartialEq, Message)]
struct TypeMeta {
    #[prost(string, tag = "1")]
    api_version: String,
    #[prost(string, tag = "2")]
    kind: String,
}

#[derive(Clone, PartialEq, Message)]
struct Unknown {
    #[prost(message, optional, tag = "1")]
    type_meta: Option<TypeMeta>,
    #[prost(bytes = "vec", optional, tag = "2")]
    raw: Option<Vec<u8>>,
    #[prost(string, optional, tag = "3")]
    content_encoding: Option<String>,
    #[prost(string, optional, tag = "4")]
    content_type: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, optional, tag = "1")]
    seconds: Option<i64>,
    #[prost(int32, optional, tag = "2")]
    nanos: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct Span {
    #[prost(int64, optional, tag = "1")]
    nanos: Option<i64>,
}

#[derive(Clone, PartialEq, Message)]
struct Quantity {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ObjectMeta {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "3")]
    namespace: String,
    #[prost(message, optional, tag = "8")]
    created: Option<Time>,
    #[prost(btree_map = "string, string", tag = "11")]
    labels: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerMetrics {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(btree_map = "string, message", tag = "2")]
    usage: BTreeMap<String, Quantity>,
}

#[derive(Clone, PartialEq, Message)]
struct PodMetrics {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ObjectMeta>,
    #[prost(message, optional, tag = "2")]
    timestamp: Option<Time>,
    #[prost(message, optional, tag = "3")]
    window: Option<Span>,
    #[prost(message, repeated, tag = "4")]
    containers: Vec<ContainerMetrics>,
}

#[derive(Clone, PartialEq, Message)]
struct ListMeta {}

#[derive(Clone, PartialEq, Message)]
struct PodMetricsList {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ListMeta>,
    #[prost(message, repeated, tag = "2")]
    items: Vec<PodMetrics>,
}

#[allow(clippy::unnecessary_wraps, reason = "the field is one")]
fn time(at: RealTime) -> Option<Time> {
    Some(Time { seconds: i64::try_from(at.0 / 1_000_000_000).ok(), nanos: Some(0) })
}

/// All pods as protobuf, by prost.
pub fn protobuf(source: &Source, created: RealTime) -> Vec<u8> {
    let mut views = HashMap::new();
    let mut items = Vec::new();
    for pod in source.inventory.pods(None) {
        let view = views.entry(pod.node.clone()).or_insert_with(|| source.views.node(&pod.node));
        let Some(entry) = view.as_ref().and_then(|view| view.pods.get(&pod)) else { continue };
        let usage = |usage: &Usage| {
            let Quantities { cpu, memory } = quantities(usage);
            let quantity = |text| Quantity { text: Some(text) };
            BTreeMap::from([("cpu".to_owned(), quantity(cpu)), ("memory".to_owned(), quantity(memory))])
        };
        items.push(PodMetrics {
            metadata: Some(ObjectMeta {
                name: pod.name.to_string(),
                namespace: pod.namespace.to_string(),
                created: time(created),
                labels: pod.labels.iter().map(owned).collect(),
            }),
            timestamp: time(entry.measured.timestamp),
            window: Some(Span { nanos: i64::try_from(entry.measured.window.as_nanos()).ok() }),
            containers: entry
                .containers()
                .map(|(name, found)| ContainerMetrics { name: name.to_owned(), usage: usage(&found) })
                .collect(),
        });
    }
    let list = PodMetricsList { metadata: Some(ListMeta {}), items };
    let unknown = Unknown {
        type_meta: Some(TypeMeta {
            api_version: "metrics.k8s.io/v1beta1".to_owned(),
            kind: "PodMetricsList".to_owned(),
        }),
        raw: Some(list.encode_to_vec()),
        content_encoding: Some(String::new()),
        content_type: Some(String::new()),
    };
    let mut out = b"k8s\0".to_vec();
    unknown.encode(&mut out).expect("a vector has room");
    out
}
