//! Pods of Waggle that are evicted, as a node under pressure or an administrator would evict them.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{
    LIMIT,
    asker::Asker,
    world::{World, name, node_times},
};
use crate::nodes::product;

/// With two of them no list fails; one alone is missed until another one has taken its place.
pub async fn evict_aggregator(world: &mut World) -> Result<String> {
    let asker = Asker::start(world).await?;
    let pods = world.pods_of("aggregator").await?;
    evict(world, name(pods.first().context("there is no aggregator")?)?).await?;
    let gone = name(pods.first().context("there is no aggregator")?)?.to_owned();
    replaced(world, "aggregator", &gone).await?;
    let all = asker.end();
    let lists = if world.is_redundant() {
        all.none_failed()?
    } else {
        format!(
            "alone: {} of {} lists failed, none for longer than {:.1?}",
            all.failures.len(),
            all.count,
            all.gap
        )
    };
    Ok(format!("{lists}; {}", world.numbers_are_right().await?))
}

/// Its node keeps its last values, and is served again by the agent that comes.
pub async fn evict_agent(world: &mut World) -> Result<String> {
    let asker = Asker::start(world).await?;
    let pods = world.pods_of("agent").await?;
    let pod = pods.first().context("there is no agent")?;
    let node = pod["spec"]["nodeName"].as_str().context("an agent on no node")?.to_owned();
    let gone = name(pod)?.to_owned();
    let before = world.node_times().await?;
    let last = *before.get(&node).with_context(|| format!("{node} is not served"))?;
    let begun = Instant::now();
    evict(world, &gone).await?;
    replaced(world, "agent", &gone).await?;
    // Later than anything that the evicted one could have sent.
    let after = last + jiff::Span::new().seconds(i64::try_from(begun.elapsed().as_secs())?);
    world
        .cluster
        .wait("its node is served anew", LIMIT, async |plane| {
            let now = node_times(plane).await?;
            let time = now.get(&node).with_context(|| format!("{node} is not served any more"))?;
            Ok(*time >= after)
        })
        .await?;
    let gap = begun.elapsed();
    let lists = asker.end().none_failed()?;
    Ok(format!(
        "{node} has a new agent's values after {:.1} s; {lists}; {}",
        gap.as_secs_f64(),
        world.numbers_are_right().await?
    ))
}

async fn evict(world: &World, pod: &str) -> Result<()> {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"namespace": "waggle-system", "name": pod},
    });
    let path = format!("/api/v1/namespaces/waggle-system/pods/{pod}/eviction");
    let request = http::Request::post(&path)
        .header("content-type", "application/json")
        .body(eviction.to_string().into_bytes())
        .context("an odd path")?;
    let client = world.cluster.plane.client().await?;
    client.request::<serde_json::Value>(request).await.map(drop).with_context(|| format!("POST {path}"))
}

/// Waits until a pod is gone and its workload complete again.
async fn replaced(world: &mut World, component: &str, gone: &str) -> Result<()> {
    world
        .cluster
        .wait(&format!("the {component} {gone} is replaced"), LIMIT, async |plane| {
            let path = format!("/api/v1/namespaces/waggle-system/pods/{gone}");
            match plane.get(&path).await {
                Ok(_) => Ok(false),
                Err(error) => {
                    let text = format!("{error:#}");
                    ensure!(text.contains("not found"), "{text}");
                    Ok(true)
                }
            }
        })
        .await?;
    product::wait_ready(&mut world.cluster).await
}
