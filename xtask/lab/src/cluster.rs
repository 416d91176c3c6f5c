//! A cluster of one node: the stand-in API server, the aggregator as it ships, and a virtual machine with the agent as
//! it ships. Everything ends with the value.

use std::{fs, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};
use waggle_stand_in::Kind;

use crate::{
    central::{AGENT_ACCOUNT, Central, NAMESPACE, last_lines, tail},
    control::{Act, FromNode, Program, Rights, Work},
    layout::{Layout, Qos},
    metrics::Item,
    node::Node,
    paths::Paths,
    scenario::{self, Container, Pod},
    vm::{Boot, GUEST_ADDRESS, Vm},
};

/// The agent's process in the node.
pub const AGENT: &str = "waggle-agent";

/// How a cluster shall be.
#[derive(Debug, Clone)]
pub struct Options {
    /// A name for its logs.
    pub label: String,
    /// The node's kernel line.
    pub kernel: String,
    /// How the node names its cgroups.
    pub layout: Layout,
    /// The aggregator's `--max-age`.
    pub max_age: String,
}

/// A running cluster.
pub struct Cluster {
    /// API server and aggregator.
    pub central: Central,
    /// The node's machine.
    pub vm: Vm,
    /// How the node names its cgroups.
    pub layout: Layout,
    agent: Pod,
}

impl Cluster {
    /// Starts everything: API server, aggregator, machine, agent. The node has no pods yet but the agent's.
    pub async fn start(paths: &Paths, options: &Options, progress: impl Fn(&str)) -> Result<Self> {
        let mut central = Central::start(paths, &options.label, &options.max_age).await?;
        let agent = agent_pod();
        central.stand_in.apply(agent.object())?;
        progress(&format!("stand-in API server at {}", central.stand_in.url()));
        let boot = Boot {
            label: options.label.clone(),
            kernel: options.kernel.clone(),
            files: agent_files(paths, &central, &agent)?,
            port: Some(central.ingest.port()),
            ..Boot::default()
        };
        let vm = Vm::boot(paths, boot).await?;
        progress(&format!(
            "node {} is up: kernel {}, {:?} layout",
            scenario::NODE,
            vm.kernel,
            options.layout
        ));
        central.start_aggregator().await?;
        progress(&format!("aggregator: API at {}, ingest at {}", central.api(), central.ingest));
        let cluster = Self { central, vm, layout: options.layout, agent };
        cluster.make_agent_cgroups().await?;
        cluster.start_agent().await?;
        progress("agent runs in the node");
        Ok(cluster)
    }

    /// The node's control channel.
    pub fn node(&self) -> &Node {
        &self.vm.node
    }

    async fn make_agent_cgroups(&self) -> Result<()> {
        self.make_sandbox(&self.agent).await?;
        for container in &self.agent.containers {
            self.make_container_cgroup(&self.agent, container).await?;
        }
        Ok(())
    }

    /// Starts the agent in its container's cgroup, with no more capabilities than its pod has.
    pub async fn start_agent(&self) -> Result<()> {
        self.start_agent_with(&[]).await
    }

    /// The same with further arguments of `waggle-agent run`.
    pub async fn start_agent_with(&self, arguments: &[&str]) -> Result<()> {
        let container = self.agent.containers.first().context("the agent's pod has no container")?;
        let argv = [
            "/bin/waggle-agent",
            "run",
            "--aggregator",
            GUEST_ADDRESS,
            "--aggregator-ca",
            "/etc/waggle/ca.crt",
            "--token-file",
            "/etc/waggle/token",
            "--log-format",
            "text",
        ];
        let program = Program {
            argv: argv.iter().chain(arguments).map(|&argument| argument.to_owned()).collect(),
            environment: Vec::new(),
            cgroup: self.agent.container_cgroup(self.layout, &container.id),
            rights: Rights::Agent,
        };
        self.node().act(Act::Spawn { name: AGENT.to_owned(), program }).await.map(drop)
    }

    /// What the agent wrote so far.
    pub async fn agent_log(&self) -> Result<String> {
        self.node().read(&format!("/run/log/{AGENT}")).await
    }

    /// Runs a program of the image outside of every pod.
    pub async fn run(&self, argv: &[&str]) -> Result<(i32, String)> {
        run(self.node(), argv).await
    }

    /// Starts a pod: cgroups, sandbox, containers, and once each has begun the object in the API server.
    pub async fn start_pod(&self, pod: &Pod) -> Result<()> {
        self.make_sandbox(pod).await?;
        for container in &pod.containers {
            self.start_container(pod, container).await?;
        }
        self.central.stand_in.apply(pod.object()).map(drop).context("cannot apply a pod")
    }

    async fn make_sandbox(&self, pod: &Pod) -> Result<()> {
        start_sandbox(self.node(), self.layout, pod).await
    }

    async fn make_container_cgroup(&self, pod: &Pod, container: &Container) -> Result<()> {
        let path = pod.container_cgroup(self.layout, &container.id);
        self.node().act(Act::MakeCgroup { path, limits: container.limits() }).await.map(drop)
    }

