//! The inventory against an API server that fails: whatever happens, it ends up equal to what the server has.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use serde_json::{Value, json};
use waggle_aggregator::{
    client::{self, Patience},
    inventory::{Inventory, Synced, Watches},
};
use waggle_stand_in::{Fault, Kind, StandIn};

const PATIENCE: Patience = Patience {
    list: Duration::from_secs(1),
    watch: Duration::from_secs(1),
    backoff: Duration::from_millis(20),
};

fn pod(name: &str, node: &str) -> Value {
    json!({
        "kind": "Pod", "metadata": {"namespace": "shop", "name": name},
        "spec": {"nodeName": node, "serviceAccountName": "default", "containers": [{"name": "web"}]},
        "status": {"phase": "Running", "containerStatuses": [{"name": "web", "state": {"running": {}}}]},
    })
}

fn node(name: &str) -> Value {
    let capacity = json!({"cpu": "2", "memory": "1Gi", "pods": "110"});
    json!({"kind": "Node", "metadata": {"name": name}, "status": {"capacity": capacity}})
}

async fn following(stand_in: &StandIn) -> (Inventory, Synced) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), stand_in.aggregator_kubeconfig().unwrap()).unwrap();
    let clients = client::connect(Some(file.path()), PATIENCE).await.unwrap();
    let inventory = Inventory::default();
    let (watches, synced) = Watches::new(clients.watches, inventory.clone(), PATIENCE);
    tokio::spawn(watches.run());
    (inventory, synced)
}

/// The inventory holds just these pods, within 30 s.
async fn pods_become(inventory: &Inventory, expected: &[&str], context: &str) {
    let names = || -> Vec<String> { inventory.pods(None).iter().map(|pod| pod.name.to_string()).collect() };
    let wait = async {
        while names() != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(30), wait).await;
    assert!(done.is_ok(), "{context}: expected {expected:?}, inventory has {:?}", names());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn follows_additions_changes_and_deletions() {
    let stand_in = StandIn::builder().start().await.unwrap();
    stand_in.apply(node("node-a")).unwrap();
    stand_in.apply(pod("a", "node-a")).unwrap();
    let (inventory, mut synced) = following(&stand_in).await;
    tokio::time::timeout(Duration::from_secs(10), synced.wait()).await.unwrap();
    assert!(synced.pods() && synced.nodes());
    assert_eq!(inventory.node("node-a").unwrap().pod_capacity, 110);
    pods_become(&inventory, &["a"], "listed").await;
    stand_in.apply(pod("b", "")).unwrap();
    pods_become(&inventory, &["a", "b"], "added").await;
    assert_eq!(inventory.pods_on("node-a").len(), 1);
    stand_in.apply(pod("b", "node-a")).unwrap();
    tokio::time::timeout(Duration::from_secs(10), async {
        while inventory.pods_on("node-a").len() != 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap();
    assert!(stand_in.delete(Kind::Pod, "shop", "a"));
    pods_become(&inventory, &["b"], "deleted").await;
    assert_eq!(stand_in.requests("list pods"), 1, "changes must come by watch");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_a_restart_and_forgets_what_went_meanwhile() {
    let stand_in = StandIn::builder().start().await.unwrap();
    stand_in.apply(pod("a", "node-a")).unwrap();
    stand_in.apply(pod("b", "node-a")).unwrap();
    let (inventory, _) = following(&stand_in).await;
    pods_become(&inventory, &["a", "b"], "listed").await;
    stand_in.stop().await;
    stand_in.delete(Kind::Pod, "shop", "a");
    stand_in.apply(pod("c", "node-a")).unwrap();
    stand_in.compact();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(inventory.pods(None).len(), 2, "while the API server is away the inventory stays as it was");
    stand_in.resume().await.unwrap();
    pods_become(&inventory, &["b", "c"], "resumed").await;
    assert!(stand_in.requests("list pods") > 1, "history was compacted: only a new list can have told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn survives_every_fault_of_lists_and_watches() {
    let faults = [
        ("list pods", Fault::Hang),
        ("list pods", Fault::Status(429, Some(Duration::from_secs(1)))),
        ("list pods", Fault::Status(500, None)),
        ("list pods", Fault::Cut),
        ("watch pods", Fault::Gone),
        ("watch pods", Fault::Status(429, None)),
        ("watch pods", Fault::Cut),
        ("watch pods", Fault::Stall),
        ("watch pods", Fault::Hang),
    ];
    let each = faults.map(|(target, fault)| async move {
        let stand_in = StandIn::builder().start().await.unwrap();
        stand_in.apply(pod("a", "node-a")).unwrap();
        stand_in.fault(target, fault, 1);
        let (inventory, _) = following(&stand_in).await;
        let context = format!("{target} {fault:?}");
        pods_become(&inventory, &["a"], &context).await;
        stand_in.apply(pod("b", "node-a")).unwrap();
        pods_become(&inventory, &["a", "b"], &context).await;
        // A new list may have brought the second pod before the watch was asked for again.
        let again = async {
            while stand_in.requests(target) < 2 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let happened = tokio::time::timeout(Duration::from_secs(30), again).await;
        assert!(happened.is_ok(), "{context} did not happen");
    });
    futures_util::future::join_all(each).await;
}
