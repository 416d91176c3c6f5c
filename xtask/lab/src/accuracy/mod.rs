//! `cargo xtask bench accuracy`: how right and how fresh Waggle's values are, beside metrics-server's and the kubelet's, on workloads whose
//! use is known, in one real cluster, at the same time.

mod ground;
mod group;
mod kubelet;
mod moments;
mod reading;
mod sampler;
mod scale;
mod sources;
mod table;
mod truth;
mod workloads;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::sleep};

use self::{
    moments::{first_at_least, first_value},
    reading::{Key, Source},
    sampler::Sampler,
    sources::{Clock, Sources},
    table::{Goal, Times},
    truth::Load,
    workloads::NAMESPACE,
};
use crate::{
    metrics_server::{self, MetricsServer},
    nodes::{Network, Options, Places, RealCluster, product},
};

const NETWORK: &str = "waggle-accuracy";
/// From objects to running pods, all on one emulated processor.
const START: Duration = Duration::from_mins(4);
/// New pods whose first value is waited for, and the time between two of them.
const NEW: (usize, Duration) = (6, Duration::from_secs(10));
/// A first value that is not there by then never came.
const FIRST_LIMIT: f64 = 60.0;
/// How often a Deployment is scaled behind each source.
const SCALES: usize = 2;

/// Measures and prints. Whether every goal is met.
pub fn run() -> Result<bool> {
    let places = Places::from_environment()?;
    let program = metrics_server::program()?;
    let network = Network::create(NETWORK, 1)?;
    network.enter()?;
    // This thread stays in it; with the last process in it, it is gone.
    network.forget_name()?;
    Runtime::new().context("cannot start a runtime")?.block_on(measure(&places, &program))
}

