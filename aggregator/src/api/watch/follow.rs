//! Takes what the views publish into the logs, node by node, and lets go what is older than the maximum age. Runs beside
//! ingest and behind it: a node that reports only leaves its name.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::broadcast::{Receiver, error::TryRecvError};
use tokio_util::sync::CancellationToken;

use super::{Watches, log::Key};
use crate::{
    api::{Fresh, Now, Source, nodes::NodeMetrics, object::Object, pods::PodMetrics},
    inventory::Pod,
};

/// Between two rounds: reports that come together are taken together.
const ROUND: Duration = Duration::from_millis(20);
/// Longest time without a look at ages.
const IDLE: Duration = Duration::from_secs(1);

/// Runs until `stop`.
pub async fn follow(watches: Watches, source: Source, now: fn() -> Now, stop: CancellationToken) {
    let mut changes = source.views.changes();
    let mut follower = Follower { watches, source, known: HashMap::new() };
    let mut dirty: HashSet<Arc<str>> = follower.all();
    loop {
        for node in dirty.drain() {
            follower.take(&node, now().instant);
            tokio::task::yield_now().await;
        }
        let wait = follower.wait(now().instant);
        let mut complete = true;
        tokio::select! {
            () = stop.cancelled() => return,
            change = changes.recv() => match change {
                Ok(node) => {
                    dirty.insert(node);
                }
                // Lagged: the source, which is held here, never closes.
                Err(_) => complete = false,
            },
            () = tokio::time::sleep(wait) => {}
        }
        tokio::time::sleep(ROUND).await;
        if !drain(&mut changes, &mut dirty) || !complete {
            dirty = follower.all();
        }
        dirty.extend(follower.aged(now().instant));
    }
}

/// Adds the names that wait; `false` if some were lost.
fn drain(changes: &mut Receiver<Arc<str>>, into: &mut HashSet<Arc<str>>) -> bool {
    let mut complete = true;
    loop {
        match changes.try_recv() {
            Ok(node) => {
                into.insert(node);
            }
            Err(TryRecvError::Lagged(_)) => complete = false,
            Err(TryRecvError::Empty | TryRecvError::Closed) => return complete,
        }
    }
}

/// What the logs have of each node.
struct Follower {
    watches: Watches,
    source: Source,
    known: HashMap<Arc<str>, Known>,
}

#[derive(Default)]
struct Known {
    pods: HashSet<Key>,
    /// When the oldest of its entries was measured.
    oldest: Option<Instant>,
}

impl Follower {
    /// Every node that has, or may have, something.
    fn all(&self) -> HashSet<Arc<str>> {
        let inventory = self.source.inventory.nodes().into_iter().map(|node| Arc::clone(&node.name));
        inventory.chain(self.known.keys().cloned()).collect()
    }

    /// The nodes with an entry that is too old.
    fn aged(&self, now: Instant) -> Vec<Arc<str>> {
        let max_age = self.source.max_age;
        let aged = |oldest: Instant| now.saturating_duration_since(oldest) > max_age;
        let aged = self.known.iter().filter(|(_, known)| known.oldest.is_some_and(aged));
        aged.map(|(node, _)| Arc::clone(node)).collect()
    }

    /// The time until the next entry is too old.
    fn wait(&self, now: Instant) -> Duration {
        let oldest = self.known.values().filter_map(|known| known.oldest).min();
        let left = oldest.map(|oldest| (oldest + self.source.max_age).saturating_duration_since(now));
        left.map_or(IDLE, |left| left.min(IDLE))
    }

    fn take(&mut self, name: &Arc<str>, now: Instant) {
        let Source { inventory, views, max_age } = &self.source;
        let fresh = Fresh::new(now, *max_age);
        let view = views.node(name);
        let node = inventory.node(name).zip(view.as_ref());
        let node = node.and_then(|(node, view)| NodeMetrics::of(fresh, &node, view));
        let pods = inventory.pods_on(name);
        let pods: HashMap<Key, PodMetrics> = pods
            .iter()
            .filter(|pod| pod.running)
            .filter_map(|pod| Some((pod_key(pod), PodMetrics::of(fresh, pod, view.as_ref()?)?)))
            .collect();

        let mut seen: Vec<Instant> = pods.values().map(|pod| pod.measured().seen).collect();
        seen.extend(node.as_ref().map(|node| node.measured().seen));
        let known = Known { pods: pods.keys().cloned().collect(), oldest: seen.into_iter().min() };
        let before = if known.oldest.is_none() {
            self.known.remove(name)
        } else {
            self.known.insert(Arc::clone(name), known)
        };

        let key = Key { namespace: "".into(), name: Arc::clone(name) };
        let gone = node.is_none().then(|| key.clone());
        let node = node.map(|node| (key, node));
        self.watches.nodes().take(node.into_iter(), gone.into_iter(), |_| true);
        let gone: Vec<Key> =
            before.unwrap_or_default().pods.into_iter().filter(|key| !pods.contains_key(key)).collect();
        // A pod of the same name that is on another node by now is that node's to tell.
        self.watches.pods().take(pods.into_iter(), gone.into_iter(), |pod| pod.node() == &**name);
    }
}

fn pod_key(pod: &Pod) -> Key {
    Key { namespace: Arc::clone(&pod.namespace), name: (&*pod.name).into() }
}
