//! Objects of the API → Pods and Nodes of the index. Pure.

use std::collections::BTreeMap;

use kube::core::ObjectMeta;
use serde::Deserialize;

use super::{Container, Indexed, Labels, Node, Pod, capacity};
use crate::units::{Bytes, ContainerId, NanoCores};

/// Of a Pod's `spec` what Waggle needs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodSpec {
    node_name: Box<str>,
    service_account_name: Box<str>,
    containers: Vec<ContainerSpec>,
    init_containers: Vec<ContainerSpec>,
    ephemeral_containers: Vec<ContainerSpec>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerSpec {
    name: Box<str>,
    restart_policy: Option<Box<str>>,
}

/// Of a Pod's `status` what Waggle needs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct PodStatus {
    phase: Box<str>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
    ephemeral_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Deserialize)]
struct ContainerStatus {
    name: Box<str>,
    #[serde(default, rename = "containerID")]
    container_id: Box<str>,
    #[serde(default)]
    state: State,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct State {
    running: Option<Running>,
}

/// Present or not: what is in it is not needed.
#[derive(Debug, Clone, Deserialize)]
struct Running {}

/// Of a Node's `status` what Waggle needs.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct NodeStatus {
    capacity: BTreeMap<Box<str>, Box<str>>,
}

/// `None` for an object without a name or UID, which no API server sends.
pub(super) fn pod(metadata: &ObjectMeta, spec: PodSpec, status: &PodStatus) -> Option<Pod> {
    let containers = spec.containers.into_iter().map(|c| container(c.name, &status.container_statuses));
    let sidecars = spec.init_containers.into_iter().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let sidecars = sidecars.map(|c| container(c.name, &status.init_container_statuses));
    let ephemeral = spec.ephemeral_containers.into_iter();
    let ephemeral = ephemeral.map(|c| container(c.name, &status.ephemeral_container_statuses));
    Some(Pod {
        namespace: metadata.namespace.as_deref()?.into(),
        name: metadata.name.as_deref()?.into(),
        uid: metadata.uid.as_deref()?.into(),
        static_uid: static_uid(metadata),
        labels: labels(metadata),
        node: spec.node_name.into(),
        service_account: spec.service_account_name,
        running: &*status.phase == "Running",
        terminating: metadata.deletion_timestamp.is_some(),
        containers: containers.chain(sidecars).chain(ephemeral).collect(),
        indexed: Indexed::default(),
    })
}

/// `None` for an object without a name or UID, which no API server sends.
pub(super) fn node(metadata: &ObjectMeta, status: &NodeStatus) -> Option<Node> {
    // A quantity that cannot be read counts as unknown: it bounds what agents may claim, and nothing else.
    let value = |key: &str| status.capacity.get(key);
    Some(Node {
        name: metadata.name.as_deref()?.into(),
        uid: metadata.uid.as_deref()?.into(),
        labels: labels(metadata),
        cpu_capacity: NanoCores(value("cpu").and_then(|text| capacity::nano(text)).unwrap_or_default()),
        memory_capacity: Bytes(value("memory").and_then(|text| capacity::whole(text)).unwrap_or_default()),
        pod_capacity: value("pods")
            .and_then(|text| capacity::whole(text))
            .and_then(|pods| u32::try_from(pods).ok())
            .unwrap_or_default(),
    })
}

fn container(name: Box<str>, statuses: &[ContainerStatus]) -> Container {
    let status = statuses.iter().find(|status| status.name == name);
    Container {
        id: status.and_then(|status| ContainerId::from_status(&status.container_id)),
        running: status.is_some_and(|status| status.state.running.is_some()),
        name,
    }
}

/// A static pod runs under the hash of its manifest; its mirror in the API has another UID and names the hash in an
/// annotation. Annotations are user input, so they count only where the kubelet made the object: its controller is a Node.
fn static_uid(metadata: &ObjectMeta) -> Option<Box<str>> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    if !owners.iter().any(|owner| owner.controller == Some(true) && owner.kind == "Node") {
        return None;
    }
    let annotations = metadata.annotations.as_ref()?;
    let hash =
        annotations.get("kubernetes.io/config.mirror").or(annotations.get("kubernetes.io/config.hash"))?;
    (!hash.is_empty()).then(|| hash.as_str().into())
}

