//! The watches that feed the index. Objects are read into slim structs straight from the wire, so no full Pod ever exists.

use std::{borrow::Cow, collections::HashSet, fmt::Debug, sync::Arc};

use k8s_openapi::api::core::v1 as core;
use kube::{Api, Client, Resource, core::ObjectMeta, runtime::watcher::Event};
use prometheus_client::registry::Registry;
use serde::Deserialize;
use tokio::sync::watch;

use super::{
    Inventory,
    convert::{self, NodeStatus, PodSpec, PodStatus},
};
use crate::client::{self, Patience, Source, follow};

/// Which parts of the inventory were listed at least once. Clones see the same.
#[derive(Debug, Clone)]
pub struct Synced {
    pods: watch::Receiver<bool>,
    nodes: watch::Receiver<bool>,
}

impl Synced {
    /// As these receivers report.
    pub fn new(pods: watch::Receiver<bool>, nodes: watch::Receiver<bool>) -> Self {
        Self { pods, nodes }
    }

    /// Pods were listed.
    pub fn pods(&self) -> bool {
        *self.pods.borrow()
    }

    /// Nodes were listed.
    pub fn nodes(&self) -> bool {
        *self.nodes.borrow()
    }

    /// Waits until both were listed; forever if the watches have ended.
    pub async fn wait(&mut self) {
        let pods = self.pods.wait_for(|done| *done).await.is_ok();
        let nodes = self.nodes.wait_for(|done| *done).await.is_ok();
        if !(pods && nodes) {
            std::future::pending::<()>().await;
        }
    }
}

/// Counters of the inventory's watches.
pub type Metrics = client::Metrics;

/// The watches of Pods and Nodes, to be run.
pub struct Watches {
    client: Client,
    inventory: Inventory,
    patience: Patience,
    metrics: Metrics,
    pods_done: watch::Sender<bool>,
    nodes_done: watch::Sender<bool>,
}

impl Debug for Watches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watches").field("patience", &self.patience).finish_non_exhaustive()
    }
}

impl Watches {
    /// Watches that will feed `inventory`.
    pub fn new(client: Client, inventory: Inventory, patience: Patience) -> (Self, Synced) {
        let ((pods_done, pods), (nodes_done, nodes)) = (watch::channel(false), watch::channel(false));
        let metrics = Metrics::default();
        let watches = Self { client, inventory, patience, metrics, pods_done, nodes_done };
        (watches, Synced::new(pods, nodes))
    }

    /// Adds the counters to `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    /// The counters, to be shared with other watches.
    pub fn metrics(&self) -> Metrics {
        self.metrics.clone()
    }

    /// Feeds the inventory forever. While the API server is away the inventory stays as it was.
    pub async fn run(self) {
        let Self { client, inventory, patience, metrics, pods_done, nodes_done } = self;
        let pods = Source::<SlimPod> { api: Api::all(client.clone()), fields: "".into(), resource: "pods" };
        let nodes = Source::<SlimNode> { api: Api::all(client), fields: "".into(), resource: "nodes" };
        let mut pods_seen = HashSet::new();
        let mut nodes_seen = HashSet::new();
        let on_pod = |event: Event<SlimPod>| pod_event(&inventory, &mut pods_seen, &pods_done, event);
        let on_node = |event: Event<SlimNode>| node_event(&inventory, &mut nodes_seen, &nodes_done, event);
        futures_util::future::join(
            follow(pods, patience, metrics.clone(), on_pod),
            follow(nodes, patience, metrics, on_node),
        )
        .await;
    }
}

fn pod_event(
    inventory: &Inventory,
    listed: &mut HashSet<Arc<str>>,
    done: &watch::Sender<bool>,
    event: Event<SlimPod>,
) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => {
            if let Some(pod) = convert::pod(&object.metadata, object.spec, &object.status) {
                listed.insert(Arc::clone(&pod.uid));
                inventory.apply_pod(pod);
            }
        }
        Event::Apply(object) => {
            if let Some(pod) = convert::pod(&object.metadata, object.spec, &object.status) {
                inventory.apply_pod(pod);
            }
        }
        Event::Delete(object) => {
            let (namespace, name, uid) = key(&object.metadata);
            inventory.delete_pod(namespace, name, uid);
        }
        Event::InitDone => {
            for pod in inventory.pods(None).iter().filter(|pod| !listed.contains(&pod.uid)) {
                inventory.delete_pod(&pod.namespace, &pod.name, &pod.uid);
            }
            *listed = HashSet::new();
            done.send_replace(true);
        }
    }
}

fn node_event(
    inventory: &Inventory,
    listed: &mut HashSet<Arc<str>>,
    done: &watch::Sender<bool>,
    event: Event<SlimNode>,
) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(object) => {
            if let Some(node) = convert::node(&object.metadata, &object.status) {
                listed.insert(Arc::clone(&node.name));
                inventory.apply_node(node);
            }
        }
        Event::Apply(object) => {
            if let Some(node) = convert::node(&object.metadata, &object.status) {
                inventory.apply_node(node);
            }
        }
        Event::Delete(object) => inventory.delete_node(key(&object.metadata).1),
        Event::InitDone => {
            for node in inventory.nodes().iter().filter(|node| !listed.contains(&node.name)) {
                inventory.delete_node(&node.name);
            }
            *listed = HashSet::new();
            done.send_replace(true);
        }
    }
}

fn key(metadata: &ObjectMeta) -> (&str, &str, &str) {
    (
        metadata.namespace.as_deref().unwrap_or_default(),
        metadata.name.as_deref().unwrap_or_default(),
        metadata.uid.as_deref().unwrap_or_default(),
    )
}

/// A Pod as it is read from the wire.
#[derive(Debug, Clone, Deserialize)]
struct SlimPod {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

/// A Node as it is read from the wire.
#[derive(Debug, Clone, Deserialize)]
struct SlimNode {
    metadata: ObjectMeta,
    #[serde(default)]
    status: NodeStatus,
}

macro_rules! resource {
    ($slim:ty, $full:ty) => {
        impl Resource for $slim {
            type DynamicType = ();
            type Scope = <$full as Resource>::Scope;

            fn kind((): &()) -> Cow<'_, str> {
                <$full as Resource>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$full as Resource>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$full as Resource>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$full as Resource>::plural(&())
            }

            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

resource!(SlimPod, core::Pod);
resource!(SlimNode, core::Node);
