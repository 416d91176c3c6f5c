//! The index that the watches write and everybody reads.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::sync::broadcast;

use super::{Change, Node, Pod};

/// Pods and Nodes by the keys that Waggle asks for. Cheap to clone: clones share one index.
#[derive(Debug, Clone)]
pub struct Inventory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    index: RwLock<Index>,
    changes: broadcast::Sender<Change>,
}

#[derive(Debug, Default)]
struct Index {
    nodes: BTreeMap<Arc<str>, Arc<Node>>,
    pods: BTreeMap<(Arc<str>, Box<str>), Arc<Pod>>,
    by_node: HashMap<Arc<str>, HashMap<Box<str>, Arc<Pod>>>,
}

impl Default for Inventory {
    fn default() -> Self {
        let (changes, _) = broadcast::channel(4096);
        Self { shared: Arc::new(Shared { index: RwLock::default(), changes }) }
    }
}

impl Inventory {
    /// The node of that name.
    pub fn node(&self, name: &str) -> Option<Arc<Node>> {
        self.shared.index.read().nodes.get(name).cloned()
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        self.shared.index.read().nodes.values().cloned().collect()
    }

    /// The pod of that name, whatever its phase.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        let index = self.shared.index.read();
        index.pods.get(&(Arc::from(namespace), Box::from(name))).cloned()
    }

    /// All pods (of one namespace), whatever their phase, by namespace and name in byte order.
    pub fn pods(&self, namespace: Option<&str>) -> Vec<Arc<Pod>> {
        let index = self.shared.index.read();
        match namespace {
            None => index.pods.values().cloned().collect(),
            Some(ns) => index
                .pods
                .range((Arc::from(ns), Box::from(""))..)
                .take_while(|((of, _), _)| &**of == ns)
                .map(|(_, pod)| Arc::clone(pod))
                .collect(),
        }
    }

    /// All pods whose `spec.nodeName` is that node, in no order.
    pub fn pods_on(&self, node: &str) -> Vec<Arc<Pod>> {
        let index = self.shared.index.read();
        index.by_node.get(node).map(|pods| pods.values().cloned().collect()).unwrap_or_default()
    }

    /// The pod of that `metadata.uid`, on whatever node. Looks at every node: for rare questions.
    pub fn pod_with_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        let index = self.shared.index.read();
        index.by_node.values().find_map(|pods| pods.get(uid)).cloned()
    }

    /// The names of nodes whose inventory changed. A receiver that lagged looks at everything anew.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.shared.changes.subscribe()
    }

    /// Adds or replaces a node.
    pub fn apply_node(&self, node: Node) {
        let name = Arc::clone(&node.name);
        self.shared.index.write().nodes.insert(Arc::clone(&name), Arc::new(node));
        self.announce(name);
    }

    /// Removes a node.
    pub fn delete_node(&self, name: &str) {
        let removed = self.shared.index.write().nodes.remove_entry(name);
        if let Some((name, _)) = removed {
            self.announce(name);
        }
    }

    /// Adds or replaces a pod.
    pub fn apply_pod(&self, pod: Pod) {
        let pod = Arc::new(pod);
        let key = (Arc::clone(&pod.namespace), pod.name.clone());
        let old = {
            let mut index = self.shared.index.write();
            let old = index.pods.insert(key, Arc::clone(&pod));
            if let Some(old) = &old {
                index.unlink(old);
            }
            index.by_node.entry(Arc::clone(&pod.node)).or_default().insert(pod.uid.clone(), Arc::clone(&pod));
            old
        };
        if let Some(old) = old.filter(|old| old.node != pod.node) {
            self.announce(Arc::clone(&old.node));
        }
        self.announce(Arc::clone(&pod.node));
    }

    /// Removes a pod, if it still has that UID.
    pub fn delete_pod(&self, namespace: &str, name: &str, uid: &str) {
        let removed = {
            let mut index = self.shared.index.write();
            let key = (Arc::from(namespace), Box::from(name));
            let same = index.pods.get(&key).is_some_and(|pod| &*pod.uid == uid);
            let removed = if same { index.pods.remove(&key) } else { None };
            if let Some(pod) = &removed {
                index.unlink(pod);
            }
            removed
        };
        if let Some(pod) = removed {
            self.announce(Arc::clone(&pod.node));
        }
    }

    fn announce(&self, node: Arc<str>) {
        // No receiver is a normal state: nothing serves yet.
        let _ = self.shared.changes.send(Change { node });
    }
}

impl Index {
    fn unlink(&mut self, pod: &Pod) {
        if let Some(pods) = self.by_node.get_mut(&pod.node) {
            pods.remove(&pod.uid);
            if pods.is_empty() {
                self.by_node.remove(&pod.node);
            }
        }
    }
}
