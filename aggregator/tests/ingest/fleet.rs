//! Which node runs which collector, as metrics of the aggregator: as long as the node's stream, and never in between.

use crate::world::{INTERVAL, World, until};

/// The series of node n1.
fn series(world: &World) -> Vec<String> {
    world.exported().into_iter().filter(|line| line.contains("node=\"n1\"")).collect()
}

fn info(collector: &str) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("collector_info{{node=\"n1\",collector=\"{collector}\",agent_version=\"{version}\"}} 1")
}

fn refusal(reason: &str) -> String {
    format!("collector_refusals{{node=\"n1\",reason=\"{reason}\"}} 1")
}

#[tokio::test]
async fn a_collector_is_exported_for_as_long_as_its_stream_and_follows_changes() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut agent = world.agent("n1", port.address);
    agent.walk(0);
    until("the hello's collector", || (series(&world) == [info("cgroupfs")]).then_some(())).await;
    agent.publisher.collector("bpf", vec![]);
    tokio::time::sleep(INTERVAL).await;
    agent.walk(0);
    until("another collector", || (series(&world) == [info("bpf")]).then_some(())).await;
    agent.publisher.collector("cgroupfs", vec!["truncated".into(), "no memory".into()]);
    tokio::time::sleep(INTERVAL).await;
    agent.walk(0);
    let both = [info("cgroupfs"), refusal("truncated")];
    until("a refusal", || (series(&world) == both).then_some(())).await;
    let dropped = r#"collector_labels_dropped_total{label="reason"} 1"#.to_owned();
    assert!(world.exported().contains(&dropped), "a text that is no label");
    for _ in 0..3 {
        tokio::time::sleep(INTERVAL).await;
        agent.walk(0);
    }
    until("later snapshots", || (world.metrics.applied.get() >= 5).then_some(())).await;
    assert!(world.exported().contains(&dropped), "the status is sent once per change");
    agent.stop();
    until("the stream's end", || series(&world).is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_later_stream_replaces_the_series_without_a_gap() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut old = world.agent("n1", port.address);
    old.walk(0);
    until("the first stream", || (series(&world) == [info("cgroupfs")]).then_some(())).await;
    let new = world.agent("n1", port.address);
    new.publisher.collector("bpf", vec![]);
    while series(&world) != [info("bpf")] {
        assert_eq!(series(&world).len(), 1, "one of the two at any time");
        tokio::task::yield_now().await;
    }
    old.stop();
    until("the second stream alone", || (port.state.streams() == 1).then_some(())).await;
    assert_eq!(series(&world), [info("bpf")], "the end of the first stream takes nothing away");
}

#[tokio::test]
async fn the_series_go_with_the_agents_pod() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut agent = world.agent("n1", port.address);
    agent.walk(0);
    until("the stream", || (series(&world) == [info("cgroupfs")]).then_some(())).await;
    world.inventory.delete_pod("waggle-system", "agent-n1", "uid-of-agent-n1");
    until("agent-gone", || (world.count("streams_closed", "agent-gone") == 1).then_some(())).await;
    until("no series", || series(&world).is_empty().then_some(())).await;
}
