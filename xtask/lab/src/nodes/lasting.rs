//! A cluster with real nodes that outlives the command that started it, with Waggle installed in it.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{Network, Options, Places, RealCluster, addresses, forward, machine, wait};
use crate::{
    control_plane::{
        lasting::{self, LABEL, Remembered},
        process::{Lifetime, Process},
    },
    layout::Layout,
};

/// The name of the cluster's network namespace.
const NETWORK: &str = "waggle-cluster";

/// Starts a cluster, installs Waggle, and prints how to use it. One at a time. No runtime may run yet: this thread moves into the
/// cluster's network.
pub fn up(nodes: u8, driver: Layout) -> Result<()> {
    let places = Places::from_environment()?;
    lasting::none_is_up(&places.control_plane)?;
    let (outside, listener) = forward::listen()?;
    let network = Network::create(NETWORK, nodes)?;
    network.enter()?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start a runtime")?;
    let remembered = runtime.block_on(async {
        let mut cluster = tokio::select! {
            cluster = install(&places, nodes, driver) => cluster?,
            // What was started ends with it.
            _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        };
        cluster.check()?;
        let kubeconfig = cluster.plane.user_at(outside, "cluster-admin", &["system:masters"])?;
        let inside = addresses::api_server().first().context("no address of the API server")?.to_string();
        let (folder, program) = (cluster.plane.folder().to_owned(), places.binaries.join("waggle-lab"));
        let flags = ["forward".to_owned(), inside];
        let way_in = Process::start_with(
            "forward",
            &program,
            &flags,
            &folder,
            Lifetime::Detached,
            Stdio::from(listener),
        )?;
        let processes = way_in.leave().into_iter().chain(cluster.leave()).collect();
        Ok::<_, anyhow::Error>(Remembered {
            processes,
            kubeconfig,
            agents: None,
            network: Some(network.name().to_owned()),
        })
    });
    let remembered = match remembered {
        Ok(remembered) => remembered,
        Err(error) => {
            // This thread is in it still: it ends with this program.
            network.forget_name()?;
            return Err(error);
        }
    };
    lasting::remember(&places.control_plane, &remembered)?;
    println!(
        "\nThe cluster is up, with Waggle in it.\n  export KUBECONFIG={}\n  kubectl 1.37: {}\n  \
         try: kubectl top nodes, kubectl top pods -A --containers\nEnd it with cargo xtask cluster down.",
        remembered.kubeconfig.display(),
        places.control_plane.programs.join("kubectl").display(),
    );
    Ok(())
}

async fn install(places: &Places, nodes: u8, driver: Layout) -> Result<RealCluster> {
    let say = |cluster: &RealCluster, what: &str| println!("[{:>5.1} s] {what}", cluster.age().as_secs_f64());
    println!(
        "starting etcd, kube-apiserver, kube-controller-manager, kube-scheduler, CoreDNS and {nodes} machines ({driver} driver)"
    );
    let images = super::product::images(places, &places.state.join("node-images"))?;
    let options = Options {
        nodes: vec![driver; nodes.into()],
        lifetime: Lifetime::Detached,
        images,
        ..Options::named(LABEL)
    };
    let mut cluster = RealCluster::start(places, &options).await?;
    say(&cluster, "all of them run");
    cluster.wait_nodes_ready().await?;
    say(&cluster, "every node is Ready");
    super::product::install(&mut cluster).await?;
    say(&cluster, "Waggle is installed: kubectl apply -k deploy/overlays/default");
    super::product::wait_served(&mut cluster).await?;
    say(&cluster, "metrics of every node are served");
    Ok(cluster)
}

/// Prints the nodes. Whether all of them are Ready, and none has stumbled.
pub(crate) async fn status(client: &kube::Client, folder: &Path) -> Result<bool> {
    let request = http::Request::get("/api/v1/nodes").body(Vec::new()).context("an odd path")?;
    let asked = tokio::time::timeout(Duration::from_secs(5), client.request::<Value>(request)).await;
    let nodes = match asked {
        Ok(Ok(answer)) => answer["items"].as_array().cloned().unwrap_or_default(),
        Ok(Err(error)) => {
            println!("nodes: kube-apiserver does not say: {error}");
            return Ok(false);
        }
        Err(_) => {
            println!("nodes: kube-apiserver does not answer within 5 s");
            return Ok(false);
        }
    };
    let mut well = !nodes.is_empty();
    for node in &nodes {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let info = &node["status"]["nodeInfo"];
        let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
        let ready = wait::condition(node, "Ready");
        let state = if ready { "Ready" } else { "not Ready" };
        println!(
            "node {name:<19} {state:<26} kubelet {}, {}, kernel {}",
            text("kubeletVersion"),
            text("containerRuntimeVersion"),
            text("kernelVersion")
        );
        well &= ready;
        if let Err(error) = machine::stumbled(name, &folder.join(format!("{name}.console"))) {
            println!("{error:#}");
            well = false;
        }
    }
    Ok(well)
}
