//! What happens around Waggle: its authority is replaced, kube-apiserver goes and comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::{LIMIT, asker::Asker, world::World};

const CA: &str = "/api/v1/namespaces/waggle-system/configmaps/waggle-ca";
/// Longer than the overlap that the overlay asks for, and the agents' way to the new bundle.
const ROTATION: Duration = Duration::from_mins(6);

/// The CA is replaced as the documentation says: by a key in its Secret.
pub async fn rotate(world: &mut World) -> Result<String> {
    let asker = Asker::start(world).await?;
    let before = certificates(&world.cluster.plane.get(CA).await?)?;
    let patch = json!({"stringData": {"rotate": "now"}}).to_string();
    world
        .cluster
        .plane
        .kubectl(&["-n", "waggle-system", "patch", "secret", "waggle-ca", "-p", &patch])
        .await?;
    let begun = Instant::now();
    let signer = |secret: &serde_json::Value| secret["data"]["ca.crt"].clone();
    let secret = "/api/v1/namespaces/waggle-system/secrets/waggle-ca";
    let old = signer(&world.cluster.plane.get(secret).await?);
    world
        .cluster
        .wait("both authorities are published", LIMIT, async |plane| {
            let now = certificates(&plane.get(CA).await?)?;
            Ok(now.len() > before.len() && before.iter().all(|one| now.contains(one)))
        })
        .await?;
    world
        .cluster
        .wait("the new authority signs", ROTATION, async |plane| {
            let now = signer(&plane.get(secret).await?);
            Ok(!now.is_null() && now != old)
        })
        .await?;
    let took = begun.elapsed();
    let numbers = world.numbers_are_right().await?;
    let lists = asker.end().none_failed()?;
    Ok(format!("signed by the new CA after {:.0} s; {lists}; {numbers}", took.as_secs_f64()))
}

/// A bundle's certificates.
fn certificates(map: &serde_json::Value) -> Result<Vec<String>> {
    let bundle = map["data"]["ca.crt"].as_str().context("no bundle is published")?;
    let certificates: Vec<String> = bundle
        .split("-----END CERTIFICATE-----")
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .map(str::to_owned)
        .collect();
    ensure!(!certificates.is_empty(), "the bundle is empty");
    Ok(certificates)
}

/// Killed and started again: agents stream on meanwhile, and what was known is known after it.
pub async fn restart(world: &mut World) -> Result<String> {
    let before = world.node_times().await?;
    let begun = Instant::now();
    world.cluster.plane.restart_api_server().await?;
    let ready = begun.elapsed();
    let nodes = before.len();
    world
        .cluster
        .wait("every node is served", LIMIT, async |plane| {
            let now = super::world::node_times(plane).await?;
            Ok(now.len() == nodes
                && now.iter().all(|(name, time)| before.get(name).is_none_or(|old| time > old)))
        })
        .await?;
    let served = begun.elapsed();
    let numbers = world.numbers_are_right().await?;
    Ok(format!(
        "kube-apiserver is ready after {:.1} s, metrics are served after {:.1} s; {numbers}",
        ready.as_secs_f64(),
        served.as_secs_f64()
    ))
}
