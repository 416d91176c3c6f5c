//! Answers in protobuf: decoded as a client does, they say what the answers in JSON say.

use bytes::BytesMut;
use jiff::Timestamp;
use proptest::{collection, prelude::*};
use prost::Message;
use serde_json::{Map, Value, json};

use super::{messages as m, *};
use crate::api::quantity;

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn ask_bytes(api: &Api<Told>, path: &str, accept: &str) -> (StatusCode, HeaderMap, bytes::Bytes) {
    let request = Request::builder().uri(path).header("accept", accept).body(()).unwrap();
    let (head, body) = api.answer(request).await.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

/// The document as JSON would have it: its kind decides how it is decoded.
fn decode(bytes: &[u8]) -> Value {
    let unknown = m::Unknown::decode(bytes.strip_prefix(b"k8s\0").unwrap()).unwrap();
    let (raw, types) = (unknown.raw.unwrap(), unknown.type_meta.unwrap());
    assert_eq!((unknown.content_encoding.as_deref(), unknown.content_type.as_deref()), (Some(""), Some("")));
    let mut value = match &*types.kind {
        "Status" => status(m::Status::decode(&*raw).unwrap()),
        "APIGroupList" => json!({"groups": all(m::GroupList::decode(&*raw).unwrap().groups, group)}),
        "APIGroup" => group(m::Group::decode(&*raw).unwrap()),
        "APIResourceList" => resources(m::ResourceList::decode(&*raw).unwrap()),
        kind => match kind.strip_suffix("List") {
            Some(kind) => {
                let list = m::List::decode(&*raw).unwrap();
                assert_eq!(list.metadata, Some(m::ListMeta::default()));
                json!({"metadata": {}, "items": all(list.items, |item| object(kind, &item))})
            }
            None => object(kind, &raw),
        },
    };
    value["kind"] = types.kind.into();
    if !types.api_version.is_empty() {
        value["apiVersion"] = types.api_version.into();
    }
    value
}

fn all<T>(items: Vec<T>, value: impl Fn(T) -> Value) -> Value {
    items.into_iter().map(value).collect()
}

/// An object without `kind` and `apiVersion`.
fn object(kind: &str, raw: &[u8]) -> Value {
    match kind {
        "NodeMetrics" => {
            let node = m::NodeMetrics::decode(raw).unwrap();
            json!({"metadata": metadata(node.metadata), "timestamp": time(&node.timestamp),
                   "window": window(&node.window), "usage": usages(node.usage)})
        }
        "PodMetrics" => {
            let pod = m::PodMetrics::decode(raw).unwrap();
            let container =
                |found: m::ContainerMetrics| json!({"name": found.name, "usage": usages(found.usage)});
            json!({"metadata": metadata(pod.metadata), "timestamp": time(&pod.timestamp),
                   "window": window(&pod.window), "containers": all(pod.containers, container)})
        }
        "PartialObjectMetadata" => {
            json!({"metadata": metadata(m::PartialObjectMetadata::decode(raw).unwrap().metadata)})
        }
        other => panic!("no such kind: {other}"),
    }
}

fn metadata(meta: m::ObjectMeta) -> Value {
    let mut value = json!({"name": meta.name, "creationTimestamp": time(&meta.creation_timestamp)});
    if !meta.namespace.is_empty() {
        value["namespace"] = meta.namespace.into();
    }
    if !meta.labels.is_empty() {
        value["labels"] = json!(meta.labels);
    }
    value
}

fn time(time: &m::Time) -> Value {
    assert_eq!(time.nanos, 0);
    Timestamp::from_second(time.seconds).unwrap().to_string().into()
}

fn window(window: &m::Duration) -> Value {
    let mut out = BytesMut::new();
    quantity::duration(&mut out, Duration::from_nanos(window.nanos.try_into().unwrap()));
    String::from_utf8(out.to_vec()).unwrap().into()
}

fn usages(usage: BTreeMap<String, m::Quantity>) -> Value {
    usage.into_iter().map(|(key, quantity)| (key, quantity.text.into())).collect::<Map<_, _>>().into()
}

fn status(status: m::Status) -> Value {
    assert_eq!(status.metadata, Some(m::ListMeta::default()));
    let mut value = json!({"metadata": {}, "status": status.outcome, "message": status.message,
                           "reason": status.reason, "code": status.code});
    if let Some(details) = status.details {
        let mut map = Map::new();
        for (key, text) in [("name", details.name), ("group", details.group), ("kind", details.kind)] {
            if !text.is_empty() {
                map.insert(key.to_owned(), text.into());
            }
        }
        if !details.causes.is_empty() {
            let cause = |c: m::Cause| json!({"reason": c.reason, "message": c.message, "field": c.field});
            map.insert("causes".to_owned(), all(details.causes, cause));
        }
        value["details"] = map.into();
    }
    value
}

fn group(group: m::Group) -> Value {
    let version = |v: m::GroupVersion| json!({"groupVersion": v.group_version, "version": v.version});
    let address =
        |a: m::ServerAddress| json!({"clientCIDR": a.client_cidr, "serverAddress": a.server_address});
    json!({"name": group.name, "versions": all(group.versions, version),
           "preferredVersion": version(group.preferred_version),
           "serverAddressByClientCIDRs": all(group.server_addresses, address)})
}

fn resources(list: m::ResourceList) -> Value {
    let resource = |r: m::Resource| {
        assert!(r.short_names.is_empty());
        json!({"name": r.name, "namespaced": r.namespaced, "kind": r.kind, "verbs": r.verbs.items,
               "singularName": r.singular_name})
    };
    json!({"groupVersion": list.group_version, "resources": all(list.resources, resource)})
}

/// What JSON says; its partial metadata has a kind for every item, which protobuf has not.
fn without_item_kinds(mut document: Value) -> Value {
    for item in document.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        let item = item.as_object_mut().unwrap();
        item.remove("kind");
        item.remove("apiVersion");
    }
    document
}

