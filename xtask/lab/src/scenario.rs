//! Pods whose use of CPU and memory is known: one description, from which both come, the cgroups and processes in the
//! machine and the objects in the API server. Pure.

use std::time::SystemTime;

use serde_json::{Value, json};

use crate::{
    control::Work,
    layout::{Layout, Qos},
};

/// The node's name.
pub const NODE: &str = "node-a";
/// The uid of the Node object.
pub const NODE_UID: &str = "5f0c8f6e-2c1b-4a53-9d57-1f1c52a7e001";
/// What the 250 m burner may use.
pub const BURNER_MILLICORES: u64 = 250;
/// What the small burner may use.
pub const SMALL_BURNER_MILLICORES: u64 = 100;
/// What the holder holds.
pub const HOLDER_MIB: u64 = 64;
/// What is read into the page cache.
pub const CACHE_MIB: u64 = 32;

/// A node by name and by the uid of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRef {
    /// Its name.
    pub name: String,
    /// The uid of the Node object.
    pub uid: String,
}

/// A container of a pod.
#[derive(Debug, Clone)]
pub struct Container {
    /// As in the pod's specification.
    pub name: String,
    /// 64 hexadecimal digits.
    pub id: String,
    /// What it does.
    pub work: Work,
    /// Its CPU limit.
    pub millicores: Option<u64>,
    /// How often it was started again.
    pub restarts: u32,
}

/// A pod of the node.
#[derive(Debug, Clone)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// The configuration hash (32 hexadecimal digits) of a static pod, which its cgroup is named by.
    pub hash: Option<String>,
    /// Where it runs.
    pub node: NodeRef,
    /// Its service account.
    pub service_account: String,
    /// Its class.
    pub qos: Qos,
    /// Id of the pause container.
    pub sandbox: String,
    /// Its containers.
    pub containers: Vec<Container>,
}

/// A random name of this many hexadecimal digits.
pub fn hex(digits: usize) -> String {
    (0..digits).map(|_| char::from_digit(fastrand::u32(0..16), 16).unwrap_or('0')).collect()
}

/// A random UUID.
pub fn uid() -> String {
    format!("{}-{}-4{}-8{}-{}", hex(8), hex(4), hex(3), hex(3), hex(12))
}

impl NodeRef {
    /// The node that every scenario has.
    pub fn first() -> Self {
        Self { name: NODE.to_owned(), uid: NODE_UID.to_owned() }
    }

    /// Another node.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), uid: uid() }
    }

    /// The Node object, with this many processors and GiB of memory.
    pub fn object(&self, processors: u32, gibibytes: u32) -> Value {
        let (cpu, memory) = (processors.to_string(), format!("{gibibytes}Gi"));
        let size = json!({"cpu": cpu, "memory": memory, "pods": "110"});
        json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {
                "name": self.name, "uid": self.uid, "labels": {"kubernetes.io/hostname": self.name},
            },
            "spec": {},
            "status": {
                "capacity": size, "allocatable": size, "conditions": [{"type": "Ready", "status": "True"}],
            },
        })
    }
}

impl Container {
    /// A container that was not restarted yet.
    pub fn new(name: &str, work: Work, millicores: Option<u64>) -> Self {
        Self { name: name.to_owned(), id: hex(64), work, millicores, restarts: 0 }
    }

    /// The container as it is after a restart: a new id, one restart more.
    pub fn restart(&mut self) {
        self.id = hex(64);
        self.restarts += 1;
    }

    /// Files of its cgroup.
    pub fn limits(&self) -> Vec<(String, String)> {
        let quota = |millicores: u64| ("cpu.max".to_owned(), format!("{} 100000", millicores * 100));
        self.millicores.map(quota).into_iter().collect()
    }
}

