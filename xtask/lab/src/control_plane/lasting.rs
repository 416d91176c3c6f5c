//! A control plane that outlives the command that started it: `cargo xtask cluster up`, `down`, `status`. Owns the file
//! that remembers the processes; ends those and no others.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::process::Command;

use super::{
    API_SERVICES, ControlPlane, Options, Places,
    client::available,
    process::{Left, Lifetime},
};
use crate::{central, nodes};

/// The name of the cluster's folder, and of its network.
pub(crate) const LABEL: &str = "cluster";

/// What is remembered of a cluster.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// In the order in which they are to be ended.
    pub processes: Vec<Left>,
    /// Works outside of the cluster's network.
    pub kubeconfig: PathBuf,
    /// Where agents report to, and by which authorities they know who answers, if the aggregator is one of the processes.
    pub agents: Option<(String, PathBuf)>,
    /// The network namespace, if there are nodes.
    pub network: Option<String>,
}

fn file(places: &Places) -> PathBuf {
    places.state.join(format!("{LABEL}.json"))
}

fn read(places: &Places) -> Result<Option<Remembered>> {
    let path = file(places);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).map(Some).with_context(|| {
        format!("{} is damaged: end the cluster's processes by hand and remove it", path.display())
    })
}

/// An error if a cluster is up: there is one at a time.
pub fn none_is_up(places: &Places) -> Result<()> {
    if let Some(known) = read(places)?
        && known.processes.iter().any(Left::runs)
    {
        bail!(
            "a cluster is up already (cargo xtask cluster status): end it first with cargo xtask cluster down"
        );
    }
    Ok(())
}

/// Writes down what is up, or ends it.
pub(crate) fn remember(places: &Places, remembered: &Remembered) -> Result<()> {
    let path = file(places);
    if let Err(error) = fs::write(&path, serde_json::to_string_pretty(remembered)?) {
        end(remembered)?;
        return Err(error).with_context(|| format!("cannot write {}", path.display()));
    }
    Ok(())
}

/// Starts a cluster without nodes and prints how to use it.
pub async fn up(places: &Places) -> Result<()> {
    none_is_up(places)?;
    let options = Options { lifetime: Lifetime::Detached, ..Options::named(LABEL) };
    println!("starting etcd, kube-apiserver, kube-controller-manager");
    let plane = ControlPlane::start(places, &options).await?;
    println!("starting waggle-aggregator");
    plane.start_aggregator(&[]).await?;
    plane.wait_available().await?;
    let (kubeconfig, kubectl) = (plane.kubeconfig().to_owned(), places.programs.join("kubectl"));
    let (ingest, ingest_ca) = (plane.ingest().to_string(), plane.ingest_ca());
    let agents = Some((ingest.clone(), ingest_ca.clone()));
    let remembered = Remembered { processes: plane.leave(), kubeconfig, agents, network: None };
    remember(places, &remembered)?;
    let agents = places.aggregator.with_file_name("simulated-agents");
    println!(
        "\nThe control plane is up, with waggle-aggregator behind it; it has no nodes.\n  \
         export KUBECONFIG={kubeconfig}\n  \
         kubectl 1.37: {kubectl}\n  \
         simulated nodes: {agents} --kubeconfig {kubeconfig} --aggregator {ingest} --aggregator-ca {ca}\n\
         End it with cargo xtask cluster down.",
        kubeconfig = remembered.kubeconfig.display(),
        kubectl = kubectl.display(),
        agents = agents.display(),
        ca = ingest_ca.display(),
    );
    Ok(())
}

/// Ends the processes of the cluster.
pub fn down(places: &Places) -> Result<()> {
    let Some(known) = read(places)? else {
        println!("no cluster is up");
        return Ok(());
    };
    end(&known)?;
    if let Some(network) = &known.network {
        nodes::remove_network(network)?;
        println!("network namespace {network}: removed");
    }
    for path in [file(places), places.state.join(LABEL)] {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn end(known: &Remembered) -> Result<()> {
    for process in &known.processes {
        let ended = process.kill()?;
        println!("{} (process {}): {}", process.name, process.pid, if ended { "ended" } else { "had ended" });
    }
    Ok(())
}

/// Prints processes, versions and registrations. Whether all of it is as it should be.
pub async fn status(places: &Places) -> Result<bool> {
    let Some(known) = read(places)? else {
        println!("no cluster is up");
        return Ok(false);
    };
    let mut well = true;
    for process in &known.processes {
        let runs = process.runs();
        well &= runs;
        let version = version(places, &process.name).await;
        let state = if runs { "runs" } else { "has ended" };
        println!("{:<24} process {:<8} {state:<10} {version}", process.name, process.pid);
    }
    println!("kubeconfig               {}", known.kubeconfig.display());
    if let Some((ingest, _)) = &known.agents {
        println!("agents report to         {ingest}");
    }
    let text = fs::read_to_string(&known.kubeconfig);
    let text = text.with_context(|| format!("cannot read {}", known.kubeconfig.display()))?;
    let client = central::client(&text).await?;
    if known.network.is_some() {
        well &= nodes::lasting::status(&client, &places.state.join(LABEL)).await?;
    }
    for name in API_SERVICES {
        let (holds, message) = match available(&client, name).await {
            Ok(answer) => answer,
            Err(error) => (false, format!("{error:#}")),
        };
        well &= holds;
        println!("{name:<24} {} {message}", if holds { "Available" } else { "not Available" });
    }
    Ok(well)
}

/// What a program says that it is.
async fn version(places: &Places, name: &str) -> String {
    let program = match name {
        "waggle-aggregator" => places.aggregator.clone(),
        name if places.programs.join(name).is_file() => places.programs.join(name),
        // A machine, the cluster's DNS, the way in: their versions are those that setup named.
        _ => return String::new(),
    };
    match first_line(&program).await {
        Ok(line) => line,
        Err(error) => format!("version unknown: {error:#}"),
    }
}

async fn first_line(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output().await;
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().next().map(str::to_owned).context("it says nothing")
}
