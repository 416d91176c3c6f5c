//! What a cluster's administrator does with Waggle over its life, each step on a real cluster and judged by what users see: lists that
//! never fail where none may, and numbers that are right after each step.

mod asker;
mod install;
mod machines;
pub mod migration;
mod plane;
mod pods;
mod report;
mod world;

use std::time::Duration;

use anyhow::Result;

use self::{migration::Beside, report::Report, world::World};
use crate::nodes::{Network, Places};

/// The name of the network namespace, and of the folder with the logs.
const LABEL: &str = "life-cycle";

/// Runs the list on a cluster of this many nodes. Steps that need two are counted as skipped on one. No runtime may run yet: this
/// thread moves into the cluster's network.
pub fn run(nodes: u8) -> Result<bool> {
    let network = Network::create(&format!("waggle-{LABEL}"), nodes)?;
    network.enter()?;
    // This thread is in it: it stays until the last process in it has ended.
    network.forget_name()?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(steps(&Places::from_environment()?, nodes))
}

async fn steps(places: &Places, nodes: u8) -> Result<bool> {
    let mut report = Report::default();
    let mut beside = Beside::from_environment()?;
    println!("starting a control plane and {nodes} machines");
    let mut world = World::start(places, nodes).await?;
    let world = &mut world;
    if !report.step("install by kubectl apply -k", install::fresh(world)).await {
        // Nothing else means anything without it.
        return Ok(report.finish());
    }
    report.step("upgrade under lists", install::upgrade(world)).await;
    report.step("rollback under lists", install::rollback(world)).await;
    report.step("an aggregator is evicted", pods::evict_aggregator(world)).await;
    report.step("an agent is evicted", pods::evict_agent(world)).await;
    report.step("the CA is rotated under lists", plane::rotate(world)).await;
    report.step("the API server is restarted", plane::restart(world)).await;
    report.step("a node is rebooted", machines::reboot(world)).await;
    for (name, last) in [("a node is drained and deleted", false), ("a node is added", true)] {
        match (nodes, last) {
            (0 | 1, _) => report.skip(name, "needs two nodes"),
            (_, false) => drop(report.step(name, machines::drain(world)).await),
            (_, true) => drop(report.step(name, machines::add(world)).await),
        }
    }
    report.step("uninstall by kubectl delete -k", install::remove(world)).await;
    report.step("install by helm, helm test, uninstall", install::by_helm(world)).await;
    if report.step("from metrics-server under an autoscaler", migration::there(world, &mut beside)).await {
        report.step("back to metrics-server under an autoscaler", migration::back(world, &mut beside)).await;
    } else {
        report.skip("back to metrics-server under an autoscaler", "the way there failed");
    }
    Ok(report.finish())
}

/// From an order to what it asked for: images are there, the machines are slow.
const LIMIT: Duration = Duration::from_mins(5);
