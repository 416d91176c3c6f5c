//! Asks all sources about all containers, with the instants by the node's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    kubelet::{self, Rates},
    reading::{Key, Reading, Source},
    truth::{Seconds, seconds},
};
use crate::{metrics::Item, nodes::Machine};

/// How far the node's clock is before ours. A machine starts with whole seconds.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    ahead: Seconds,
}

impl Clock {
    /// Asks the node: of some answers the quickest counts.
    pub async fn of(node: &Machine) -> Result<Self> {
        let mut best: Option<(Seconds, Seconds)> = None;
        for _ in 0..8 {
            let before = own();
            let said = node.shell("adjtimex").await?;
            let after = own();
            let field = |name: &str| {
                let line = said.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(':'));
                line.and_then(|value| value.trim().parse::<f64>().ok())
                    .with_context(|| format!("adjtimex does not say {name}: {said}"))
            };
            let node = field("time.tv_sec")? + field("time.tv_usec")? / 1e6;
            if best.is_none_or(|(took, _)| after - before < took) {
                best = Some((after - before, node - f64::midpoint(before, after)));
            }
        }
        let (_, ahead) = best.context("the node's clock was not asked")?;
        Ok(Self { ahead })
    }

    /// Now, by the node's clock.
    pub fn now(self) -> Seconds {
        own() + self.ahead
    }

    /// How far it is before ours.
    pub fn ahead(self) -> Seconds {
        self.ahead
    }
}

fn own() -> Seconds {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

/// The three sources.
pub struct Sources {
    /// By kube-apiserver, as users do.
    pub waggle: kube::Client,
    /// Directly.
    pub metrics_server: kube::Client,
    /// The name of the node.
    pub node: String,
    /// Its clock.
    pub clock: Clock,
    rates: Rates,
}

/// What a source said, and when the answer was there.
pub struct Said {
    /// The instant of the answer.
    pub asked: Seconds,
    /// By container.
    pub answer: Vec<(Key, Reading)>,
}

impl Sources {
    /// The sources of a node.
    pub fn new(waggle: kube::Client, metrics_server: kube::Client, node: &str, clock: Clock) -> Self {
        Self { waggle, metrics_server, node: node.to_owned(), clock, rates: Rates::default() }
    }

    /// Asks one.
    pub async fn ask(&mut self, source: Source) -> Result<Said> {
        match source {
            Source::Kubelet => {
                let path = format!("/api/v1/nodes/{}/proxy/metrics/resource", self.node);
                let text = self.waggle.request_text(get(&path)?).await.context("cannot ask the kubelet")?;
                let asked = self.clock.now();
                Ok(Said { asked, answer: self.rates.readings(kubelet::counters(&text), asked) })
            }
            Source::MetricsServer => self.pods(&self.metrics_server).await,
            Source::Waggle => self.pods(&self.waggle).await,
        }
    }

    async fn pods(&self, client: &kube::Client) -> Result<Said> {
        let list: Value = client.request(get("/apis/metrics.k8s.io/v1beta1/pods")?).await?;
        let asked = self.clock.now();
        let mut answer = Vec::new();
        for object in list["items"].as_array().context("no list of pods")? {
            let item = Item::read(object)?;
            let namespace = object["metadata"]["namespace"].as_str().context("a pod without namespace")?;
            let stamp = seconds(item.timestamp);
            for (container, usage) in item.usage {
                let key = Key { namespace: namespace.to_owned(), pod: item.name.clone(), container };
                let reading =
                    Reading { asked, stamp, millicores: Some(usage.millicores), bytes: Some(usage.bytes) };
                answer.push((key, reading));
            }
        }
        Ok(Said { asked, answer })
    }
}

fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    http::Request::get(path).body(Vec::new()).context("an odd path")
}