async fn measure(places: &Places, program: &Path) -> Result<bool> {
    println!(
        "bench: a control plane, one emulated node, Waggle by kubectl apply -k, metrics-server beside it (15 s, its default)"
    );
    let images = product::images(places, &places.state.join("images"))?;
    let options = Options {
        images,
        static_pods: vec![workloads::static_pod()],
        // The autoscaler looks every second: what is left of the time to scale is the way of the value.
        controller_flags: vec!["--horizontal-pod-autoscaler-sync-period=1s".to_owned()],
        ..Options::named("accuracy")
    };
    let mut cluster = RealCluster::start(places, &options).await?;
    cluster.wait_nodes_ready().await?;
    say(&cluster, "the node is Ready");
    product::install(&mut cluster).await?;
    product::wait_served(&mut cluster).await?;
    say(&cluster, "Waggle serves the node");
    let mut metrics_server = MetricsServer::start(program, &cluster.plane).await?;
    cluster
        .wait("metrics-server serves the node", START, async |_| Ok(metrics_server.serves(1).await))
        .await?;
    say(&cluster, "metrics-server serves the node");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    cluster.plane.apply(&[namespace]).await?;
    cluster
        .wait("pods may be made", START, async |plane| {
            Ok(plane.get(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default")).await.is_ok())
        })
        .await?;

    let node = cluster.machines.first().context("no node")?;
    let (clock, node) = (Clock::of(node).await?, node.name().to_owned());
    println!("the node's clock is {:+.3} s from ours: every age is by the node's", clock.ahead());
    let sources = Sources::new(cluster.plane.client().await?, metrics_server.client.clone(), &node, clock);
    let sampler = Sampler::start(sources);
    let mut met = true;
    let (mut edges, mut spans) = (Vec::new(), Vec::new());
    for number in workloads::GROUPS {
        let group = group::measure(&mut cluster, &sampler, clock, number, &workloads::rows(&node)).await?;
        edges.extend(group.bursts);
        spans.push(group.span);
        say(&cluster, &format!("group {number} is measured"));
        met &= table::print_lines(&group.lines);
    }
    let first = first_values(&mut cluster, &sampler, clock).await?;
    say(&cluster, "first values are measured");
    sampler.check()?;
    metrics_server.check()?;
    let mut times = vec![first];
    times.extend(visibilities(&sampler, &edges));
    let ages = |spans: &[_]| Source::ALL.map(|source| sampler.look(|readings| readings.ages(source, spans)));
    let (steady, all) = (ages(&spans), ages(&[(f64::NEG_INFINITY, f64::INFINITY)]));
    let begin = clock.now() - cluster.age().as_secs_f64();
    sampler.look(|readings| {
        table::print_old(Source::Waggle, &readings.old(Source::Waggle, table::AGE_GOAL), begin);
    });
    drop(sampler);
    times.push(scales(&mut cluster, clock).await?);
    metrics_server.check()?;

    met &= table::print_ages(steady, all);
    met &= table::print_times(&times);
    println!("\n{}", if met { "every goal is met" } else { "NOT every goal is met" });
    Ok(met)
}

/// What is printed while it goes on.
fn say(cluster: &RealCluster, what: &str) {
    println!("[{:>5.1} s] {what}", cluster.age().as_secs_f64());
}

/// Makes pods, one after the other, and looks when each is first said something of.
async fn first_values(cluster: &mut RealCluster, sampler: &Sampler, clock: Clock) -> Result<Times> {
    let (count, between) = NEW;
    let names: Vec<String> = (0..count).map(|number| format!("new-{number}")).collect();
    for name in &names {
        cluster.plane.apply(&[workloads::burner(name, 50)]).await?;
        sleep(between).await;
    }
    let last = clock.now();
    while clock.now() - last < FIRST_LIMIT {
        cluster.check()?;
        sleep(Duration::from_secs(1)).await;
    }
    let mut times = [Vec::new(), Vec::new()];
    for name in names {
        let log = group::log(cluster, &name).await?;
        let begun = group::begun(&log).with_context(|| format!("the log of {name} has no begin: {log}"))?;
        let key = Key::main(&name);
        for (source, times) in [Source::MetricsServer, Source::Waggle].into_iter().zip(&mut times) {
            times.push(
                sampler.look(|readings| first_value(readings, source, &key, begun, begun + FIRST_LIMIT)),
            );
        }
    }
    let [metrics_server, waggle] = times;
    group::remove_all(cluster).await?;
    Ok(Times::first_values(metrics_server, waggle))
}

/// When loads that began were seen at all, and whole.
fn visibilities(sampler: &Sampler, bursts: &[Load]) -> [Times; 2] {
    let key = Key::main("bursts");
    let times = |title, share: f64| {
        let of =
            |source| {
                let spans =
                    bursts.iter().flat_map(|load| load.spans.iter().map(move |span| (load.millicores, span)));
                spans
                    .filter_map(|(millicores, &(begin, end))| {
                        let span = (begin, end?);
                        Some(sampler.look(|readings| {
                            first_at_least(readings, source, &key, span, millicores * share)
                        }))
                    })
                    .collect()
            };
        Times {
            title,
            metrics_server: of(Source::MetricsServer),
            waggle: of(Source::Waggle),
            goal: Goal::Shorter,
        }
    };
    [
        times("a load that began: first seen", moments::SEEN),
        times("a load that began: seen whole (95 %)", moments::WHOLE),
    ]
}

/// The time from a load to the Deployment that is scaled for it: behind Waggle, then behind metrics-server.
async fn scales(cluster: &mut RealCluster, clock: Clock) -> Result<Times> {
    let mut waggle = Vec::new();
    for _ in 0..SCALES {
        waggle.push(scale::once(cluster, clock).await?);
    }
    say(cluster, "scaled behind Waggle");
    cluster
        .plane
        .kubectl(&["-n", "waggle-system", "scale", "deployment", "waggle-aggregator", "--replicas=0"])
        .await?;
    cluster
        .wait("Waggle's aggregator is gone", START, async |plane| {
            let path = "/api/v1/namespaces/waggle-system/pods";
            let pods = plane.get(path).await?;
            let is_it = |pod: &Value| {
                pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("waggle-aggregator"))
            };
            Ok(!pods["items"].as_array().is_some_and(|items| items.iter().any(is_it)))
        })
        .await?;
    // metrics-server has no v1, and what is registered without anybody behind it holds up whoever looks for APIs.
    cluster.plane.kubectl(&["delete", "apiservice", "v1.metrics.k8s.io"]).await?;
    cluster.plane.apply(&metrics_server::service()).await?;
    cluster.plane.apply(&[metrics_server::registration(&cluster.plane)?]).await?;
    cluster
        .wait("metrics-server is registered and Available", START, async |plane| {
            Ok(plane.get("/apis/metrics.k8s.io/v1beta1/nodes").await.is_ok())
        })
        .await?;
    let mut other = Vec::new();
    for _ in 0..SCALES {
        other.push(scale::once(cluster, clock).await?);
    }
    say(cluster, "scaled behind metrics-server");
    Ok(Times {
        title: "a load that began: Deployment scaled (sync 1 s)",
        metrics_server: other,
        waggle,
        goal: Goal::Shorter,
    })
}
