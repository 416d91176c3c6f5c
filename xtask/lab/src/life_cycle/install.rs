//! Installation, upgrade, rollback and removal, as the documentation tells an administrator to do them.

use std::{process::Stdio, time::Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{
    LIMIT,
    asker::Asker,
    world::{VERSIONS, World},
};
use crate::{central::NAMESPACE, control_plane::API_SERVICES, nodes::product};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/chart/waggle");

/// Onto a cluster that has none.
pub async fn fresh(world: &mut World) -> Result<String> {
    let begun = Instant::now();
    world.apply(VERSIONS[0]).await?;
    product::wait_ready(&mut world.cluster).await?;
    product::wait_served(&mut world.cluster).await?;
    let served = begun.elapsed();
    let numbers = world.numbers_are_right().await?;
    Ok(format!("every node is served {:.1} s after kubectl apply; {numbers}", served.as_secs_f64()))
}

/// By applying another tag.
pub async fn upgrade(world: &mut World) -> Result<String> {
    let asker = Asker::start(world).await?;
    world.apply(VERSIONS[1]).await?;
    let rolled = world.rolled_out(VERSIONS[1]).await;
    let lists = asker.end();
    rolled?;
    let lists = lists.none_failed()?;
    Ok(format!("{lists}; {}", world.numbers_are_right().await?))
}

/// By `kubectl rollout undo`.
pub async fn rollback(world: &mut World) -> Result<String> {
    let asker = Asker::start(world).await?;
    for workload in ["deployment/waggle-aggregator", "daemonset/waggle-agent"] {
        world.cluster.plane.kubectl(&["-n", "waggle-system", "rollout", "undo", workload]).await?;
    }
    let rolled = world.rolled_out(VERSIONS[0]).await;
    let lists = asker.end();
    rolled?;
    let lists = lists.none_failed()?;
    Ok(format!("{lists}; {}", world.numbers_are_right().await?))
}

/// Leaves nothing.
pub async fn remove(world: &mut World) -> Result<String> {
    let folder = world.overlay().display().to_string();
    world.cluster.plane.kubectl(&["delete", "-k", &folder, "--wait=true", "--timeout=120s"]).await?;
    nothing_is_left(world, &[]).await
}

/// By helm, as the documentation says, with `helm test`, and away again.
pub async fn by_helm(world: &mut World) -> Result<String> {
    let kubectl = async |args: &[&str]| world.cluster.plane.kubectl(args).await.map(drop);
    kubectl(&["create", "namespace", NAMESPACE]).await?;
    kubectl(&["label", "namespace", NAMESPACE, "pod-security.kubernetes.io/enforce=privileged"]).await?;
    let begun = Instant::now();
    helm(world, &["install", "waggle", CHART, "--wait", "--timeout", "8m"]).await?;
    let installed = begun.elapsed();
    // Without a wait: what helm waits for is that users are answered.
    world.cluster.plane.kubectl(&["top", "nodes"]).await?;
    product::wait_served(&mut world.cluster).await?;
    let numbers = world.numbers_are_right().await?;
    let said = helm(world, &["test", "waggle", "--logs", "--timeout", "5m"]).await?;
    ensure!(said.contains("Succeeded"), "helm test says: {said}");
    helm(world, &["uninstall", "waggle", "--wait", "--timeout", "3m"]).await?;
    world.cluster.plane.kubectl(&["delete", "namespace", NAMESPACE, "--timeout=120s"]).await?;
    let left = nothing_is_left(world, &[]).await?;
    Ok(format!(
        "helm install --wait took {:.1} s; {numbers}; helm test succeeded; {left}",
        installed.as_secs_f64()
    ))
}

async fn helm(world: &World, args: &[&str]) -> Result<String> {
    let mut command = crate::helm::command()?;
    command.args(args).args(["-n", NAMESPACE]).env("KUBECONFIG", world.cluster.plane.kubeconfig());
    let output =
        tokio::process::Command::from(command).stdin(Stdio::null()).kill_on_drop(true).output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    ensure!(output.status.success(), "helm {}: {}", args.join(" "), text(&output.stderr));
    Ok(text(&output.stdout))
}

/// Waits until no object of Waggle is left, but for those of these names, which are another's.
pub async fn nothing_is_left(world: &mut World, others: &[&str]) -> Result<String> {
    let begun = Instant::now();
    world
        .cluster
        .wait("no object of Waggle is left", LIMIT, async |plane| {
            for path in [
                "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                "/apis/rbac.authorization.k8s.io/v1/rolebindings",
                "/apis/apiregistration.k8s.io/v1/apiservices",
                "/api/v1/namespaces",
            ] {
                let list = plane.get(path).await?;
                let ours = list["items"].as_array().into_iter().flatten().filter_map(ours);
                let left: Vec<&str> = ours.filter(|name| !others.contains(name)).collect();
                ensure!(left.is_empty(), "{path} still has {left:?}");
            }
            Ok(true)
        })
        .await?;
    let services = world.cluster.plane.get("/apis/apiregistration.k8s.io/v1/apiservices").await?;
    let unavailable: Vec<&Value> = services["items"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|service| !crate::nodes::condition(service, "Available"))
        .collect();
    ensure!(unavailable.is_empty(), "not Available: {unavailable:?}");
    Ok(format!(
        "nothing is left, every APIService is Available, {:.1} s later",
        begun.elapsed().as_secs_f64()
    ))
}

/// The object's name, if it is Waggle's by name.
fn ours(object: &Value) -> Option<&str> {
    let name = object["metadata"]["name"].as_str()?;
    let is_ours =
        name.contains("waggle") || API_SERVICES.contains(&name) || name == "system:aggregated-metrics-reader";
    is_ours.then_some(name)
}
