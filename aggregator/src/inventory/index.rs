//! The index that the watches write and everybody reads.

use std::{
    cmp::Ordering,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio::sync::broadcast;

use super::{
    Change, ContainerNames, Labels, Node, Pod,
    by_uid::ByUid,
    interned::Interned,
    places::{Numbers, Row},
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
    by_uid: HashSet<ByUid>,
    by_node: HashMap<Arc<str>, OnNode>,
    rows: Numbers,
    names: Interned<Arc<str>>,
    labels: Interned<Labels>,
    container_names: Interned<ContainerNames>,
}

/// The pods whose `spec.nodeName` is one name.
#[derive(Debug)]
struct OnNode {
    row: Row,
    pods: HashSet<ByUid>,
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
        let on = index.by_node.get(node);
        on.map(|on| on.pods.iter().map(|ByUid(pod)| Arc::clone(pod)).collect()).unwrap_or_default()
    }

    /// The pod of that `metadata.uid`, on whatever node.
    pub fn pod_with_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        self.shared.index.read().by_uid.get(uid).map(|ByUid(pod)| Arc::clone(pod))
    }

    /// The names of nodes whose inventory changed. A receiver that lagged looks at everything again.
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
    pub fn apply_pod(&self, pod: Pod) {
        let (pod, old) = self.shared.index.write().put(pod);
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
    let mut objects = Vec::new();
    loop {
        let ahead = walk.ahead(usize::MAX);
        if ahead.is_empty() {
            return objects;
        }
        objects.extend_from_slice(ahead);
        let count = ahead.len();
        walk.pass(count);
    }
}

impl Index {
    /// Adds a pod, or replaces the one of its name, which is returned too.
    fn put(&mut self, mut pod: Pod) -> (Arc<Pod>, Option<Arc<Pod>>) {
        self.names.share(&mut pod.namespace);
        self.names.share(&mut pod.node);
        self.labels.share(&mut pod.labels);
        let running = pod.containers.iter().filter(|container| container.running);
        pod.indexed.expected = ContainerNames::of(running.map(|container| &*container.name));
        self.container_names.share(&mut pod.indexed.expected);

        let old = self.pods.get(|known| known.rank(&pod)).cloned();
        let (same, other) = match &old {
            Some(old) if old.uid == pod.uid && old.node == pod.node => (Some(old), None),
            other => (None, other.as_ref()),
        };
        if let Some(same) = same {
            pod.uid = Arc::clone(&same.uid);
        }
        let on = self
            .by_node
            .entry(Arc::clone(&pod.node))
            .or_insert_with(|| OnNode { row: Row::new(self.rows.take()), pods: HashSet::new() });
        pod.indexed.place = on.row.place(pod.running, same.and_then(|same| same.indexed.place));
        let pod = Arc::new(pod);
        on.pods.replace(ByUid(Arc::clone(&pod)));
        if let Some(other) = other {
            self.unlink(other);
        }
        self.by_uid.replace(ByUid(Arc::clone(&pod)));
        self.pods.insert(Arc::clone(&pod));
        (pod, old)
    }

    fn unlink(&mut self, pod: &Pod) {
        self.by_uid.remove(&*pod.uid);
        let Some(on) = self.by_node.get_mut(&pod.node) else { return };
        on.pods.remove(&*pod.uid);
        on.row.leave(pod.indexed.place);
        if on.pods.is_empty() {
            self.rows.give_back(on.row.number());
            self.by_node.remove(&pod.node);
        }
    }
}

#[cfg(test)]
mod tests;