/// Asks for the same in both formats, and gives the status and the document that both are.
async fn both(api: &Api<Told>, path: &str, conversion: &str) -> (StatusCode, Value) {
    let (json_status, headers, json_body) =
        ask_bytes(api, path, &format!("application/json{conversion}, application/json")).await;
    assert_eq!(headers[header::CONTENT_TYPE], "application/json");
    let accept = format!("{PROTOBUF}{conversion}, {PROTOBUF}, */*");
    let (status, headers, body) = ask_bytes(api, path, &accept).await;
    assert_eq!(headers[header::CONTENT_TYPE], PROTOBUF, "{path}");
    assert_eq!(status, json_status, "{path}");
    let expected = without_item_kinds(serde_json::from_slice(&json_body).unwrap());
    let found = decode(&body);
    assert_eq!(found, expected, "{path}");
    (status, found)
}

#[tokio::test]
async fn everything_is_the_same_as_in_json() {
    let api = api_with(Decision::Allow, Settings { now, swap: true, ..Settings::default() });
    for (path, code) in [
        ("/apis", 200),
        ("/apis/metrics.k8s.io", 200),
        ("/apis/metrics.k8s.io/v1", 200),
        ("/apis/metrics.k8s.io/v1beta1", 200),
        ("/apis/metrics.k8s.io/v1/nodes", 200),
        ("/apis/metrics.k8s.io/v1beta1/pods", 200),
        ("/apis/metrics.k8s.io/v1/namespaces/nope/pods", 200),
        ("/apis/metrics.k8s.io/v1beta1/nodes/a", 200),
        ("/apis/metrics.k8s.io/v1/namespaces/shop/pods/web-0", 200),
        ("/apis/metrics.k8s.io/v1/nodes/b", 404),
        ("/apis/metrics.k8s.io/v1/nodes/nope", 404),
        ("/apis/metrics.k8s.io/v2/nodes", 404),
        ("/apis/metrics.k8s.io/v1/pods?limit=x", 400),
        ("/apis/metrics.k8s.io/v1/pods?watch=1", 405),
        ("/apis/metrics.k8s.io/v1/pods?sendInitialEvents=1&resourceVersionMatch=Exact", 422),
        ("/apis?timeout=soon", 400),
    ] {
        assert_eq!(both(&api, path, "").await.0, code, "{path}");
    }
    for version in ["v1", "v1beta1"] {
        let as_list = format!(";as=PartialObjectMetadataList;v={version};g=meta.k8s.io");
        let (_, list) = both(&api, "/apis/metrics.k8s.io/v1/pods", &as_list).await;
        assert_eq!(list["apiVersion"], format!("meta.k8s.io/{version}"));
        assert_eq!(list["items"].as_array().unwrap().len(), 2);
        let as_one = format!(";as=PartialObjectMetadata;v={version};g=meta.k8s.io");
        let (_, one) = both(&api, "/apis/metrics.k8s.io/v1/nodes/a", &as_one).await;
        assert_eq!(one["kind"], "PartialObjectMetadata");
    }
    let denied =
        api_with(Decision::Deny { reason: "no rule".into() }, Settings { now, ..Settings::default() });
    assert_eq!(both(&denied, "/apis/metrics.k8s.io/v1/nodes", "").await.0, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_node_is_these_bytes_in_both_versions() {
    let api = api();
    for (version, head) in [
        ("v1", b"k8s\0\x0a\x20\x0a\x11metrics.k8s.io/v1\x12\x0bNodeMetrics".as_slice()),
        ("v1beta1", b"k8s\0\x0a\x25\x0a\x16metrics.k8s.io/v1beta1\x12\x0bNodeMetrics"),
    ] {
        let raw = [
            b"\x12\x4c".as_slice(),
            b"\x0a\x18\x0a\x01a\x42\x08\x08\xa7\xdc\xe1\xcf\x06\x10\x00\x5a\x09\x0a\x04zone\x12\x01a",
            b"\x12\x08\x08\xa1\xdc\xe1\xcf\x06\x10\x00",
            b"\x1a\x06\x08\x80\xa3\xcd\xef\x37",
            b"\x22\x0d\x0a\x03cpu\x12\x06\x0a\x04250m",
            b"\x22\x0f\x0a\x06memory\x12\x05\x0a\x031Gi",
        ];
        let expected = [head, &raw.concat(), b"\x1a\x00\x22\x00"].concat();
        let path = format!("/apis/metrics.k8s.io/{version}/nodes/a");
        let (_, _, body) = ask_bytes(&api, &path, &format!("{PROTOBUF}, */*")).await;
        assert_eq!(body.escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

#[tokio::test]
async fn long_lists_come_in_frames() {
    let api = api();
    let mut view = NodeView::default();
    for index in 0..2000 {
        let name = format!("pod-{index:05}");
        api.source.inventory.apply_pod(mk_pod("many", &name, "many", &[("app", "web")], true));
        set(&api.source, &mut view, ("many", &name), 0, &[("c", usage(index, 1024))]);
    }
    api.source.views.publish("many".into(), view);
    let path = "/apis/metrics.k8s.io/v1/namespaces/many/pods";
    let request = Request::builder().uri(path).header("accept", PROTOBUF).body(()).unwrap();
    let mut body = api.answer(request).await.into_body();
    let mut frames = Vec::new();
    while let Some(frame) = body.frame().await {
        frames.push(frame.unwrap().into_data().unwrap().len());
    }
    assert!(frames.len() > 2 && frames.iter().all(|length| *length < 68 * 1024), "{frames:?}");
    let (_, list) = both(&api, path, "").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 2000);
}

/// Namespace, name, labels, containers with their usage, timestamp (ns) and window (ns).
type RandomPod = (String, String, BTreeMap<String, String>, Vec<(String, Usage)>, u64, u64);

fn any_usage() -> impl Strategy<Value = Usage> {
    // Numbers of all lengths, with and without zeros at their ends.
    let number = || {
        (0..=u64::MAX, 0_u32..64, 0_u32..19).prop_map(|(value, shift, zeros)| {
            let value = value >> shift;
            value / 10_u64.pow(zeros) * 10_u64.pow(zeros)
        })
    };
    (number(), number(), any::<u32>(), proptest::option::of(number())).prop_map(
        |(cpu, memory, shift, swap)| Usage {
            cpu: NanoCores(cpu),
            memory: Bytes(memory >> (shift % 44) << (shift % 44)),
            swap: swap.map(Bytes),
        },
    )
}

fn any_pod() -> impl Strategy<Value = RandomPod> {
    (
        "[a-c]",
        "[a-z0-9]{1,40}",
        collection::btree_map(any::<String>(), any::<String>(), 0..4),
        collection::vec(("[a-z]{1,150}", any_usage()), 1..4),
        any::<u64>(),
        1..u64::MAX / 2,
    )
}

fn source_of(pods: &[RandomPod]) -> Source {
    let source =
        Source { inventory: Inventory::default(), views: Views::default(), max_age: Duration::from_mins(1) };
    let mut view = NodeView::default();
    for (namespace, name, pod_labels, containers, timestamp, window) in pods {
        let pairs: Vec<_> = pod_labels.iter().map(|(key, value)| (&**key, &**value)).collect();
        source.inventory.apply_pod(mk_pod(namespace, name, "n", &pairs, true));
        let measured = Measured {
            timestamp: RealTime(*timestamp),
            window: Duration::from_nanos(*window),
            seen: now().instant,
        };
        // The node's own entry: what its last pod's first container uses, under that pod's labels.
        source.inventory.apply_node(Node { labels: labels(&pairs), ..mk_node("n") });
        view.node = Some(NodeEntry { measured, usage: containers[0].1 });
        let pod = source.inventory.pod(namespace, name).unwrap();
        let names = ContainerNames::of(containers.iter().map(|(name, _)| &**name));
        let usages: Vec<_> = containers.iter().map(|(_, usage)| *usage).collect();
        view.pods.set(&pod, measured, &names, &usages);
    }
    source.views.publish("n".into(), view);
    source
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_state_is_the_same_as_in_json(pods in collection::vec(any_pod(), 1..8), swap: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let api = api_of(source_of(&pods), Decision::Allow, Settings { swap, now, ..Settings::default() });
        runtime.block_on(async {
            let base = "/apis/metrics.k8s.io/v1";
            let (_, list) = both(&api, &format!("{base}/pods"), "").await;
            assert!(!list["items"].as_array().unwrap().is_empty());
            let (namespace, name, ..) = &pods[0];
            both(&api, &format!("{base}/namespaces/{namespace}/pods/{name}"), "").await;
            both(&api, &format!("{base}/nodes/n"), "").await;
            let partial = ";as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
            both(&api, &format!("{base}/nodes"), partial).await;
        });
    }
}
