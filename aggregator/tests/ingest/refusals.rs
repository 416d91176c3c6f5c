//! What must not get in: each case ends with its code and text, is counted, and disturbs nobody else.

use std::{sync::Arc, time::Duration};

use tonic::Code;
use waggle_aggregator::{ingest::Review, inventory::Node};
use waggle_proto::ingest::{Container, PodTotals, Snapshot, agent_message::Message};

use crate::{
    agent::Agent,
    client::Client,
    messages::{hello, snapshot, totals},
    tokens::agent_review,
    world::{INTERVAL, SECOND, World, container, pod, uid, until},
};

/// Node n2, live and served, and asserted to go on untouched.
struct Neighbour {
    agent: Agent,
}

impl Neighbour {
    async fn start(world: &World, port: std::net::SocketAddr) -> Self {
        let mut agent = world.agent("n2", port);
        agent.walk(0);
        until("the neighbour's stream", || (agent.publisher.live_streams() == 1).then_some(())).await;
        tokio::time::sleep(INTERVAL).await;
        agent.walk(1_000_000);
        until("the neighbour is served", || world.served("n2")).await;
        Self { agent }
    }

    /// Its entry is the very same one until it reports again, and then a newer one.
    async fn is_undisturbed(&mut self, world: &World, before: &Arc<waggle_aggregator::view::NodeView>) {
        let now = world.views.node("n2").unwrap();
        assert!(Arc::ptr_eq(before, &now), "the neighbour's view was touched");
        assert_eq!(self.agent.publisher.live_streams(), 1, "the neighbour's stream ended");
        tokio::time::sleep(INTERVAL).await;
        self.agent.walk(1_000_000);
        until("the neighbour goes on", || (world.view("n2").pods != before.pods).then_some(())).await;
    }
}

fn with(change: impl FnOnce(&mut Review)) -> Review {
    let mut review = agent_review("n1");
    change(&mut review);
    review
}

const NODE: &str = "authentication.kubernetes.io/node-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

#[tokio::test]
async fn credentials_that_are_not_an_agents_are_refused() {
    let none = (None, "token-missing", Code::Unauthenticated);
    let unauthenticated = Code::Unauthenticated;
    let cases = [
        ("rejected", with(|r| r.authenticated = false), "token-rejected", unauthenticated),
        ("error", with(|r| r.error = "expired".into()), "token-rejected", unauthenticated),
        (
            "audience",
            with(|r| r.audiences = vec!["https://kubernetes.default.svc".into()]),
            "audience",
            unauthenticated,
        ),
        ("no-audience", with(|r| r.audiences.clear()), "audience", unauthenticated),
        (
            "account",
            with(|r| r.username = "system:serviceaccount:waggle-system:default".into()),
            "service-account",
            unauthenticated,
        ),
        ("unbound", with(|r| drop(r.extra.remove(NODE))), "claims", unauthenticated),
        ("twice", with(|r| r.extra.get_mut(POD_UID).unwrap().push("x".into())), "claims", unauthenticated),
        (
            "foreign",
            with(|r| drop(r.extra.insert(NODE.into(), vec!["n2".into()]))),
            "pod-mismatch",
            Code::PermissionDenied,
        ),
        (
            "old-pod",
            with(|r| drop(r.extra.insert(POD_UID.into(), vec!["old".into()]))),
            "pod-mismatch",
            Code::PermissionDenied,
        ),
        (
            "old-node",
            with(|r| {
                drop(r.extra.insert("authentication.kubernetes.io/node-uid".into(), vec!["old".into()]));
            }),
            "node-mismatch",
            Code::PermissionDenied,
        ),
    ];
    let world = World::new(cases.iter().map(|(token, review, ..)| (*token, review.clone())));
    let port = world.port(None).await;
    let mut neighbour = Neighbour::start(&world, port.address).await;
    let before = world.views.node("n2").unwrap();
    let cases = cases.into_iter().map(|(token, _, reason, code)| (Some(token), reason, code));
    let attempts = cases.chain([none]).map(|(token, reason, code)| {
        let (world, address) = (&world, port.address);
        async move {
            let status = world.client(address, token).await.err().expect("refused");
            assert_eq!(status.code(), code, "{token:?}: {status:?}");
            assert!(!status.message().contains(reason), "the peer is told the reason: {status:?}");
            (token, reason)
        }
    });
    let mut expected = std::collections::BTreeMap::new();
    for (_, reason) in futures_util::future::join_all(attempts).await {
        *expected.entry(reason).or_insert(0) += 1;
    }
    assert_eq!(expected.values().sum::<u64>(), 11);
    for (reason, times) in expected {
        assert_eq!(world.count("streams_refused", reason), times, "{reason}");
    }
    assert!(world.view("n1").pods.is_empty());
    neighbour.is_undisturbed(&world, &before).await;
}