fn labels(metadata: &ObjectMeta) -> Labels {
    let labels = metadata.labels.iter().flatten();
    Labels::of(labels.map(|(key, value)| (key.as_str(), value.as_str())))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, from_value, json};

    use super::*;

    fn read(object: &Value) -> Pod {
        let part = |key: &str| object[key].clone();
        let metadata: ObjectMeta = from_value(part("metadata")).unwrap();
        pod(&metadata, from_value(part("spec")).unwrap(), &from_value(part("status")).unwrap()).unwrap()
    }

    fn mk_pod() -> Value {
        json!({
            "metadata": {"namespace": "shop", "name": "cart", "uid": "u-1", "labels": {"app": "cart"}},
            "spec": {
                "nodeName": "node-a", "serviceAccountName": "cart",
                "initContainers": [{"name": "migrate"}, {"name": "mesh", "restartPolicy": "Always"}],
                "containers": [{"name": "web"}, {"name": "log"}],
                "ephemeralContainers": [{"name": "debug"}],
            },
            "status": {
                "phase": "Running",
                "containerStatuses": [
                    {"name": "log", "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "containerID": "containerd://00"},
                    {"name": "web", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}},
                     "containerID": format!("containerd://{}", "ab".repeat(32))},
                ],
                "initContainerStatuses": [
                    {"name": "migrate", "state": {"terminated": {"exitCode": 0}}},
                    {"name": "mesh", "state": {"running": {}}},
                ],
                "ephemeralContainerStatuses": [{"name": "debug", "state": {"running": {}}}],
            },
        })
    }

    #[test]
    fn containers_come_in_serving_order_and_run_as_the_status_says() {
        let pod = read(&mk_pod());
        let seen: Vec<(&str, bool)> = pod.containers.iter().map(|c| (&*c.name, c.running)).collect();
        assert_eq!(seen, [("web", true), ("log", false), ("mesh", true), ("debug", true)]);
        assert_eq!(pod.containers[0].id, Some(ContainerId([0xab; 32])));
        assert_eq!(pod.containers[1].id, None);
        assert!(pod.running && !pod.terminating);
        assert_eq!((&*pod.node, &*pod.service_account, &*pod.uid), ("node-a", "cart", "u-1"));
        assert_eq!(pod.labels.get("app"), Some("cart"));
    }

    #[test]
    fn a_pending_pod_without_status_is_there_but_does_not_run() {
        let mut object = mk_pod();
        object["status"] = json!({"phase": "Pending"});
        object["spec"]["nodeName"] = json!("");
        let pod = read(&object);
        assert!(!pod.running && pod.node.is_empty() && pod.containers.iter().all(|c| !c.running));
    }

    #[test]
    fn a_pod_that_is_to_be_deleted_is_known_as_such_and_may_still_run() {
        let mut object = mk_pod();
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:30Z");
        let pod = read(&object);
        assert!(pod.terminating && pod.running);
    }

    #[test]
    fn the_hash_of_a_static_pod_counts_only_under_a_node() {
        let owner = |kind: &str, controller: bool| json!([{"apiVersion": "v1", "kind": kind, "name": "x", "uid": "y", "controller": controller}]);
        let table = [
            (json!({"kubernetes.io/config.mirror": "h1"}), owner("Node", true), Some("h1")),
            (json!({"kubernetes.io/config.hash": "h2"}), owner("Node", true), Some("h2")),
            (
                json!({"kubernetes.io/config.hash": "h2", "kubernetes.io/config.mirror": "h1"}),
                owner("Node", true),
                Some("h1"),
            ),
            (json!({"kubernetes.io/config.hash": "h2"}), owner("Node", false), None),
            (json!({"kubernetes.io/config.hash": "h2"}), owner("ReplicaSet", true), None),
            (json!({"kubernetes.io/config.hash": "h2"}), json!([]), None),
            (json!({"kubernetes.io/config.hash": ""}), owner("Node", true), None),
            (json!({}), owner("Node", true), None),
        ];
        for (annotations, owners, expected) in table {
            let mut object = mk_pod();
            object["metadata"]["annotations"] = annotations.clone();
            object["metadata"]["ownerReferences"] = owners.clone();
            assert_eq!(read(&object).static_uid.as_deref(), expected, "{annotations} {owners}");
        }
    }

    #[test]
    fn capacities_are_read_exactly() {
        let metadata: ObjectMeta = from_value(json!({"name": "node-a", "uid": "n-1"})).unwrap();
        let status = json!({"capacity": {"cpu": "3920m", "memory": "16393216Ki", "pods": "110"}});
        let node = node(&metadata, &from_value(status).unwrap()).unwrap();
        assert_eq!(node.cpu_capacity, NanoCores(3_920_000_000));
        assert_eq!(node.memory_capacity, Bytes(16_393_216 * 1024));
        assert_eq!(node.pod_capacity, 110);
    }
}