impl Pod {
    /// A pod of the first node, with one pause container.
    pub fn new(namespace: &str, name: &str, qos: Qos, containers: Vec<Container>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            uid: uid(),
            hash: None,
            node: NodeRef::first(),
            service_account: "default".to_owned(),
            qos,
            sandbox: hex(64),
            containers,
        }
    }

    /// The same pod on another node.
    #[must_use]
    pub fn on(mut self, node: &NodeRef) -> Self {
        self.node = node.clone();
        self
    }

    /// Makes it a static pod.
    #[must_use]
    pub fn into_static(mut self) -> Self {
        self.hash = Some(hex(32));
        self
    }

    /// What its cgroup is named by.
    pub fn cgroup_uid(&self) -> &str {
        self.hash.as_deref().unwrap_or(&self.uid)
    }

    /// Its cgroup.
    pub fn cgroup(&self, layout: Layout) -> String {
        layout.pod(self.qos, self.cgroup_uid())
    }

    /// The cgroup of one of its containers, or of its sandbox.
    pub fn container_cgroup(&self, layout: Layout, id: &str) -> String {
        layout.container(self.qos, self.cgroup_uid(), id)
    }

    /// The Pod object, running.
    pub fn object(&self) -> Value {
        let now =
            jiff::Timestamp::try_from(SystemTime::now()).map(|now| format!("{now:.0}")).unwrap_or_default();
        let mut metadata = json!({
            "name": self.name, "namespace": self.namespace, "uid": self.uid, "creationTimestamp": now,
            "labels": {"app": self.name},
        });
        if let Some(hash) = &self.hash {
            metadata["annotations"] = json!({
                "kubernetes.io/config.hash": hash, "kubernetes.io/config.mirror": hash,
                "kubernetes.io/config.source": "file", "kubernetes.io/config.seen": now,
            });
            metadata["ownerReferences"] = json!([{"apiVersion": "v1", "kind": "Node", "name": self.node.name, "uid": self.node.uid, "controller": true}]);
        }
        let specs = self
            .containers
            .iter()
            .map(|container| json!({"name": container.name, "image": "waggle.test/work:1"}));
        let statuses = self.containers.iter().map(|container| {
            json!({
                "name": container.name, "containerID": format!("containerd://{}", container.id),
                "image": "waggle.test/work:1", "imageID": "", "ready": true, "started": true,
                "restartCount": container.restarts, "lastState": {}, "state": {"running": {"startedAt": now}},
            })
        });
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {
                "nodeName": self.node.name, "serviceAccountName": self.service_account, "containers": specs.collect::<Vec<_>>(),
            },
            "status": {
                "phase": "Running", "qosClass": self.qos.class(), "startTime": now,
                "conditions": [{"type": "Ready", "status": "True"}],
                "containerStatuses": statuses.collect::<Vec<_>>(),
            },
        })
    }
}

/// The first node's object: one processor, 1 GiB.
pub fn node_object() -> Value {
    NodeRef::first().object(1, 1)
}

/// The pods that run from the beginning.
pub fn first_pods() -> Vec<Pod> {
    vec![
        Pod::new(
            "default",
            "burner",
            Qos::Burstable,
            vec![Container::new("burn", Work::Burn, Some(BURNER_MILLICORES))],
        ),
        Pod::new(
            "default",
            "pair",
            Qos::Burstable,
            vec![
                Container::new("burn", Work::Burn, Some(SMALL_BURNER_MILLICORES)),
                Container::new("sidecar", Work::Sleep, None),
            ],
        ),
        Pod::new(
            "default",
            "holder",
            Qos::Guaranteed,
            vec![Container::new("hold", Work::Hold(HOLDER_MIB), None)],
        ),
        Pod::new(
            "storage",
            "reader",
            Qos::BestEffort,
            vec![Container::new("cache", Work::Cache(CACHE_MIB), None)],
        ),
        Pod::new("default", "restarter", Qos::Burstable, vec![Container::new("hold", Work::Hold(16), None)]),
        Pod::new(
            "kube-system",
            "proxy-node-a",
            Qos::Burstable,
            vec![Container::new("hold", Work::Hold(8), None)],
        )
        .into_static(),
    ]
}

/// The pod that starts while the others run.
pub fn late_pod() -> Pod {
    Pod::new("default", "late", Qos::BestEffort, vec![Container::new("hold", Work::Hold(24), None)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_static_pods_cgroup_has_the_hash_and_its_object_the_annotation() {
        let pod = first_pods().into_iter().find(|pod| pod.hash.is_some()).unwrap();
        let hash = pod.hash.clone().unwrap();
        assert_eq!(hash.len(), 32);
        assert!(pod.cgroup(Layout::Systemd).contains(&format!("-pod{hash}.slice")));
        let object = pod.object();
        assert_eq!(object["metadata"]["annotations"]["kubernetes.io/config.mirror"], hash.as_str());
        assert_eq!(object["metadata"]["ownerReferences"][0]["uid"], NODE_UID);
        assert_ne!(object["metadata"]["uid"], hash.as_str());
    }

    #[test]
    fn ids_are_in_the_runtimes_form_and_change_with_a_restart() {
        let mut container = Container::new("a", Work::Sleep, Some(250));
        assert_eq!(container.limits(), [("cpu.max".to_owned(), "25000 100000".to_owned())]);
        assert!(container.id.len() == 64 && container.id.chars().all(|c| c.is_ascii_hexdigit()));
        let before = container.id.clone();
        container.restart();
        assert_ne!(container.id, before);
        assert_eq!(container.restarts, 1);
    }
}