/// Opens n1's stream, stores one good snapshot, then sends `bad`, and asserts how that ends.
async fn broken(bad: impl FnOnce(&mut Snapshot), code: Code, reason: &str) {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut neighbour = Neighbour::start(&world, port.address).await;
    let mut client = world.client(port.address, Some("token-n1")).await.unwrap();
    client.send(hello()).await;
    client.welcome().await;
    client.send(Message::Snapshot(snapshot())).await;
    until("n1 is served", || world.served("n1")).await;
    let (n1, n2) = (world.views.node("n1").unwrap(), world.views.node("n2").unwrap());
    tokio::time::sleep(INTERVAL).await;
    let mut message = Snapshot { introduced: vec![], ..snapshot() };
    bad(&mut message);
    client.send(Message::Snapshot(message)).await;
    let status = client.end().await.expect("a status");
    assert_eq!(status.code(), code, "{status:?}");
    assert!(status.message().starts_with(reason), "{status:?}");
    assert_eq!(world.count("faults", reason), 1);
    assert!(Arc::ptr_eq(&n1, &world.views.node("n1").unwrap()), "the refused message changed something");
    neighbour.is_undisturbed(&world, &n2).await;
}

#[tokio::test]
async fn a_short_column_ends_the_stream() {
    broken(|m| m.cpu_ns.clear(), Code::InvalidArgument, "malformed").await;
}

#[tokio::test]
async fn an_old_instant_ends_the_stream() {
    broken(|m| m.clock.as_mut().unwrap().boot_ns -= 10 * SECOND, Code::InvalidArgument, "out-of-order").await;
}

#[tokio::test]
async fn more_than_a_mebibyte_ends_the_stream() {
    broken(|m| m.cpu_ns = vec![u64::MAX; 1 << 17], Code::ResourceExhausted, "oversized").await;
}

#[tokio::test]
async fn more_containers_than_a_node_has_end_the_stream() {
    let many = |m: &mut Snapshot| m.introduced = vec![Container::default(); 3000];
    broken(many, Code::ResourceExhausted, "too-many-containers").await;
}

/// `status.capacity` is what the kubelet writes, so the node itself.
#[tokio::test]
async fn a_node_of_a_million_pods_has_the_containers_of_the_largest_node_at_most() {
    let world = World::new([]);
    let node = (*world.inventory.node("n1").unwrap()).clone();
    world.inventory.apply_node(Node { pod_capacity: 1_000_000, ..node });
    let port = world.port(None).await;
    let end = |message: Snapshot| {
        let (world, address) = (&world, port.address);
        async move {
            let mut client = world.client(address, Some("token-n1")).await.unwrap();
            client.send(hello()).await;
            client.welcome().await;
            client.send(Message::Snapshot(message)).await;
            client.end().await.expect("a status")
        }
    };
    let containers = vec![Container::default(); 8193];
    let status = end(Snapshot { introduced: containers, ..snapshot() }).await;
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().starts_with("too-many-containers: a message has 8193, the node may have 8192"));
    let pods = (100..=1124).map(totals).collect();
    let status = end(Snapshot { unmeasured_pods: pods, ..snapshot() }).await;
    assert!(status.message().starts_with("too-many-pods: a message has totals of 1025"), "{status:?}");
}

