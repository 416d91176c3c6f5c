//! The agents of many nodes in one process: each walks its node at the interval and streams what it saw with the
//! agent's own `report`, over a connection and with a token of its own.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval_at},
};
use waggle_agent::{
    collect::{self, Collector, Snapshot},
    report::{self, Metrics, Publisher, Reporter, Target},
};

use super::{load::PAGE_SIZE, node::SimulatedNode};
use crate::scenario::uid;

/// Where the agents stream to, and how often.
#[derive(Debug, Clone)]
pub struct Streams {
    /// The aggregators' ingest ports.
    pub aggregators: Vec<Target>,
    /// PEM bundle of the CAs of their certificates.
    pub ca_file: PathBuf,
    /// The name that their certificates prove.
    pub server_name: ServerName<'static>,
    /// Time between walks.
    pub interval: Duration,
}

/// Agents that run; they end with the value.
#[derive(Debug)]
pub struct Fleet {
    streams: Streams,
    metrics: Metrics,
    agents: Mutex<BTreeMap<String, Agent>>,
}

#[derive(Debug)]
struct Agent {
    publisher: Publisher,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Streams {
    /// To one aggregator of the usual name, a walk each second.
    pub fn to(aggregator: std::net::SocketAddr, ca_file: PathBuf) -> Result<Self> {
        let server_name = ServerName::try_from("waggle-ingest.waggle-system.svc").context("an odd name")?;
        let aggregators = vec![Target::Address(aggregator)];
        Ok(Self { aggregators, ca_file, server_name, interval: Duration::from_secs(1) })
    }
}

impl Fleet {
    /// No agents yet.
    pub fn new(streams: Streams) -> Self {
        Self { streams, metrics: Metrics::default(), agents: Mutex::default() }
    }

    /// Starts the agent of a node with the token in a file, which is read again for each connection. One that ran for
    /// a node of this name ends. Its first walk is at a random moment of the interval, as in a real cluster.
    pub fn start(&self, name: &str, node: &SimulatedNode, token_file: PathBuf) {
        let Streams { aggregators, ca_file, server_name, interval } = self.streams.clone();
        let config = report::Config {
            aggregators,
            ca_file,
            server_name,
            token_file,
            boot_id: uid(),
            collector: node.name().to_owned(),
            refusals: Vec::new(),
            page_size: PAGE_SIZE,
            clocks: Arc::new(collect::clocks),
        };
        let reporter = Reporter::new(config, self.metrics.clone());
        let publisher = reporter.publisher();
        let tasks = [
            tokio::spawn(reporter.run(std::future::pending())),
            tokio::spawn(walk(node.clone(), publisher.clone(), interval)),
        ];
        self.agents.lock().insert(name.to_owned(), Agent { publisher, tasks });
    }

    /// Ends the agent of a node; whether there was one.
    pub fn stop(&self, name: &str) -> bool {
        self.agents.lock().remove(name).is_some()
    }

    /// Agents that run.
    pub fn agents(&self) -> usize {
        self.agents.lock().len()
    }

    /// Streams that an aggregator has welcomed.
    pub fn live_streams(&self) -> usize {
        self.agents.lock().values().map(|agent| agent.publisher.live_streams()).sum()
    }

    /// What all agents counted together.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}

/// Walks until it is aborted. A walk that is late is not caught up, and the grid stays.
async fn walk(mut node: SimulatedNode, publisher: Publisher, interval: Duration) {
    let mut snapshot = Snapshot::default();
    let mut ticks = interval_at(Instant::now() + interval.mul_f64(fastrand::f64()), interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        match node.snapshot(&mut snapshot) {
            Ok(()) => publisher.publish(&snapshot),
            Err(error) => tracing::warn!(%error, "a walk gave no snapshot"),
        }
    }
}