    /// Starts a container and waits for its first instruction.
    pub async fn start_container(&self, pod: &Pod, container: &Container) -> Result<()> {
        start_container(self.node(), self.layout, pod, container).await
    }

    /// Restarts the first container of a pod: its process is killed, its cgroup goes, a new one comes.
    pub async fn restart_container(&self, pod: &mut Pod) -> Result<()> {
        let container = pod.containers.first().context("a pod without containers")?;
        self.node().signal(&container.id, 9).await?;
        self.node().act(Act::RemoveCgroup(pod.container_cgroup(self.layout, &container.id))).await?;
        let container = pod.containers.first_mut().context("a pod without containers")?;
        container.restart();
        let container = container.clone();
        self.start_container(pod, &container).await?;
        self.central.stand_in.apply(pod.object()).map(drop).context("cannot apply a pod")
    }

    /// Removes a pod: processes, cgroups, object.
    pub async fn remove_pod(&self, pod: &Pod) -> Result<()> {
        self.central.stand_in.delete(Kind::Pod, &pod.namespace, &pod.name);
        for id in pod.containers.iter().map(|container| &container.id).chain([&pod.sandbox]) {
            self.node().signal(id, 9).await?;
        }
        self.node().act(Act::RemoveCgroup(pod.cgroup(self.layout))).await.map(drop)
    }

    /// Waits until a pod is served as `wanted` says, and says how long it took.
    pub async fn wait_pod(
        &self,
        (namespace, name): (&str, &str),
        limit: Duration,
        wanted: impl Fn(&Item) -> bool,
    ) -> Result<(Duration, Item)> {
        let begun = Instant::now();
        let mut last = None;
        while begun.elapsed() < limit {
            if let Some(item) = self.central.pod(namespace, name).await? {
                if wanted(&item) {
                    return Ok((begun.elapsed(), item));
                }
                last = Some(item);
            }
            sleep(Duration::from_millis(20)).await;
        }
        let agent = self.agent_log().await.unwrap_or_default();
        bail!(
            "{namespace}/{name} was not served as wanted within {} s; last seen: {last:?}\n\
             aggregator:\n{}\nagent:\n{}",
            limit.as_secs_f64(),
            tail(self.central.aggregator_log()),
            last_lines(&agent)
        )
    }
}

/// Makes a pod's cgroup and starts its pause container.
pub async fn start_sandbox(node: &Node, layout: Layout, pod: &Pod) -> Result<()> {
    let cgroup = pod.container_cgroup(layout, &pod.sandbox);
    node.act(Act::MakeCgroup { path: cgroup.clone(), limits: Vec::new() }).await?;
    node.act(Act::Start { name: pod.sandbox.clone(), cgroup, work: Work::Sleep }).await.map(drop)
}

/// Makes a container's cgroup, starts its process and waits for its first instruction.
pub async fn start_container(node: &Node, layout: Layout, pod: &Pod, container: &Container) -> Result<()> {
    let cgroup = pod.container_cgroup(layout, &container.id);
    node.act(Act::MakeCgroup { path: cgroup.clone(), limits: container.limits() }).await?;
    node.act(Act::Start { name: container.id.clone(), cgroup, work: container.work }).await?;
    node.event(Duration::from_secs(10), |event| match &event.what {
        FromNode::FirstInstruction { name, .. } if *name == container.id => Some(()),
        _ => None,
    })
    .await
    .with_context(|| format!("container {} of {} did not begin", container.name, pod.name))
}

/// Runs a program of the image outside of every pod.
pub async fn run(node: &Node, argv: &[&str]) -> Result<(i32, String)> {
    let cgroup = "system.slice/lab.service".to_owned();
    node.act(Act::MakeCgroup { path: cgroup.clone(), limits: Vec::new() }).await?;
    let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
    node.run(Program { argv, environment: Vec::new(), cgroup, rights: Rights::Root }).await
}

/// The agent's own pod.
pub fn agent_pod() -> Pod {
    let container = Container::new("agent", Work::Sleep, None);
    let mut pod = Pod::new(NAMESPACE, "waggle-agent-x7k2p", Qos::Burstable, vec![container]);
    AGENT_ACCOUNT.clone_into(&mut pod.service_account);
    pod
}

fn agent_files(paths: &Paths, central: &Central, pod: &Pod) -> Result<Vec<(String, u32, Vec<u8>)>> {
    let agent = paths.program("waggle-agent");
    let program = fs::read(&agent).with_context(|| format!("cannot read {}", agent.display()))?;
    let ca = central.stand_in.cluster_ca_pem().as_bytes().to_vec();
    Ok(vec![
        ("bin/waggle-agent".into(), 0o755, program),
        ("etc/waggle/ca.crt".into(), 0o444, ca),
        ("etc/waggle/token".into(), 0o400, central.agent_token(pod)?.into_bytes()),
    ])
}
