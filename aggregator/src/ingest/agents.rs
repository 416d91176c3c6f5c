//! What agents report about themselves, as metrics: one entry per node that has a live stream. An agent is trusted with
//! its own node only, so its texts have limits. What exceeds them is left out and counted; it never ends the stream, for
//! a status must not cost a node its numbers.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use prometheus_client::{
    collector::Collector,
    encoding::DescriptorEncoder,
    metrics::{MetricType, counter::Counter, family::Family},
};

/// Bytes of a label's value.
const LONGEST_TEXT: usize = 64;
/// Refusals of one node. An agent has one for each thing that its kernel lacks.
const REFUSALS_PER_NODE: usize = 16;
/// Series of all nodes together: ten times what 5,000 nodes with one refusal each have.
const SERIES: usize = 100_000;

/// What stands for a text that does not fit.
const INVALID: &str = "invalid";

type Dropped = Family<[(&'static str, &'static str); 1], Counter>;

/// All live agents. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Agents {
    live: Arc<Mutex<ByNode>>,
    next: Arc<AtomicU64>,
    dropped: Dropped,
}

#[derive(Debug, Default)]
struct ByNode {
    nodes: HashMap<Arc<str>, Agent>,
    series: usize,
}

#[derive(Debug)]
struct Agent {
    stream: u64,
    version: Box<str>,
    collector: Box<str>,
    refusals: Vec<Box<str>>,
    unmeasured_pods: usize,
}

impl Agent {
    fn series(&self) -> usize {
        1 + self.refusals.len()
    }
}

/// A node's live stream. Dropped, its series go, unless a newer stream of the node has replaced them.
#[derive(Debug)]
pub(super) struct Presence {
    agents: Agents,
    node: Arc<str>,
    stream: u64,
}

impl Agents {
    /// Texts that are not exported, by label.
    pub(super) fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }

    /// A stream became its node's live one; it replaces the stream before it in one step.
    pub(super) fn begin(
        &self,
        node: &Arc<str>,
        version: &str,
        collector: &str,
        refusals: &[String],
    ) -> Presence {
        let stream = self.next.fetch_add(1, Ordering::Relaxed);
        let agent = Agent {
            stream,
            version: self.text("agent_version", version),
            collector: self.text("collector", collector),
            refusals: self.refusals(refusals),
            unmeasured_pods: 0,
        };
        self.live.lock().replace(node, agent, &self.dropped);
        Presence { agents: self.clone(), node: Arc::clone(node), stream }
    }

    fn text(&self, label: &'static str, text: &str) -> Box<str> {
        if is_fit(text) {
            return text.into();
        }
        self.dropped.get_or_create(&[("label", label)]).inc();
        INVALID.into()
    }

    fn refusals(&self, refusals: &[String]) -> Vec<Box<str>> {
        let fit = refusals.iter().filter(|text| is_fit(text)).take(REFUSALS_PER_NODE);
        let mut fit: Vec<Box<str>> = fit.map(|text| text.as_str().into()).collect();
        let dropped = refusals.len() - fit.len();
        if dropped > 0 {
            self.dropped.get_or_create(&[("label", "reason")]).inc_by(dropped as u64);
        }
        // Two series with the same labels would make the whole exposition invalid.
        fit.sort_unstable();
        fit.dedup();
        fit
    }
}

/// Not empty, short, and of what names of collectors, versions and reasons are made of.
fn is_fit(text: &str) -> bool {
    let fit = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.' | b':' | b'+' | b'/');
    !text.is_empty() && text.len() <= LONGEST_TEXT && text.bytes().all(fit)
}

impl ByNode {
    /// Within the limit of all nodes together: beyond it a node's refusals are left out first, then the node.
    fn replace(&mut self, node: &Arc<str>, mut agent: Agent, dropped: &Dropped) {
        self.remove(node);
        let room = SERIES.saturating_sub(self.series);
        if agent.series() > room {
            dropped.get_or_create(&[("label", "reason")]).inc_by(agent.refusals.len() as u64);
            agent.refusals.clear();
        }
        if agent.series() > room {
            dropped.get_or_create(&[("label", "collector")]).inc();
            return;
        }
        self.series += agent.series();
        self.nodes.insert(Arc::clone(node), agent);
    }

    fn remove(&mut self, node: &Arc<str>) -> Option<Agent> {
        let agent = self.nodes.remove(node)?;
        self.series -= agent.series();
        Some(agent)
    }
}

impl Presence {
    /// The agent has another collector, or other refusals, from now on.
    pub(super) fn collector(&self, name: &str, refusals: &[String]) {
        let (collector, refusals) = (self.agents.text("collector", name), self.agents.refusals(refusals));
        let mut live = self.agents.live.lock();
        if live.nodes.get(&self.node).is_none_or(|agent| agent.stream != self.stream) {
            return;
        }
        if let Some(before) = live.remove(&self.node) {
            let agent = Agent { collector, refusals, ..before };
            live.replace(&self.node, agent, &self.agents.dropped);
        }
    }

    /// This many of the node's pods are reported by their totals only.
    pub(super) fn unmeasured_pods(&self, pods: usize) {
        let mut live = self.agents.live.lock();
        if let Some(agent) = live.nodes.get_mut(&self.node).filter(|agent| agent.stream == self.stream) {
            agent.unmeasured_pods = pods;
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut live = self.agents.live.lock();
        if live.nodes.get(&self.node).is_some_and(|agent| agent.stream == self.stream) {
            live.remove(&self.node);
        }
    }
}

impl Collector for Agents {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let live = self.live.lock();
        let mut nodes: Vec<(&str, &Agent)> =
            live.nodes.iter().map(|(node, agent)| (&**node, agent)).collect();
        nodes.sort_unstable_by_key(|(node, _)| *node);
        let mut info = encoder.encode_descriptor("collector", INFO, None, MetricType::Info)?;
        for (node, agent) in &nodes {
            let labels =
                [("node", *node), ("collector", &*agent.collector), ("agent_version", &*agent.version)];
            info.encode_info(&labels)?;
        }
        let (name, kind) = ("collector_refusals", MetricType::Gauge);
        let mut refusals = encoder.encode_descriptor(name, REFUSALS, None, kind)?;
        for (node, agent) in &nodes {
            for reason in &agent.refusals {
                let labels = [("node", *node), ("reason", &**reason)];
                refusals.encode_family(&labels)?.encode_gauge(&1_u64)?;
            }
        }
        let pods: usize = nodes.iter().map(|(_, agent)| agent.unmeasured_pods).sum();
        encoder
            .encode_descriptor("unmeasured_pods", UNMEASURED, None, MetricType::Gauge)?
            .encode_gauge(&i64::try_from(pods).unwrap_or(i64::MAX))
    }
}

/// Help texts, with the full stop that the registry gives those of other families.
const INFO: &str = "1 for each node with a live stream, by what its agent runs.";
const REFUSALS: &str = "1 for each reason against a better collector on a node with a live stream.";
const UNMEASURED: &str = "Pods on nodes with a live stream that have a container that is not measured.";

#[cfg(test)]
mod tests;
