//! `waggle-agent run`: choose a collector, drop every privilege, then listen, sample and report until stopped.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use rustls_pki_types::ServerName;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    args::RunArgs,
    collect::{self, ChooseError, Collector, Options, choose},
    privilege,
    report::{self, Reporter, Target},
    sampling::Sampling,
    telemetry::{Endpoint, Telemetry, serve},
};

/// What `run` needs to know. Everything in it was checked before.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to read from and how.
    pub collect: Options,
    /// Time between snapshots.
    pub interval: Duration,
    /// Where the aggregators are.
    pub aggregators: Vec<Target>,
    /// PEM bundle of their CAs.
    pub ca_file: PathBuf,
    /// The name that their certificates prove.
    pub server_name: ServerName<'static>,
    /// The service-account token.
    pub token_file: PathBuf,
    /// Where to serve `/metrics`, `/livez` and `/readyz`.
    pub metrics_bind: Option<SocketAddr>,
}

impl Config {
    /// From the command line; fails on what it cannot mean, before anything is opened.
    pub fn new(args: &RunArgs) -> anyhow::Result<Self> {
        let RunArgs { node, aggregators, aggregator_ca, aggregator_name, token_file, metrics_bind, interval } =
            args.clone();
        let aggregators: Result<Vec<Target>, _> = aggregators.iter().map(|target| target.parse()).collect();
        Ok(Self {
            collect: node.options(),
            interval,
            aggregators: aggregators.context("--aggregator cannot be used")?,
            ca_file: aggregator_ca,
            server_name: ServerName::try_from(aggregator_name)
                .context("--aggregator-name is no name that a certificate can prove")?,
            token_file,
            metrics_bind: metrics_bind.0,
        })
    }
}

/// Runs until SIGTERM or SIGINT. Call it before any thread was started: capabilities belong to threads.
pub fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(2)
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(agent(config))
}

async fn agent(config: Config) -> anyhow::Result<()> {
    let mut stop = Stop::new()?;
    let chosen = choose(&config.collect);
    // Nothing connects with a capability, and nothing can listen with one.
    let unprivileged =
        privilege::drop_all().context("cannot run with privileges that are no longer needed")?;
    let telemetry = Telemetry::new(config.interval);
    if let Some(address) = config.metrics_bind {
        let endpoint = Endpoint::bind(address, unprivileged).await;
        let endpoint = endpoint.with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(serve(Arc::clone(&telemetry), endpoint));
    }
    match chosen {
        Ok(collector) => collect_and_report(config, collector, telemetry, &mut stop).await,
        Err(ChooseError::Unsupported(refusal)) => {
            // A restart would change nothing, and a crash loop would only hide the reason.
            tracing::error!(%refusal, "no collector can run on this node, nothing is reported");
            telemetry.collector("none", std::slice::from_ref(&refusal));
            stop.wait().await;
            Ok(())
        }
        Err(error) => Err(error).context("cannot collect"),
    }
}

async fn collect_and_report(
    config: Config,
    collector: Box<dyn Collector>,
    telemetry: Arc<Telemetry>,
    stop: &mut Stop,
) -> anyhow::Result<()> {
    let Config { collect: _, interval, aggregators, ca_file, server_name, token_file, metrics_bind: _ } =
        config;
    let refusals: Vec<String> =
        collector.refusals().iter().map(|refusal| refusal.reason.to_string()).collect();
    let reporter = Reporter::new(
        report::Config {
            aggregators,
            ca_file,
            server_name,
            token_file,
            boot_id: boot_id().context("cannot read the boot id")?,
            collector: collector.name().to_owned(),
            refusals,
            page_size: u32::try_from(collect::page_size())
                .context("the page size is not one of any machine")?,
            clocks: Arc::new(collect::clocks),
        },
        telemetry.report.clone(),
    );
    let publisher = reporter.publisher();
    telemetry.streams(publisher.clone());
    let stopped = Arc::new(AtomicBool::new(false));
    let sampling = Sampling::new(collector, publisher, telemetry, interval, Arc::clone(&stopped));
    let thread = std::thread::Builder::new()
        .name("sampling".to_owned())
        .spawn(move || sampling.run())
        .context("cannot start the sampling thread")?;
    reporter.run(stop.wait()).await;
    tracing::info!("stopping");
    stopped.store(true, Ordering::Relaxed);
    thread.thread().unpark();
    thread.join().map_err(|_| anyhow::anyhow!("the sampling thread panicked"))
}

fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// The signals that end the agent.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
