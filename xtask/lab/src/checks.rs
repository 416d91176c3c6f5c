//! What must hold of the values that a cluster serves, compared with what is known of its pods and with the kernel's
//! own files. The demo prints these checks, the tests assert them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tokio::time::sleep;

use crate::{
    cluster::{Cluster, run},
    control::Totals,
    metrics::Item,
    scenario::{BURNER_MILLICORES, HOLDER_MIB, Pod, SMALL_BURNER_MILLICORES},
};

const MIB: f64 = 1_048_576.0;
/// A window this long is taken as full: the default is 15 s.
pub const FULL_WINDOW: Duration = Duration::from_secs(13);

/// One check with what was seen.
#[derive(Debug, Clone)]
pub struct Check {
    /// What must hold.
    pub what: String,
    /// What was seen.
    pub seen: String,
    /// Whether it holds.
    pub holds: bool,
}

impl Check {
    /// That a value is as near to the truth as it must be.
    pub(crate) fn near(what: &str, unit: &str, seen: f64, truth: f64, percent: f64) -> Self {
        let off = (seen / truth - 1.0) * 100.0;
        Self {
            what: format!("{what} within {percent} % of {truth:.1} {unit}"),
            seen: format!("{seen:.1} {unit} ({off:+.2} %)"),
            holds: truth > 0.0 && off.abs() <= percent,
        }
    }
}

/// All of them, for a cluster with the first pods.
pub async fn all(cluster: &Cluster, pods: &[Pod]) -> Result<Vec<Check>> {
    let mut checks = vec![collector(cluster, "bpf").await?];
    let burner = served(cluster, "default", "burner").await?.container("burn")?;
    checks.push(Check::near(
        "CPU of the 250 m burner",
        "m",
        burner.millicores,
        BURNER_MILLICORES as f64,
        10.0,
    ));
    let pair = served(cluster, "default", "pair").await?;
    let small = pair.container("burn")?.millicores;
    checks.push(Check::near("CPU of the 100 m burner", "m", small, SMALL_BURNER_MILLICORES as f64, 10.0));
    let sidecar = pair.container("sidecar")?.millicores;
    checks.push(Check {
        what: "its sleeping neighbour below 2 m".to_owned(),
        seen: format!("{sidecar:.2} m"),
        holds: sidecar < 2.0,
    });
    let holder = served(cluster, "default", "holder").await?.container("hold")?;
    checks.push(Check::near("memory of the holder", "MiB", holder.bytes / MIB, HOLDER_MIB as f64, 5.0));
    checks.push(page_cache(cluster, pods).await?);
    checks.push(static_pod(cluster).await?);
    checks.extend(node(cluster).await?);
    Ok(checks)
}

async fn served(cluster: &Cluster, namespace: &str, name: &str) -> Result<Item> {
    let item = cluster.central.pod(namespace, name).await?;
    item.with_context(|| format!("nothing is served for {namespace}/{name}"))
}

/// The collector in use, by the agent's own metrics.
pub async fn collector(cluster: &Cluster, wanted: &str) -> Result<Check> {
    let text = agent_metrics(cluster).await?;
    let line = text
        .lines()
        .find(|line| line.starts_with("waggle_agent_collector{") && line.ends_with(" 1"))
        .with_context(|| format!("the agent's metrics name no collector:\n{text}"))?;
    Ok(Check {
        what: format!("collector in use: {wanted}"),
        seen: line.to_owned(),
        holds: line.contains(&format!("name=\"{wanted}\"")),
    })
}

/// The agent's own metrics, read from inside the node.
pub async fn agent_metrics(cluster: &Cluster) -> Result<String> {
    let argv = ["/bin/busybox", "wget", "-q", "-O", "-", "http://127.0.0.1:10255/metrics"];
    let (status, text) = run(cluster.node(), &argv).await?;
    if status != 0 {
        bail!("cannot read the agent's metrics: {text}\n{}", cluster.agent_log().await.unwrap_or_default());
    }
    Ok(text)
}

/// Page cache that was read once is not working set.
async fn page_cache(cluster: &Cluster, pods: &[Pod]) -> Result<Check> {
    let pod = pods.iter().find(|pod| pod.name == "reader").context("no pod reader")?;
    let container = pod.containers.first().context("reader has no container")?;
    let folder = format!("/sys/fs/cgroup/{}", pod.container_cgroup(cluster.layout, &container.id));
    let number = |text: &str| text.trim().parse::<f64>().context("an odd number in a cgroup file");
    let usage = number(&cluster.node().read(&format!("{folder}/memory.current")).await?)?;
    let stat = cluster.node().read(&format!("{folder}/memory.stat")).await?;
    let inactive = stat.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let inactive = number(inactive.context("memory.stat has no inactive_file")?)?;
    let truth = usage - inactive;
    let seen = served(cluster, "storage", "reader").await?.container("cache")?.bytes;
    Ok(Check {
        what: format!(
            "memory of the reader without its {:.1} MiB of page cache: {:.2} MiB, to 0.5 MiB",
            inactive / MIB,
            truth / MIB
        ),
        seen: format!("{:.2} MiB", seen / MIB),
        holds: inactive > 24.0 * MIB && (seen - truth).abs() < 0.5 * MIB,
    })
}

