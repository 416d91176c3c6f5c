//! Nodes that go and come.

use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    LIMIT,
    asker::Asker,
    world::{World, node_times},
};
use crate::nodes;

/// More than what an agent could still send between a look and the loss of power.
const LATER: i64 = 5;

/// The last machine loses its power and comes back, as the same node. Where an aggregator ran on it, kube-apiserver goes on asking a
/// replica that is not there until its connection times out: lists may fail for as long, and are counted.
pub async fn reboot(world: &mut World) -> Result<String> {
    let number = world.nodes - 1;
    let node = nodes::name(number);
    let path = format!("/api/v1/nodes/{node}");
    let boot = |node: &Value| node["status"]["nodeInfo"]["bootID"].as_str().map(str::to_owned);
    let old = boot(&world.cluster.plane.get(&path).await?).context("a node without boot id")?;
    let last = *world.node_times().await?.get(&node).with_context(|| format!("{node} is not served"))?;
    let after = last + jiff::Span::new().seconds(LATER);
    let asker = Asker::start(world).await?;
    let begun = Instant::now();
    world.cluster.machines.pop().context("there is no machine")?.kill()?;
    world.cluster.start_machine(number, nodes::DRIVER, &[]).await?;
    world
        .cluster
        .wait("the node has booted", LIMIT, async |plane| {
            let now = plane.get(&path).await?;
            Ok(boot(&now).is_some_and(|now| now != old) && nodes::condition(&now, "Ready"))
        })
        .await?;
    let booted = begun.elapsed();
    world
        .cluster
        .wait("the node is served anew", LIMIT, async |plane| {
            let now = node_times(plane).await?;
            Ok(now.get(&node).is_some_and(|time| *time >= after))
        })
        .await?;
    let served = begun.elapsed();
    let numbers = world.numbers_are_right().await?;
    let lists = asker.end();
    Ok(format!(
        "Ready after {:.1} s, served after {:.1} s; {} of {} lists failed, none for longer than {:.1?}; {numbers}",
        booted.as_secs_f64(),
        served.as_secs_f64(),
        lists.failures.len(),
        lists.count,
        lists.gap,
    ))
}

/// The last node is drained, switched off and deleted: it and its pods are no longer served, the others are all along.
pub async fn drain(world: &mut World) -> Result<String> {
    let node = nodes::name(world.nodes - 1);
    let asker = Asker::start(world).await?;
    let plane = &world.cluster.plane;
    plane
        .kubectl(&["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=180s"])
        .await?;
    world.cluster.machines.pop().context("there is no machine")?.kill()?;
    world.cluster.plane.kubectl(&["delete", "node", &node]).await?;
    let begun = Instant::now();
    world
        .cluster
        .wait("the node is no longer served", LIMIT, async |plane| {
            Ok(!node_times(plane).await?.contains_key(&node))
        })
        .await?;
    let absent = begun.elapsed();
    let numbers = world.numbers_are_right().await?;
    let lists = asker.end().none_failed()?;
    Ok(format!("absent {:.1} s after its deletion; {lists}; {numbers}", absent.as_secs_f64()))
}

/// A machine that was never there, as far as the cluster knows.
pub async fn add(world: &mut World) -> Result<String> {
    let number = world.nodes - 1;
    let node = nodes::name(number);
    let begun = Instant::now();
    world.cluster.start_machine(number, nodes::DRIVER, &[]).await?;
    world.cluster.wait_nodes_ready().await?;
    let (ready, since) = (begun.elapsed(), Instant::now());
    world
        .cluster
        .wait("the node is served", LIMIT, async |plane| Ok(node_times(plane).await?.contains_key(&node)))
        .await?;
    Ok(format!(
        "Ready after {:.1} s, served {:.1} s later; {}",
        ready.as_secs_f64(),
        since.elapsed().as_secs_f64(),
        world.numbers_are_right().await?
    ))
}