#[tokio::test]
async fn totals_of_more_pods_than_a_node_has_end_the_stream() {
    let many = |m: &mut Snapshot| m.unmeasured_pods = (100..400).map(totals).collect();
    broken(many, Code::ResourceExhausted, "too-many-pods").await;
}

#[tokio::test]
async fn totals_of_a_pod_without_a_uid_end_the_stream() {
    let named = PodTotals { pod_uid: "../../etc/passwd".into(), ..totals(100) };
    broken(|m| m.unmeasured_pods = vec![named], Code::InvalidArgument, "malformed").await;
}

#[tokio::test]
async fn totals_of_a_containers_cgroup_end_the_stream() {
    broken(|m| m.unmeasured_pods = vec![totals(77)], Code::InvalidArgument, "malformed").await;
}

#[tokio::test]
async fn a_frame_that_is_no_message_ends_the_stream() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut neighbour = Neighbour::start(&world, port.address).await;
    let before = world.views.node("n2").unwrap();
    let Client { channel, .. } = world.client(port.address, Some("token-n1")).await.unwrap();
    let status = crate::client::corrupt(channel, "token-n1").await;
    assert_eq!(status.as_deref(), Some("3"), "grpc-status is INVALID_ARGUMENT");
    until("the fault is counted", || (world.count("faults", "malformed") == 1).then_some(())).await;
    neighbour.is_undisturbed(&world, &before).await;
}

#[tokio::test]
async fn a_pod_of_another_node_is_dropped_and_counted() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut neighbour = Neighbour::start(&world, port.address).await;
    let before = world.views.node("n2").unwrap();
    let mut client = world.client(port.address, Some("token-n1")).await.unwrap();
    client.send(hello()).await;
    client.welcome().await;
    let mut message = snapshot();
    let mut claimed = message.introduced[0].clone();
    (claimed.handle, claimed.cgroup_id, claimed.pod_uid) = (2, 78, uid("n2"));
    claimed.container_id = vec![2; 32].into();
    message.introduced.push(claimed);
    message.cpu_ns.push(SECOND / 20);
    message.working_set_pages.push(9);
    client.send(Message::Snapshot(message)).await;
    until("n1's own pod is served", || world.served("n1")).await;
    assert_eq!(world.count("samples_dropped", "foreign-pod"), 1);
    assert_eq!(world.view("n1").pods.len(), 1);
    neighbour.is_undisturbed(&world, &before).await;
}

#[tokio::test]
async fn an_unknown_pod_is_held_for_an_interval_and_served_once_it_is_known() {
    let world = World::new([]);
    let port = world.port(None).await;
    let late = "00000009-0000-4000-8000-000000000000";
    let mut client = world.client(port.address, Some("token-n1")).await.unwrap();
    client.send(hello()).await;
    client.welcome().await;
    let mut message = snapshot();
    message.introduced[0].pod_uid = late.into();
    client.send(Message::Snapshot(message)).await;
    for dropped in [0, 1] {
        until("the snapshot is stored", || (world.metrics.applied.get() == dropped + 1).then_some(())).await;
        assert_eq!(world.count("samples_dropped", "unknown-pod"), dropped);
        tokio::time::sleep(INTERVAL + Duration::from_millis(20)).await;
        client.send(Message::Snapshot(Snapshot { introduced: vec![], ..snapshot() })).await;
    }
    until("the third snapshot", || (world.metrics.applied.get() == 3).then_some(())).await;
    assert!(world.view("n1").pods.is_empty());
    world.inventory.apply_pod(pod("shop", "late", late, "n1", vec![container("web", 1)]));
    tokio::time::sleep(INTERVAL).await;
    client.send(Message::Snapshot(Snapshot { introduced: vec![], ..snapshot() })).await;
    let is_served = || world.view("n1").pods.iter().any(|entry| &**entry.uid == late).then_some(());
    until("the late pod is served", is_served).await;
}
