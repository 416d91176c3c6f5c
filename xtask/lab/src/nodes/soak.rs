//! Boots nodes one after the other, until one fails or all were Ready: how far real nodes can be relied on. Each boot begins with
//! the machine's power and ends with its node's first Ready.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Network, Options, Places, RealCluster, name, product};
use crate::layout::Layout;

const LABEL: &str = "soak";

/// Boots as many nodes in a row. No runtime may run yet: this thread moves into a network of its own.
pub fn run(boots: u32, driver: Layout) -> Result<()> {
    let places = Places::from_environment()?;
    let network = Network::create("waggle-soak", 1)?;
    network.enter()?;
    // It ends with this program.
    network.forget_name()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    runtime.block_on(async {
        let images = product::images(&places, &places.state.join("node-images"))?;
        let options = Options { nodes: Vec::new(), images, ..Options::named(LABEL) };
        let mut cluster = RealCluster::start(&places, &options).await?;
        // No part of a boot.
        cluster.root(driver).await?;
        let mut times = Vec::new();
        for number in 1..=boots {
            let took = boot(&mut cluster, driver)
                .await
                .with_context(|| format!("boot {number} of {boots} failed"))?;
            println!("boot {number} of {boots}: Ready after {:.1} s", took.as_secs_f64());
            times.push(took);
        }
        times.sort_unstable();
        let at = |share: usize| {
            times.get(times.len().saturating_sub(1) * share / 100).copied().unwrap_or_default()
        };
        println!(
            "{} boots, none failed; Ready after {:.1} s (median), {:.1} s (fastest), {:.1} s (slowest)",
            times.len(),
            at(50).as_secs_f64(),
            at(0).as_secs_f64(),
            at(100).as_secs_f64()
        );
        Ok(())
    })
}

/// One boot; how long it took. Nothing of the node is left after it.
async fn boot(cluster: &mut RealCluster, driver: Layout) -> Result<Duration> {
    let begun = Instant::now();
    cluster.start_machine(0, driver, &[]).await?;
    cluster.wait_nodes_ready().await?;
    let took = begun.elapsed();
    for machine in cluster.machines.drain(..) {
        machine.kill()?;
    }
    cluster.plane.kubectl(&["delete", "node", &name(0)]).await?;
    Ok(took)
}
