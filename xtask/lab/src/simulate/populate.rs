//! Nodes full of pods in the stand-in API server, each with a simulated agent: for tests of values and for load.

use std::fs;

use anyhow::{Context, Result};
use tempfile::TempDir;
use waggle_stand_in::Kind;

use super::{Fleet, Load, SimulatedNode, Streams, Workload};
use crate::{
    central::{AGENT_ACCOUNT, Central, NAMESPACE},
    control::Work,
    layout::{Layout, Qos},
    scenario::{Container, NodeRef, Pod},
};

/// What the agent itself uses.
const AGENT: Load = Load::new(1, 12);

/// A node and what was started on it.
pub struct Inhabited {
    /// Which node.
    pub node: NodeRef,
    /// Its cgroups.
    pub cgroups: SimulatedNode,
    /// Its pods, without the agent's.
    pub pods: Vec<Pod>,
}

/// Nodes with agents; they end with the value, their objects stay.
pub struct Population {
    /// The nodes.
    pub nodes: Vec<Inhabited>,
    /// Their agents.
    pub fleet: Fleet,
    files: TempDir,
}

impl Population {
    /// Makes nodes as [`Population::prepare`] does, and starts their agents.
    pub fn start(
        central: &Central,
        nodes: usize,
        pods: impl Fn(usize) -> Vec<(Pod, Vec<Load>)>,
    ) -> Result<Self> {
        let population = Self::prepare(central, nodes, pods)?;
        population.connect();
        Ok(population)
    }

    /// Makes this many nodes of 16 processors and 64 GiB, each with the pods that `pods` says for its number. Every second
    /// node names its cgroups the other way.
    pub fn prepare(
        central: &Central,
        nodes: usize,
        pods: impl Fn(usize) -> Vec<(Pod, Vec<Load>)>,
    ) -> Result<Self> {
        let files = tempfile::tempdir().context("cannot make a temporary folder")?;
        let ca_file = files.path().join("ca.crt");
        fs::write(&ca_file, central.stand_in.cluster_ca_pem())
            .with_context(|| format!("cannot write {}", ca_file.display()))?;
        let fleet = Fleet::new(Streams::to(central.ingest, ca_file)?);
        let mut population = Self { nodes: Vec::with_capacity(nodes), fleet, files };
        for number in 0..nodes {
            population.settle(central, number, pods(number))?;
        }
        Ok(population)
    }

    /// Starts the agents of all nodes, which stream to the aggregator.
    pub fn connect(&self) {
        for Inhabited { node, cgroups, .. } in &self.nodes {
            self.fleet.start(&node.name, cgroups, self.files.path().join(&node.name));
        }
    }

    fn settle(&mut self, central: &Central, number: usize, pods: Vec<(Pod, Vec<Load>)>) -> Result<()> {
        let node = NodeRef::new(&format!("simulated-{number:04}"));
        central.stand_in.apply(node.object(16, 64))?;
        let layout = if number.is_multiple_of(2) { Layout::Systemd } else { Layout::Cgroupfs };
        let cgroups = SimulatedNode::new(layout);
        let mut inhabited = Inhabited { node, cgroups, pods: Vec::with_capacity(pods.len()) };

        let container = Container::new("agent", Work::Sleep, None);
        let mut agent =
            Pod::new(NAMESPACE, &format!("waggle-agent-{number:04}"), Qos::Burstable, vec![container]);
        AGENT_ACCOUNT.clone_into(&mut agent.service_account);
        let agent = agent.on(&inhabited.node);
        inhabited.begin(central, &agent, &[AGENT])?;
        for (pod, loads) in pods {
            inhabited.start_pod(central, pod, &loads)?;
        }

        let token = self.files.path().join(&inhabited.node.name);
        fs::write(&token, central.agent_token(&agent)?)
            .with_context(|| format!("cannot write {}", token.display()))?;
        self.nodes.push(inhabited);
        Ok(())
    }
}

impl Inhabited {
    /// Starts a pod here: its containers use `loads`, in their order.
    pub fn start_pod(&mut self, central: &Central, pod: Pod, loads: &[Load]) -> Result<()> {
        let pod = pod.on(&self.node);
        self.begin(central, &pod, loads)?;
        self.pods.push(pod);
        Ok(())
    }

    /// Changes what a container uses.
    pub fn set_load(&self, pod: &str, container: &str, load: Load) -> Result<()> {
        let pod = self.pod(pod)?;
        let container = pod.containers.iter().find(|c| c.name == container);
        let id = &container.with_context(|| format!("{} has no such container", pod.name))?.id;
        Ok(self.cgroups.set_load(&pod.uid, id, load)?)
    }

    /// Restarts a container, which uses `load` from then on.
    pub fn restart_container(
        &mut self,
        central: &Central,
        pod: &str,
        container: &str,
        load: Load,
    ) -> Result<()> {
        let pod = self.pods.iter_mut().find(|p| p.name == pod).context("no such pod on this node")?;
        let found = pod.containers.iter_mut().find(|c| c.name == container).context("no such container")?;
        let before = found.id.clone();
        found.restart();
        let workload = Workload { id: found.id.clone(), load };
        self.cgroups.stop_container(&pod.uid, &before)?;
        self.cgroups.start_container(&pod.uid, &workload)?;
        central.stand_in.apply(pod.object())?;
        Ok(())
    }

    /// Ends a pod: object and cgroups.
    pub fn remove_pod(&mut self, central: &Central, name: &str) -> Result<()> {
        let at = self.pods.iter().position(|pod| pod.name == name).context("no such pod on this node")?;
        let pod = self.pods.remove(at);
        central.stand_in.delete(Kind::Pod, &pod.namespace, &pod.name);
        Ok(self.cgroups.stop_pod(&pod.uid)?)
    }

    fn pod(&self, name: &str) -> Result<&Pod> {
        let found = self.pods.iter().find(|pod| pod.name == name);
        found.with_context(|| format!("{} has no pod {name}", self.node.name))
    }

    fn begin(&self, central: &Central, pod: &Pod, loads: &[Load]) -> Result<()> {
        anyhow::ensure!(pod.containers.len() == loads.len(), "{}: a load for each container", pod.name);
        let workloads = pod.containers.iter().zip(loads);
        let workloads: Vec<Workload> =
            workloads.map(|(container, load)| Workload { id: container.id.clone(), load: *load }).collect();
        self.cgroups.start_pod(&pod.uid, pod.qos, &pod.sandbox, &workloads)?;
        central.stand_in.apply(pod.object())?;
        Ok(())
    }
}
