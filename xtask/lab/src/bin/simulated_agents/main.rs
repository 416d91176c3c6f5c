//! Simulated nodes for a control plane that runs: registers them, runs the pods that are bound to them, and streams what
//! these use with the agent's own code. What a container uses is what its pod's annotation says:
//! `kubectl annotate pod web-1 load.waggle.test/web=250m,64Mi`.

use std::{
    net::{SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use tracing_subscriber::EnvFilter;
use waggle_lab::{
    central,
    simulate::{
        Streams,
        kubelet::{Kubelets, Options},
    },
};

/// Simulated nodes with Waggle's agents.
#[derive(Debug, Parser)]
#[command(name = "simulated-agents", version)]
struct Args {
    /// Kubeconfig of an administrator
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    /// The aggregator's ingest port
    #[arg(long, value_name = "HOST:PORT")]
    aggregator: String,
    /// PEM certificates that the aggregator's certificate must chain to
    #[arg(long, value_name = "FILE")]
    aggregator_ca: PathBuf,
    /// How many nodes
    #[arg(long, default_value_t = 3)]
    nodes: usize,
    /// Processors of each node
    #[arg(long, default_value_t = 16)]
    processors: u32,
    /// GiB of memory of each node
    #[arg(long, default_value_t = 64)]
    gibibytes: u32,
}

async fn run(args: Args) -> Result<()> {
    let Args { kubeconfig, aggregator, aggregator_ca, nodes, processors, gibibytes } = args;
    let text = std::fs::read_to_string(&kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    let client = central::client(&text).await?;
    let address: SocketAddr = aggregator
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .with_context(|| format!("{aggregator:?} is no address: write HOST:PORT"))?;
    let options = Options { nodes, processors, gibibytes, ..Options::default() };
    let kubelets = Kubelets::start(client, Streams::to(address, aggregator_ca)?, &options).await?;
    println!("{nodes} nodes are registered; Ctrl-C ends them");
    let took = kubelets.wait_streams(Duration::from_mins(2)).await?;
    println!("all agents stream, after {:.1} s", took.as_secs_f64());
    tokio::signal::ctrl_c().await.context("cannot wait for Ctrl-C")
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args = Args::parse();
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(args)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
