//! Simulated agents against the real aggregator and the stand-in: what is served is what was set. The tests and benches
//! that are fed by them rest on this.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::{Duration, Instant};

use waggle_lab::{
    central::Central,
    checks::FULL_WINDOW,
    control::Work,
    layout::Qos,
    metrics::{Item, Usage},
    paths::Paths,
    scenario::{Container, Pod},
    simulate::{Load, Population},
};

const NODES: usize = 3;
const CLASSES: [Qos; 3] = [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort];

fn pod(name: &str, qos: Qos) -> Pod {
    let containers = ["web", "proxy"].map(|name| Container::new(name, Work::Sleep, None)).to_vec();
    Pod::new("shop", name, qos, containers)
}

/// Loads that are all different.
fn loads(node: usize, pod: usize) -> Vec<Load> {
    let number = (node * CLASSES.len() + pod) as u64;
    vec![Load::new(37 + 101 * number, 16 + 5 * number), Load::new(number, 1 + number)]
}

fn close(served: Usage, set: Load) {
    let (cores, bytes) = (set.nanocores as f64 / 1e6, set.working_set_bytes as f64);
    assert!((served.millicores - cores).abs() <= cores * 0.01, "{served:?} is served, {set:?} was set");
    assert!((served.bytes - bytes).abs() <= bytes * 0.01, "{served:?} is served, {set:?} was set");
}

/// Waits until a pod is served as wanted.
async fn wait(central: &Central, pod: &str, limit: u64, wanted: impl Fn(&Item) -> bool) -> Item {
    let begun = Instant::now();
    loop {
        let item = central.pod("shop", pod).await.unwrap();
        if let Some(item) = item.clone().filter(|item| wanted(item)) {
            return item;
        }
        assert!(begun.elapsed() < Duration::from_secs(limit), "{pod} after {limit} s: {item:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
#[ignore = "needs the release build: cargo xtask test"]
async fn what_is_served_is_what_was_set() {
    let paths = Paths::from_environment().unwrap();
    let mut central = Central::start(&paths, "simulated", "60s").await.unwrap();
    central.start_aggregator().await.unwrap();
    let name = |node: usize, pod: usize| format!("web-{node}-{pod}");
    let pods = |node: usize| {
        let pods = CLASSES.iter().enumerate();
        pods.map(|(number, qos)| (pod(&name(node, number), *qos), loads(node, number))).collect()
    };
    let mut population = Population::start(&central, NODES, pods).unwrap();

    // Steady: every container of every pod, and the nodes.
    let mut compared = 0;
    for node in 0..NODES {
        for number in 0..CLASSES.len() {
            let item = wait(&central, &name(node, number), 40, |item| item.window >= FULL_WINDOW).await;
            let set = loads(node, number);
            close(item.container("web").unwrap(), set[0]);
            close(item.container("proxy").unwrap(), set[1]);
            compared += 2;
        }
        let item = central.metrics_of_node(&population.nodes[node].node.name).await.unwrap().unwrap();
        let sum: u64 = (0..CLASSES.len()).flat_map(|number| loads(node, number)).map(|l| l.nanocores).sum();
        let served = item.container("").unwrap().millicores;
        // The node's own services and the agent use 51 millicores beside the pods.
        assert!((served - (sum as f64 / 1e6 + 51.0)).abs() < served * 0.01, "{served} of node {node}");
    }
    assert_eq!(compared, 2 * NODES * CLASSES.len());
    assert_eq!(population.fleet.live_streams(), NODES);

    // Another load: memory with the next walk, CPU after a window.
    let (changed, begun) = (Load::new(1500, 200), Instant::now());
    population.nodes[1].set_load("web-1-0", "web", changed).unwrap();
    let memory =
        |item: &Item| item.container("web").is_ok_and(|u| u.bytes >= changed.working_set_bytes as f64);
    wait(&central, "web-1-0", 10, memory).await;
    println!("memory of another load served after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());

    // Meanwhile: a restart, a pod that comes, one that goes.
    let node = &mut population.nodes[0];
    node.restart_container(&central, "web-0-1", "web", Load::new(300, 48)).unwrap();
    node.start_pod(&central, pod("late", Qos::Burstable), &[Load::new(444, 33), Load::new(5, 2)]).unwrap();
    let begun = Instant::now();
    let item = wait(&central, "late", 10, |_| true).await;
    println!("a fresh pod is served after {:?} with a window of {:?}", begun.elapsed(), item.window);
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    // Its first span begins at the last walk without it, when it had used nothing.
    let first = item.container("web").unwrap().millicores;
    assert!(first > 0.0 && first <= 444.0, "{first} of 444 in its first {:?}", item.window);
    population.nodes[2].remove_pod(&central, "web-2-2").unwrap();
    tokio::time::sleep(Duration::from_secs(17)).await;

    let item = wait(&central, "web-1-0", 1, |_| true).await;
    close(item.container("web").unwrap(), changed);
    let item = wait(&central, "late", 1, |_| true).await;
    close(item.container("web").unwrap(), Load::new(444, 33));
    let item = wait(&central, "web-0-1", 1, |_| true).await;
    close(item.container("web").unwrap(), Load::new(300, 48));
    assert_eq!(central.pod("shop", "web-2-2").await.unwrap(), None);
}
