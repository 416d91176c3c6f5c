//! The demo: a node boots, pods run, and the real kubectl shows their metrics through the front proxy. Every value is
//! checked against what is known; the demo fails if one is wrong.

pub mod cluster;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::{
    checks::{self, Check, FULL_WINDOW},
    cluster::{Cluster, Options},
    layout::Layout,
    paths::Paths,
    scenario::{self, Pod},
};

const COMMANDS: [&str; 4] = [
    "top nodes",
    "top pods -A --containers",
    "get --raw /apis/metrics.k8s.io/v1beta1/nodes",
    "get apiservice v1beta1.metrics.k8s.io v1.metrics.k8s.io",
];

/// Runs the demo; whether everything that was checked holds.
pub async fn run(paths: &Paths, keep: bool) -> Result<bool> {
    let begun = Instant::now();
    let say = |text: &str| println!("[{:>5.1} s] {text}", begun.elapsed().as_secs_f64());
    let options = Options {
        label: "demo".to_owned(),
        kernel: "6.12".to_owned(),
        layout: Layout::Systemd,
        max_age: "60s".to_owned(),
    };
    say("starting a cluster of one node, a virtual machine");
    let cluster = Cluster::start(paths, &options, say).await?;
    let pods = start_pods(&cluster, say).await?;
    say("waiting for full windows of 15 s");
    wait_full(&cluster, &pods).await?;
    for command in COMMANDS {
        let args: Vec<&str> = command.split(' ').collect();
        println!("\n$ kubectl {command}\n{}", cluster.central.kubectl(&args).await?.trim_end());
    }
    println!();
    let found = checks::all(&cluster, &pods).await?;
    let holds = print(&found);
    say(if holds { "everything holds" } else { "something does not hold" });
    if keep {
        println!(
            "\nThe cluster stays up until Ctrl-C:\n  export KUBECONFIG={}",
            cluster.central.kubeconfig.display()
        );
        tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")?;
    }
    Ok(holds)
}

/// Prints checks; whether all of them hold.
fn print(checks: &[Check]) -> bool {
    for check in checks {
        println!("{} {}\n       {}", if check.holds { "ok    " } else { "FAILED" }, check.what, check.seen);
    }
    checks.iter().all(|check| check.holds)
}

/// Starts the pods of the scenario, restarts one container and starts one pod late. Returns them as they are then.
pub async fn start_pods(cluster: &Cluster, say: impl Fn(&str)) -> Result<Vec<Pod>> {
    let mut pods = scenario::first_pods();
    for pod in &pods {
        cluster.start_pod(pod).await?;
    }
    say(&format!("{} pods run", pods.len()));
    for pod in &mut pods {
        if pod.name == "restarter" {
            cluster.restart_container(pod).await?;
            say("restarter was restarted: a new container id");
        }
    }
    let late = scenario::late_pod();
    cluster.start_pod(&late).await?;
    say("late has started");
    pods.push(late);
    Ok(pods)
}

/// Waits until every pod and the node are served with full windows.
pub async fn wait_full(cluster: &Cluster, pods: &[Pod]) -> Result<()> {
    for pod in pods {
        let name = (pod.namespace.as_str(), pod.name.as_str());
        cluster.wait_pod(name, Duration::from_secs(45), |item| item.window >= FULL_WINDOW).await?;
    }
    Ok(())
}
