//! What the API server says about Pods and Nodes, kept slim: no managedFields, no annotations but the static pod's
//! hash, of the spec only what the API's answers need. Watches feed it (`watch`), everything else reads it.

mod by_uid;
mod capacity;
mod container_names;
mod convert;
mod index;
mod interned;
mod labels;
mod places;
mod sorted;
mod watch;

use std::sync::Arc;

pub use container_names::{ContainerName, ContainerNames};
pub use index::Inventory;
pub use labels::Labels;
pub use places::Place;
pub use sorted::Walk;
pub use watch::{Metrics, Synced, Watches};

use crate::units::{Bytes, ContainerId, NanoCores};

/// A Node, as far as Waggle needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Arc<str>,
    /// `metadata.uid`.
    pub uid: Box<str>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `status.capacity.cpu`; zero when unknown.
    pub cpu_capacity: NanoCores,
    /// `status.capacity.memory`; zero when unknown.
    pub memory_capacity: Bytes,
    /// `status.capacity.pods`; zero when unknown.
    pub pod_capacity: u32,
}

/// A Pod, as far as Waggle needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// `metadata.uid`. What is measured is kept under it: all who hold it share one.
    pub uid: Arc<str>,
    /// The UID in the cgroup tree where it is another one: the hash of a static pod, taken from the annotation
    /// `kubernetes.io/config.mirror` (or `kubernetes.io/config.hash`), and only where the pod is controlled by a Node.
    pub static_uid: Option<Box<str>>,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.nodeName`; empty while unscheduled.
    pub node: Arc<str>,
    /// `spec.serviceAccountName`.
    pub service_account: Box<str>,
    /// `status.phase == Running`: only such pods are served.
    pub running: bool,
    /// `metadata.deletionTimestamp` is set: its containers end, and none is started again.
    pub terminating: bool,
    /// In serving order: `spec.containers`, then restartable `spec.initContainers`, then ephemeral containers, each
    /// in spec order. Ordinary init containers are left out.
    pub containers: Vec<Container>,
    /// What the inventory adds.
    pub indexed: Indexed,
}

/// What [`Inventory::apply_pod`] adds to a pod, whatever stood there before.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Indexed {
    /// Where its entry stands; only of pods that run.
    pub place: Option<Place>,
    /// The names of the containers that run: the expected set, in serving order.
    pub expected: ContainerNames,
}

/// A container of a pod that may be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its name.
    pub name: Box<str>,
    /// Its current id, where the status has one.
    pub id: Option<ContainerId>,
    /// Its status reports it as running: it belongs to the pod's expected set.
    pub running: bool,
}

/// Something changed in the inventory of this node (its Node object, or a Pod on it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The node's name.
    pub node: Arc<str>,
}
