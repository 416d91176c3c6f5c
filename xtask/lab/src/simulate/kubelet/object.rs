//! What a kubelet reads from Pod objects and writes into their status, and the objects of its own node. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::{
    central::{AGENT_ACCOUNT, NAMESPACE},
    layout::Qos,
    scenario::hex,
    simulate::{LOAD_ANNOTATION, Load, demand::annotated},
};

/// A pod of a node, with the ids that its containers have there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// Its label `app` or `app.kubernetes.io/name`; without one, its name.
    pub app: String,
    /// Its service account.
    pub account: String,
    /// Where it runs.
    pub node: String,
    /// Its class.
    pub qos: Qos,
    /// The id of its pause container.
    pub sandbox: String,
    /// Names and ids of its containers.
    pub containers: Vec<(String, String)>,
    /// What its annotations say that its containers use.
    pub loads: BTreeMap<String, Load>,
}

/// What is to be done about a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It has no node yet.
    Bind,
    /// It is to run, or to go on running, on a node.
    Run(Box<Assigned>),
    /// It is to end: it is being deleted, or is over.
    End,
}

/// Reads a pod. `None` for an object without name or uid, which no API server sends.
pub fn step(pod: &Pod) -> Option<Step> {
    let metadata = &pod.metadata;
    let (namespace, name, uid) = (metadata.namespace.clone()?, metadata.name.clone()?, metadata.uid.clone()?);
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if metadata.deletion_timestamp.is_some() || matches!(phase, Some("Succeeded" | "Failed")) {
        return Some(Step::End);
    }
    let spec = pod.spec.as_ref()?;
    let Some(node) = spec.node_name.clone().filter(|node| !node.is_empty()) else { return Some(Step::Bind) };
    let labels = metadata.labels.as_ref();
    let label = |key: &str| labels.and_then(|labels| labels.get(key)).cloned();
    let app = label("app").or_else(|| label("app.kubernetes.io/name")).unwrap_or_else(|| name.clone());
    let containers = spec.containers.iter();
    let containers =
        containers.map(|c| (c.name.clone(), running_id(pod, &c.name).unwrap_or_else(|| hex(64))));
    Some(Step::Run(Box::new(Assigned {
        app,
        account: spec.service_account_name.clone().unwrap_or_default(),
        node,
        qos: qos(pod),
        sandbox: hex(64),
        containers: containers.collect(),
        loads: metadata.annotations.as_ref().map(annotated).unwrap_or_default(),
        namespace,
        name,
        uid,
    })))
}

/// The id under which a container runs already, by the pod's status.
fn running_id(pod: &Pod, container: &str) -> Option<String> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    let status = statuses.iter().find(|status| status.name == container)?;
    status.state.as_ref()?.running.as_ref()?;
    Some(status.container_id.as_ref()?.strip_prefix("containerd://")?.to_owned())
}

fn qos(pod: &Pod) -> Qos {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => Qos::Guaranteed,
        Some("BestEffort") => Qos::BestEffort,
        _ => Qos::Burstable,
    }
}

/// Whether a pod is one of Waggle's agents.
pub fn is_agent(pod: &Assigned) -> bool {
    pod.namespace == NAMESPACE && pod.account == AGENT_ACCOUNT
}

/// The part of a pod's status that its kubelet writes once all containers run.
pub fn running(pod: &Assigned, now: Timestamp) -> Value {
    let now = format!("{now:.0}");
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": now});
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let statuses = pod.containers.iter().map(|(name, id)| {
        json!({
            "name": name, "containerID": format!("containerd://{id}"), "image": "waggle.test/work:1",
            "imageID": "waggle.test/work@sha256:0", "ready": true, "started": true, "restartCount": 0,
            "lastState": {}, "state": {"running": {"startedAt": now}},
        })
    });
    json!({"status": {
        "phase": "Running", "startTime": now, "hostIP": "127.0.0.1",
        "conditions": conditions,
        "containerStatuses": statuses.collect::<Vec<_>>(),
    }})
}

/// The pod of the agent of a node, as a `DaemonSet` would make it.
pub fn agent_pod(node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "namespace": NAMESPACE, "name": format!("waggle-agent-{node}"),
            "labels": {"app.kubernetes.io/name": "waggle-agent"},
            "annotations": {format!("{LOAD_ANNOTATION}agent"): "1m,12Mi"},
        },
        "spec": {
            "nodeName": node, "serviceAccountName": AGENT_ACCOUNT, "automountServiceAccountToken": false,
            "containers": [{
                "name": "agent", "image": "waggle.test/agent:1",
                "resources": {"requests": {"cpu": "10m", "memory": "24Mi"}},
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(change: impl FnOnce(&mut Value)) -> Pod {
        let mut object = json!({
            "metadata": {
                "namespace": "shop", "name": "cart-1", "uid": "u-1", "labels": {"app": "cart"},
                "annotations": {"load.waggle.test/web": "1,1Mi"},
            },
            "spec": {"nodeName": "a", "serviceAccountName": "till", "containers": [{"name": "web"}, {"name": "log"}]},
            "status": {"phase": "Pending", "qosClass": "Guaranteed"},
        });
        change(&mut object);
        serde_json::from_value(object).unwrap()
    }

    fn assigned(pod: &Pod) -> Assigned {
        match step(pod) {
            Some(Step::Run(assigned)) => *assigned,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_pod_is_bound_then_runs_then_ends() {
        assert_eq!(
            step(&pod(|pod| drop(pod["spec"].as_object_mut().unwrap().remove("nodeName")))),
            Some(Step::Bind)
        );
        let running = assigned(&pod(|_| ()));
        assert_eq!(
            (running.app.as_str(), running.node.as_str(), running.qos),
            ("cart", "a", Qos::Guaranteed)
        );
        assert_eq!(
            running.containers.iter().map(|(name, id)| (name.as_str(), id.len())).collect::<Vec<_>>(),
            [("web", 64), ("log", 64)]
        );
        assert_eq!(running.loads.keys().collect::<Vec<_>>(), ["web"]);
        let deleted = pod(|pod| pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"));
        assert_eq!(step(&deleted), Some(Step::End));
        assert_eq!(step(&pod(|pod| pod["status"]["phase"] = json!("Failed"))), Some(Step::End));
        assert_eq!(step(&pod(|pod| pod["metadata"] = json!({}))), None);
    }

    #[test]
    fn what_is_written_into_the_status_is_read_from_it_again() {
        let before = assigned(&pod(|_| ()));
        let status = running(&before, Timestamp::UNIX_EPOCH);
        let after = assigned(&pod(|pod| pod["status"] = status["status"].clone()));
        assert_eq!(before.containers, after.containers);
    }

    #[test]
    fn the_agents_pod_is_one_of_an_agent() {
        let mut object = agent_pod("a");
        object["metadata"]["uid"] = json!("u-2");
        let agent = assigned(&serde_json::from_value(object).unwrap());
        assert!(is_agent(&agent) && !is_agent(&assigned(&pod(|_| ()))));
        assert_eq!(agent.loads["agent"], Load { inactive_file_bytes: 0, ..Load::new(1, 12) });
    }
}
