use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    inventory::{Container, Indexed, Inventory, Labels},
    units::{Bytes, NanoCores, RealTime},
    view::{Measured, Usage, Views},
};

fn mk_pod(name: &str, node: &str) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: name.into(),
        static_uid: None,
        labels: Labels::new(),
        node: node.into(),
        service_account: "default".into(),
        running: true,
        terminating: false,
        containers: vec![Container { name: "c".into(), id: None, running: true }],
        indexed: Indexed::default(),
    }
}

/// A view in which each of these pods of the inventory uses this many nanocores.
fn view(inventory: &Inventory, pods: &[(&str, u64)]) -> NodeView {
    let mut view = NodeView::default();
    for (name, cpu) in pods {
        let pod = inventory.pod("shop", name).unwrap();
        let measured =
            Measured { timestamp: RealTime(1), window: Duration::from_secs(1), seen: Instant::now() };
        let usage = Usage { cpu: NanoCores(*cpu), memory: Bytes(1), swap: None };
        view.pods.set(&pod, measured, &pod.indexed.expected, &[usage]);
    }
    view
}

fn served(inventory: &Inventory, snapshot: &Snapshot, name: &str) -> Option<u64> {
    let pod = inventory.pod("shop", name)?;
    Some(snapshot.pod(&pod)?.usages[0].cpu.0)
}

#[test]
fn a_place_that_another_pod_has_now_gives_it_nothing() {
    let (inventory, views) = (Inventory::default(), Views::default());
    let place = |name: &str| inventory.pod("shop", name).unwrap().indexed.place;
    for name in ["a", "b"] {
        inventory.apply_pod(mk_pod(name, "n1"));
    }
    views.publish("n1".into(), view(&inventory, &[("a", 1), ("b", 2)]));
    let before = views.snapshot();
    assert_eq!(served(&inventory, &before, "a"), Some(1));
    let first = place("a");
    inventory.delete_pod("shop", "a", "a");
    inventory.apply_pod(mk_pod("c", "n1"));
    assert_eq!(place("c"), first);
    assert_eq!(served(&inventory, &views.snapshot(), "c"), None, "the slot still has a's entry");
    views.publish("n1".into(), view(&inventory, &[("b", 3), ("c", 4)]));
    assert_eq!(served(&inventory, &views.snapshot(), "c"), Some(4));
    assert_eq!(served(&inventory, &before, "b"), Some(2), "what is held stays as it was");

    // The row of a node without pods goes to another node.
    inventory.delete_pod("shop", "b", "b");
    inventory.delete_pod("shop", "c", "c");
    inventory.apply_pod(mk_pod("d", "n2"));
    assert_eq!(place("d"), first);
    assert_eq!(served(&inventory, &views.snapshot(), "d"), None);
    views.publish("n2".into(), view(&inventory, &[("d", 5)]));
    assert_eq!(served(&inventory, &views.snapshot(), "d"), Some(5));
    // The first node's view knows nothing of that, and takes nothing with it.
    views.publish("n1".into(), NodeView::default());
    views.remove("n1");
    assert_eq!(served(&inventory, &views.snapshot(), "d"), Some(5));
    views.remove("n2");
    assert_eq!(served(&inventory, &views.snapshot(), "d"), None);
}

/// A list of all pods looks no name up: that is what it would spend its time on.
#[test]
fn entries_are_found_by_place_alone() {
    let (inventory, views) = (Inventory::default(), Views::default());
    inventory.apply_pod(mk_pod("a", "n1"));
    views.publish("another name".into(), view(&inventory, &[("a", 1)]));
    assert_eq!(served(&inventory, &views.snapshot(), "a"), Some(1));
    assert!(views.snapshot().node("n1").is_none());
}

#[test]
fn a_thousand_nodes_have_rows_of_their_own() {
    let (inventory, views) = (Inventory::default(), Views::default());
    let names: Vec<_> = (0..1000).map(|index| format!("{index:04}")).collect();
    for (at, name) in names.iter().enumerate() {
        inventory.apply_pod(mk_pod(name, name));
        views.publish(Arc::from(&**name), view(&inventory, &[(name, at as u64)]));
    }
    let snapshot = views.snapshot();
    for (at, name) in names.iter().enumerate() {
        assert_eq!(served(&inventory, &snapshot, name), Some(at as u64));
        assert_eq!(snapshot.node(name).unwrap().pods.len(), 1);
    }
}
