use std::time::{Duration, Instant};

use super::{
    super::{Indexed, Place},
    *,
};

fn mk_pod(name: &str, uid: &str, node: &str, running: bool) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: name.into(),
        uid: uid.into(),
        static_uid: None,
        labels: Labels::new(),
        node: node.into(),
        service_account: "default".into(),
        running,
        terminating: false,
        containers: Vec::new(),
        indexed: Indexed::default(),
    }
}

#[test]
fn pods_that_run_have_places_and_keep_them() {
    let inventory = Inventory::default();
    let place = |name: &str| inventory.pod("shop", name).and_then(|pod| pod.indexed.place);
    inventory.apply_pod(mk_pod("a", "1", "n1", false));
    assert_eq!(place("a"), None);
    inventory.apply_pod(mk_pod("a", "1", "n1", true));
    inventory.apply_pod(mk_pod("b", "2", "n1", true));
    inventory.apply_pod(mk_pod("c", "3", "n2", true));
    let places = [Place::new(0, 0), Place::new(0, 1), Place::new(1, 0)].map(Some);
    assert_eq!([place("a"), place("b"), place("c")], places);
    let uid = inventory.pod("shop", "b").unwrap().uid.clone();
    inventory.apply_pod(mk_pod("b", "2", "n1", true));
    assert_eq!(place("b"), places[1]);
    assert!(Arc::ptr_eq(&uid, &inventory.pod("shop", "b").unwrap().uid), "the UID is kept once");
    // Another pod of that name, on another node: the old place is free.
    inventory.apply_pod(mk_pod("a", "4", "n2", true));
    assert_eq!(place("a"), Some(Place::new(1, 1)));
    inventory.apply_pod(mk_pod("d", "5", "n1", true));
    assert_eq!(place("d"), places[0]);
    // A node without pods leaves its row to the next.
    inventory.delete_pod("shop", "b", "2");
    inventory.delete_pod("shop", "d", "5");
    inventory.apply_pod(mk_pod("e", "6", "n3", true));
    assert_eq!(place("e"), Some(Place::new(0, 0)));
}

/// A node that reports unknown pods has each of them looked up. The limit is far above what an index
/// needs, and far below what a look at every node does.
#[test]
fn an_unknown_uid_costs_the_same_however_many_nodes_there_are() {
    let inventory = Inventory::default();
    for number in 0..5000 {
        let name = number.to_string();
        inventory.apply_pod(mk_pod(&name, &format!("uid-{name}"), &format!("n{name}"), true));
    }
    let start = Instant::now();
    for number in 0..8192 {
        assert!(inventory.pod_with_uid(&format!("unknown-{number}")).is_none());
    }
    let took = start.elapsed();
    assert!(took < Duration::from_millis(500), "{took:?}");
}

#[test]
fn a_pod_is_found_by_uid_for_as_long_as_it_is_there() {
    let inventory = Inventory::default();
    let found = |uid: &str| inventory.pod_with_uid(uid).map(|pod| (pod.name.to_string(), pod.node.clone()));
    inventory.apply_pod(mk_pod("a", "1", "n1", true));
    inventory.apply_pod(mk_pod("b", "2", "n1", true));
    assert_eq!(found("1"), Some(("a".into(), "n1".into())));
    inventory.apply_pod(mk_pod("a", "1", "n2", false));
    assert_eq!(found("1"), Some(("a".into(), "n2".into())), "bound to a node");
    inventory.apply_pod(mk_pod("a", "3", "n2", true));
    assert_eq!((found("1"), found("3")), (None, Some(("a".into(), "n2".into()))), "replaced");
    inventory.delete_pod("shop", "a", "3");
    assert_eq!((found("3"), found("2")), (None, Some(("b".into(), "n1".into()))));
    let on = |node: &str| inventory.pods_on(node).iter().map(|pod| pod.uid.to_string()).collect::<Vec<_>>();
    assert_eq!((on("n1"), on("n2")), (vec!["2".to_owned()], vec![]));
}
