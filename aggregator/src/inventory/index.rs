//! The index that the watches write and everybody reads.

use std::{cmp::Ordering, collections::HashMap, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::broadcast;

use super::{
    Change, Labels, Node, Pod,
    interned::Interned,
    sorted::{Ranked, Sorted, Walk},
};

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
    nodes: Sorted<Node>,
    pods: Sorted<Pod>,
    by_node: HashMap<Arc<str>, HashMap<Box<str>, Arc<Pod>>>,
    names: Interned<Arc<str>>,
    labels: Interned<Labels>,
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
        self.shared.index.read().nodes.get(|node| (*node.name).cmp(name)).cloned()
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<Arc<Node>> {
        collect(self.walk_nodes())
    }

    /// All nodes as they are now, by name, one after the other.
    pub fn walk_nodes(&self) -> Walk<Node> {
        self.shared.index.read().nodes.walk(|_| Ordering::Equal)
    }

    /// The pod of that name, whatever its phase.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.shared.index.read().pods.get(|pod| pod.rank_of(namespace, name)).cloned()
    }

    /// All pods (of one namespace), whatever their phase, by namespace and name in byte order.
    pub fn pods(&self, namespace: Option<&str>) -> Vec<Arc<Pod>> {
        collect(self.walk_pods(namespace))
    }

    /// All pods (of one namespace) as they are now, one after the other, in the order of [`Inventory::pods`].
    pub fn walk_pods(&self, namespace: Option<&str>) -> Walk<Pod> {
        let index = self.shared.index.read();
        match namespace {
            None => index.pods.walk(|_| Ordering::Equal),
            Some(namespace) => index.pods.walk(|pod| (*pod.namespace).cmp(namespace)),
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
        self.shared.index.write().nodes.insert(Arc::new(node));
        self.announce(name);
    }

    /// Removes a node.
    pub fn delete_node(&self, name: &str) {
        let removed = self.shared.index.write().nodes.remove(|node| (*node.name).cmp(name));
        if let Some(node) = removed {
            self.announce(Arc::clone(&node.name));
        }
    }

    /// Adds or replaces a pod.
    pub fn apply_pod(&self, mut pod: Pod) {
        let (pod, old) = {
            let mut index = self.shared.index.write();
            index.names.share(&mut pod.namespace);
            index.names.share(&mut pod.node);
            index.labels.share(&mut pod.labels);
            let pod = Arc::new(pod);
            let old = index.pods.insert(Arc::clone(&pod));
            if let Some(old) = &old {
                index.unlink(old);
            }
            index.by_node.entry(Arc::clone(&pod.node)).or_default().insert(pod.uid.clone(), Arc::clone(&pod));
            (pod, old)
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
            let order = |pod: &Pod| pod.rank_of(namespace, name);
            let same = index.pods.get(order).is_some_and(|pod| &*pod.uid == uid);
            let removed = if same { index.pods.remove(order) } else { None };
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

impl Pod {
    fn rank_of(&self, namespace: &str, name: &str) -> Ordering {
        (*self.namespace).cmp(namespace).then_with(|| (*self.name).cmp(name))
    }
}

impl Ranked for Pod {
    fn rank(&self, other: &Self) -> Ordering {
        self.rank_of(&other.namespace, &other.name)
    }
}

impl Ranked for Node {
    fn rank(&self, other: &Self) -> Ordering {
        self.name.cmp(&other.name)
    }
}

fn collect<T>(mut walk: Walk<T>) -> Vec<Arc<T>> {
    std::iter::from_fn(|| walk.next().cloned()).collect()
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
