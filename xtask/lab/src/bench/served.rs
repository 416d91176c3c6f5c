//! An aggregator that serves what a measured agent streams, and knows the pods of `collector_bench`.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::PODS;
use crate::{
    central::Central,
    cluster::agent_pod,
    control::Work,
    layout::Qos,
    paths::Paths,
    scenario::{Container, Pod},
};

const CONTAINERS: usize = 3;

/// The aggregator and its API server. They end with the value.
pub struct Served {
    pub central: Central,
    /// PEM bundle with the CA of the aggregator's certificate.
    pub ca: String,
    /// The agent's token.
    pub token: String,
}

impl Served {
    /// Starts both. `node` is the object of the agent's node.
    pub async fn start(paths: &Paths, label: &str, node: Value) -> Result<Self> {
        let mut central = Central::start(paths, label, "60s").await?;
        let agent = agent_pod();
        central.stand_in.apply(node)?;
        central.stand_in.apply(agent.object())?;
        for number in 0..PODS {
            central.stand_in.apply(pod(number).object())?;
        }
        central.start_aggregator().await?;
        let (ca, token) = (central.stand_in.cluster_ca_pem().to_owned(), central.agent_token(&agent)?);
        Ok(Self { central, ca, token })
    }

    /// Fails unless the agent's stream was live until `ago`: its node's values must be no older.
    pub async fn was_live(&self, ago: Duration) -> Result<()> {
        let node = self.central.node_metrics().await?.context("the node is not served at the end")?;
        let age = jiff::Timestamp::now().duration_since(node.timestamp).unsigned_abs();
        anyhow::ensure!(age < ago, "the stream was not live to the end: the newest value is {age:?} old");
        Ok(())
    }

    /// Pods of which every container is served with CPU in use.
    pub async fn whole_pods(&self) -> Result<usize> {
        let whole = |pod: &&Value| {
            let containers = pod["containers"].as_array();
            containers.is_some_and(|all| {
                all.len() == CONTAINERS && all.iter().all(|one| one["usage"]["cpu"] != "0")
            })
        };
        Ok(self.central.pods().await?.iter().filter(whole).count())
    }
}

/// The object of the pod whose cgroups `collector_bench` makes under this number.
fn pod(number: usize) -> Pod {
    let containers = (0..CONTAINERS).map(|index| {
        let id = format!("{:064x}", number * CONTAINERS + index);
        Container { id, ..Container::new(&format!("c{index}"), Work::Sleep, None) }
    });
    let pod = Pod::new("bench", &format!("pod-{number}"), Qos::Burstable, containers.collect());
    Pod { uid: format!("{number:08x}-1c2d-4e5f-8a9b-0c1d2e3f4a5b"), ..pod }
}
