//! Streams that end for other reasons than their messages, and what the inventory does to views.

use prost::Message as _;
use tonic::Code;
use waggle_aggregator::inventory::Node;
use waggle_proto::ingest::{AgentMessage, agent_message::Message};

use crate::{
    log::Log,
    messages::{hello, snapshot},
    tokens::agent_review,
    world::{INTERVAL, World, pod, uid, until},
};

#[tokio::test]
async fn a_newer_stream_takes_the_nodes_place() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut old = world.agent("n1", port.address);
    old.walk(0);
    until("the first stream", || (old.publisher.live_streams() == 1).then_some(())).await;
    let mut new = world.agent("n1", port.address);
    new.walk(0);
    until("the first stream is superseded", || {
        (world.count("streams_closed", "superseded") > 0).then_some(())
    })
    .await;
    // Stopped, lest it comes back and takes the place again.
    old.stop();
    until("the second stream alone", || {
        (new.publisher.live_streams() == 1 && port.state.streams() == 1).then_some(())
    })
    .await;
    tokio::time::sleep(INTERVAL).await;
    new.walk(50_000_000);
    until("the second stream is served", || world.served("n1")).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_agents_pod() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut agent = world.agent("n1", port.address);
    agent.walk(0);
    until("the stream", || (agent.publisher.live_streams() == 1).then_some(())).await;
    world.inventory.apply_pod(pod("waggle-system", "agent-n1", "another-uid", "n1", vec![]));
    until("agent-gone", || (world.count("streams_closed", "agent-gone") == 1).then_some(())).await;
    until("no stream", || (agent.publisher.live_streams() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_node_and_the_view_goes() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut agent = world.agent("n1", port.address);
    agent.walk(0);
    until("the stream", || (agent.publisher.live_streams() == 1).then_some(())).await;
    tokio::time::sleep(INTERVAL).await;
    agent.walk(1000);
    until("served", || world.served("n1").and(world.view("n1").node)).await;
    let node: Node = (*world.inventory.node("n1").unwrap()).clone();
    world.inventory.apply_node(Node { uid: "another".into(), ..node });
    until("node-gone", || (world.count("streams_closed", "node-gone") == 1).then_some(())).await;
    world.inventory.delete_node("n1");
    until("the node's entry goes", || world.view("n1").node.is_none().then_some(())).await;
    assert!(world.served("n1").is_some(), "its pods stay until they are deleted");
    world.inventory.delete_pod("shop", "web-n1", &uid("n1"));
    until("the pod's entry goes", || world.served("n1").is_none().then_some(())).await;
    world.inventory.delete_pod("waggle-system", "agent-n1", "uid-of-agent-n1");
    until("the view goes", || world.views.node("n1").is_none().then_some(())).await;
}

#[tokio::test]
async fn at_the_end_agents_are_told() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut client = world.client(port.address, Some("token-n1")).await.unwrap();
    until("the stream", || (port.state.streams() == 1).then_some(())).await;
    port.stop().await;
    let status = client.end().await.expect("a status");
    assert_eq!((status.code(), status.message().starts_with("shutdown")), (Code::Unavailable, true));
    assert_eq!(world.count("streams_closed", "shutdown"), 1);
}

/// Whatever failed before: after three failures the end of a stream that worked was not logged.
#[tokio::test]
async fn an_agent_logs_each_reconnect_with_its_reason() {
    let log = Log::record();
    let world = World::new([("flaky-token", agent_review("n1"))]);
    let port = world.port(None).await;
    let mut agent = world.agent_with("n1", "flaky-token", port.address);
    agent.walk(0);
    until("the stream", || (agent.publisher.live_streams() == 1).then_some(())).await;
    assert_eq!(world.count("streams_refused", "review-unavailable"), 3);
    world.inventory.apply_pod(pod("waggle-system", "agent-n1", "another-uid", "n1", vec![]));
    let reason = "agent-gone: the agent's pod is no more";
    let line = until("a line with the reason", || log.lines(reason).pop()).await;
    assert!(line.contains("WARN waggle_agent") && line.contains(&port.address.to_string()), "{line}");
}

/// Messages of a later version of the protocol, before and after the hello: a field that this version does not have is
/// all that they contain.
#[tokio::test]
async fn messages_of_an_unknown_kind_are_ignored_and_counted() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut client = world.client(port.address, Some("token-n1")).await.unwrap();
    // Field 15, two bytes.
    let unknown = AgentMessage::decode(&[0x7a, 0x02, 0x08, 0x01][..]).unwrap();
    client.out.send(unknown.clone()).await.unwrap();
    client.send(hello()).await;
    client.welcome().await;
    client.out.send(unknown).await.unwrap();
    client.send(Message::Snapshot(snapshot())).await;
    until("n1 is served", || world.served("n1")).await;
    assert!(world.exported().contains(&"messages_unknown_total 2".to_owned()), "{:?}", world.exported());
    assert_eq!(world.count("faults", "malformed"), 0);
}

/// Their agents are admitted, then the inventory changes, and only then do they say hello.
#[tokio::test]
async fn a_stream_whose_node_or_pod_is_gone_when_it_opens_is_ended() {
    let world = World::new([]);
    let port = world.port(None).await;
    let open = || world.client(port.address, Some("token-n1"));
    let mut client = open().await.unwrap();
    let pod = (*world.inventory.pod("waggle-system", "agent-n1").unwrap()).clone();
    world.inventory.delete_pod("waggle-system", "agent-n1", &pod.uid);
    client.send(hello()).await;
    assert!(client.end().await.expect("a status").message().starts_with("agent-gone"));
    world.inventory.apply_pod(pod.clone());
    let mut client = open().await.unwrap();
    world.inventory.delete_node("n1");
    for (namespace, name, uid) in [("waggle-system", "agent-n1", &*pod.uid), ("shop", "web-n1", &*uid("n1"))]
    {
        world.inventory.delete_pod(namespace, name, uid);
    }
    client.send(hello()).await;
    assert!(client.end().await.expect("a status").message().starts_with("node-gone"));
    until("no stream", || (port.state.streams() == 0).then_some(())).await;
    assert_eq!(
        (world.count("streams_closed", "agent-gone"), world.count("streams_closed", "node-gone")),
        (1, 1)
    );
    assert!(
        !world.exported().iter().any(|line| line.starts_with("collector_info")),
        "{:?}",
        world.exported()
    );
    assert_eq!(port.state.nodes(), 0, "nothing is kept for the node");
    assert!(world.views.node("n1").is_none());
}