async fn static_pod(cluster: &Cluster) -> Result<Check> {
    let seen = served(cluster, "kube-system", "proxy-node-a").await?.container("hold")?.bytes / MIB;
    Ok(Check::near("memory of the static pod", "MiB", seen, 8.0, 15.0))
}

/// The node's values against the kernel's own files over the same span.
async fn node(cluster: &Cluster) -> Result<Vec<Check>> {
    let (end, item) = fresh_node_item(cluster).await?;
    // Its record must reach beyond that moment, though its clock was set some milliseconds late.
    sleep(Duration::from_millis(500)).await;
    let totals = cluster.node().totals().await?;
    let seen = item.container("")?;
    let begin = end - i64::try_from(item.window.as_nanos())?;
    let (first, last) = (at(&totals, begin)?, at(&totals, end)?);
    let millicores = (last.cpu_usec - first.cpu_usec) * 1e6 / (end - begin) as f64;
    Ok(vec![
        Check::near("CPU of the node by its own files", "m", seen.millicores, millicores, 2.0),
        Check::near(
            "memory of the node by its own files",
            "MiB",
            seen.bytes / MIB,
            last.working_set_bytes / MIB,
            2.0,
        ),
    ])
}

/// The node's newest value at the moment at which it begins to be served, and that moment, ns since the Unix epoch. The
/// served timestamp is cut to whole seconds, too coarse to find the same span in the node's record; a value is served
/// some ten milliseconds after it was measured, and host and node share one clock.
async fn fresh_node_item(cluster: &Cluster) -> Result<(i64, Item)> {
    let mut last: Option<Item> = None;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(10) {
        let item = cluster.central.node_metrics().await?.context("nothing is served for the node")?;
        let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos())?;
        if last.as_ref().is_some_and(|last| last.timestamp < item.timestamp) {
            let age = now - i64::try_from(item.timestamp.as_nanosecond())?;
            if !(0..1_500_000_000).contains(&age) {
                bail!("a value of {} came {} ms later", item.timestamp, age / 1_000_000);
            }
            return Ok((now, item));
        }
        last = Some(item);
        sleep(Duration::from_millis(5)).await;
    }
    bail!("the node's value did not change within 10 s")
}

/// The record at one instant.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reading {
    cpu_usec: f64,
    working_set_bytes: f64,
}

/// Between the two readings around an instant, CPU in proportion, memory as read before it.
fn at(totals: &[Totals], instant: i64) -> Result<Reading> {
    let around = totals.windows(2).find_map(|pair| match pair {
        [before, after] if (before.real_ns..=after.real_ns).contains(&instant) => Some((before, after)),
        _ => None,
    });
    let (before, after) = around.context("the node's record does not reach over the served span")?;
    let span = (after.real_ns - before.real_ns).max(1) as f64;
    if span > 1e9 {
        bail!("the node's record has a gap in the served span");
    }
    let share = (instant - before.real_ns) as f64 / span;
    let used = after.cpu_usec.saturating_sub(before.cpu_usec) as f64;
    Ok(Reading {
        cpu_usec: before.cpu_usec as f64 + used * share,
        working_set_bytes: before.working_set_bytes as f64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_needs_a_truth_and_nearness() {
        assert!(Check::near("a", "m", 245.0, 250.0, 10.0).holds);
        assert!(!Check::near("a", "m", 224.0, 250.0, 10.0).holds);
        assert!(!Check::near("a", "m", 0.0, 0.0, 10.0).holds);
    }

    #[test]
    fn a_record_is_read_between_its_readings_and_nowhere_else() {
        let reading = |ms: i64, cpu_usec| Totals { real_ns: ms * 1_000_000, cpu_usec, working_set_bytes: 7 };
        let totals = [reading(1000, 100), reading(1200, 300), reading(9000, 400)];
        let found = at(&totals, 1_050_000_000).unwrap();
        assert!((found.cpu_usec - 150.0).abs() < 1e-6 && (found.working_set_bytes - 7.0).abs() < 1e-6);
        assert!(at(&totals, 5_000_000_000).is_err(), "a gap");
        assert!(
            at(&totals, 999_000_000).is_err() && at(&totals, 9_001_000_000).is_err() && at(&[], 0).is_err()
        );
    }
}
