//! `waggle-agent run`: choose a collector, give up every privilege, walk, report, until told to stop.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use rustls_pki_types::ServerName;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};

use crate::{
    args::RunArgs,
    collect::{self, ChooseError, CollectError, Collector, Options, Snapshot, choose},
    privilege,
    report::{self, Publisher, Reporter, Target},
    telemetry::{self, Telemetry},
};

/// Waits between looks for the pods' cgroups, which the kubelet may not have made yet.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What `run` needs to know. Everything in it was checked before.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to read from and how.
    pub collect: Options,
    /// Time between walks.
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
    let Config { collect, interval, aggregators, ca_file, server_name, token_file, metrics_bind } = config;
    let mut stop = Stop::new()?;
    let telemetry = Telemetry::new(interval);
    if let Some(address) = metrics_bind {
        let listener =
            TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        tokio::spawn(telemetry::serve(Arc::clone(&telemetry), listener));
    }
    let Some(collector) = stop.or(wait_for_collector(&collect)).await.transpose()? else { return Ok(()) };
    privilege::drop_all().context("cannot run with privileges that are not needed any more")?;

    let refusals: Vec<String> =
        collector.refusals().iter().map(|refusal| refusal.reason.to_string()).collect();
    tracing::info!(collector = collector.name(), ?refusals, "collecting");
    telemetry.collector(collector.name(), &refusals);
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
    let sampling = Sampling { collector, publisher, telemetry, interval, stopped: Arc::clone(&stopped) };
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

/// A collector, as soon as the node has pods' cgroups.
async fn wait_for_collector(options: &Options) -> anyhow::Result<Box<dyn Collector>> {
    let mut wait = FIRST_WAIT;
    loop {
        match choose(options) {
            Ok(collector) => return Ok(collector),
            Err(ChooseError::Collect(error @ CollectError::NoKubepods { .. })) => {
                tracing::warn!(reason = "no-kubepods", %error, "no collector yet, trying again");
            }
            Err(error) => return Err(error).context("no collector can run on this node"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
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

    /// What `work` gives, unless a signal comes first.
    async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.wait() => None,
        }
    }
}

/// The thread that walks: nothing else runs on it, so nothing delays a walk.
struct Sampling {
    collector: Box<dyn Collector>,
    publisher: Publisher,
    telemetry: Arc<Telemetry>,
    interval: Duration,
    stopped: Arc<AtomicBool>,
}

impl Sampling {
    fn run(mut self) {
        let mut snapshot = Snapshot::default();
        let mut due = Instant::now();
        let (mut name, mut refusals) = (self.collector.name(), self.collector.refusals().len());
        while !self.stopped.load(Ordering::Relaxed) {
            let start = Instant::now();
            match self.collector.snapshot(&mut snapshot) {
                Ok(()) => {
                    self.publisher.publish(&snapshot);
                    self.telemetry.walked(Instant::now(), start.elapsed(), snapshot.samples.len());
                }
                Err(error) => {
                    self.telemetry.failed();
                    tracing::warn!(%error, "a walk gave no snapshot");
                }
            }
            if (name, refusals) != (self.collector.name(), self.collector.refusals().len()) {
                (name, refusals) = (self.collector.name(), self.collector.refusals().len());
                let reasons: Vec<_> =
                    self.collector.refusals().iter().map(|refusal| refusal.reason.to_string()).collect();
                tracing::warn!(collector = name, refusals = ?reasons, "the collector changed");
                self.telemetry.collector(name, &reasons);
                self.publisher.collector(name, reasons);
            }
            due = next(due, Instant::now(), self.interval);
            while let Some(left) = due.checked_duration_since(Instant::now()) {
                if left.is_zero() || self.stopped.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::park_timeout(left);
            }
        }
    }
}

/// The next tick of the grid that began with `due`: late walks are skipped, never caught up, and nothing drifts.
fn next(due: Instant, now: Instant, interval: Duration) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos();
    let ticks = late / interval.as_nanos().max(1) + 1;
    due + interval * u32::try_from(ticks).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_do_not_drift_and_late_ones_are_skipped() {
        let start = Instant::now();
        let (second, ms) = (Duration::from_secs(1), Duration::from_millis);
        assert_eq!(next(start, start + ms(3), second), start + second);
        assert_eq!(next(start, start + ms(999), second), start + second);
        assert_eq!(next(start, start + ms(2500), second), start + 3 * second);
        assert_eq!(next(start, start, second), start + second);
    }
}
