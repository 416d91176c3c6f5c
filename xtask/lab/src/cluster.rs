//! A cluster of one node: the stand-in API server, the aggregator as it ships, and a virtual machine with the agent as
//! it ships. Everything ends with the value.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep},
};
use waggle_stand_in::{Kind, StandIn, TokenSpec};

use crate::{
    control::{Act, FromNode, Program, Work},
    layout::{Layout, Qos},
    metrics::Item,
    node::Node,
    paths::Paths,
    scenario::{self, Container, Pod},
    vm::{Boot, GUEST_ADDRESS, Vm},
};

const NAMESPACE: &str = "waggle-system";
const SERVICE_ACCOUNT: &str = "waggle-agent";
const SERVICE: &str = "waggle-aggregator";
/// The agent's process in the node.
pub const AGENT: &str = "waggle-agent";
const API: &str = "/apis/metrics.k8s.io/v1beta1";

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
    /// The API server.
    pub stand_in: Arc<StandIn>,
    /// The node's machine.
    pub vm: Vm,
    /// How the node names its cgroups.
    pub layout: Layout,
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    client: kube::Client,
    aggregator: Option<Child>,
    command: Vec<String>,
    ingest: SocketAddr,
    api: SocketAddr,
    log: PathBuf,
    agent: Pod,
    paths: Paths,
    _dir: TempDir,
}

impl Cluster {
    /// Starts everything: API server, aggregator, machine, agent. The node has no pods yet but the agent's.
    pub async fn start(paths: &Paths, options: &Options, progress: impl Fn(&str)) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
        let stand_in =
            Arc::new(StandIn::builder().start().await.context("cannot start the stand-in API server")?);
        stand_in.apply(scenario::node_object())?;
        let agent = agent_pod();
        stand_in.apply(agent.object())?;
        progress(&format!("stand-in API server at {}", stand_in.url()));

        let (api, ingest) = (free_address()?, free_address()?);
        let command = aggregator_command(paths, &stand_in, dir.path(), (api, ingest), &options.max_age)?;
        let logs = paths.state.join("vm").join(&options.label);
        fs::create_dir_all(&logs).with_context(|| format!("cannot make {}", logs.display()))?;
        let log = logs.join("aggregator.log");
        fs::write(&log, "").with_context(|| format!("cannot write {}", log.display()))?;
        for version in ["v1", "v1beta1"] {
            stand_in.register("metrics.k8s.io", version, (NAMESPACE, SERVICE), stand_in.cluster_ca_pem())?;
        }
        stand_in.backend(NAMESPACE, SERVICE, api);
        let kubeconfig = dir.path().join("kubeconfig");
        let text = stand_in.admin_kubeconfig()?;
        fs::write(&kubeconfig, &text).with_context(|| format!("cannot write {}", kubeconfig.display()))?;
        let client = client(&text).await?;

        let boot = Boot {
            label: options.label.clone(),
            kernel: options.kernel.clone(),
            files: agent_files(paths, &stand_in, &agent)?,
            port: Some(ingest.port()),
            shell: false,
        };
        let vm = Vm::boot(paths, boot).await?;
        progress(&format!(
            "node {} is up: kernel {}, {:?} layout",
            scenario::NODE,
            vm.kernel,
            options.layout
        ));
        let mut cluster = Self {
            stand_in,
            vm,
            layout: options.layout,
            kubeconfig,
            client,
            aggregator: None,
            command,
            ingest,
            api,
            log,
            agent,
            paths: paths.clone(),
            _dir: dir,
        };
        cluster.start_aggregator().await?;
        progress(&format!("aggregator: API at {api}, ingest at {ingest}"));
        cluster.make_agent_cgroups().await?;
        cluster.start_agent().await?;
        progress("agent runs in the node");
        Ok(cluster)
    }

    /// The node's control channel.
    pub fn node(&self) -> &Node {
        &self.vm.node
    }

    /// The aggregator's log file.
    pub fn aggregator_log(&self) -> &Path {
        &self.log
    }

    /// Starts the aggregator and waits until it listens on both ports.
    pub async fn start_aggregator(&mut self) -> Result<()> {
        let log = File::options().append(true).open(&self.log).context("cannot open the aggregator's log")?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL"])
            .args(&self.command)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("cannot open the aggregator's log twice")?)
            .stderr(log)
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot start the aggregator")?;
        let begun = Instant::now();
        for address in [self.api, self.ingest] {
            while TcpStream::connect(address).await.is_err() {
                if let Some(status) = child.try_wait().context("cannot wait for the aggregator")? {
                    bail!("the aggregator ended: {status}\n{}", tail(&self.log));
                }
                if begun.elapsed() > Duration::from_secs(15) {
                    bail!("the aggregator does not listen on {address}\n{}", tail(&self.log));
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
        self.aggregator = Some(child);
        Ok(())
    }

    /// Kills the aggregator as a crash would, with SIGKILL.
    pub async fn kill_aggregator(&mut self) -> Result<()> {
        let mut child = self.aggregator.take().context("the aggregator does not run")?;
        child.kill().await.context("cannot kill the aggregator")
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
            argv: argv.map(str::to_owned).to_vec(),
            environment: Vec::new(),
            cgroup: self.agent.container_cgroup(self.layout, &container.id),
            confined: true,
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
        self.stand_in.apply(pod.object()).map(drop).context("cannot apply a pod")
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
        self.stand_in.apply(pod.object()).map(drop).context("cannot apply a pod")
    }

    /// Removes a pod: processes, cgroups, object.
    pub async fn remove_pod(&self, pod: &Pod) -> Result<()> {
        self.stand_in.delete(Kind::Pod, &pod.namespace, &pod.name);
        for id in pod.containers.iter().map(|container| &container.id).chain([&pod.sandbox]) {
            self.node().signal(id, 9).await?;
        }
        self.node().act(Act::RemoveCgroup(pod.cgroup(self.layout))).await.map(drop)
    }

    /// What is served for a pod; `None` if nothing is (or nobody serves).
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Item>> {
        self.get(&format!("{API}/namespaces/{namespace}/pods/{name}")).await
    }

    /// What is served for the node; `None` if nothing is (or nobody serves).
    pub async fn node_metrics(&self) -> Result<Option<Item>> {
        self.get(&format!("{API}/nodes/{}", scenario::NODE)).await
    }

    /// One object through the front proxy.
    async fn get(&self, path: &str) -> Result<Option<Item>> {
        let request = http::Request::get(path).body(Vec::new()).context("an odd path")?;
        match self.client.request::<Value>(request).await {
            Ok(object) => Item::read(&object).map(Some),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 503) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("GET {path}")),
        }
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
            if let Some(item) = self.pod(namespace, name).await? {
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
            tail(&self.log),
            last_lines(&agent)
        )
    }

    /// Runs kubectl as an administrator; its output.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.paths.kubectl)
            .args(args)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.kubeconfig.with_extension("cache"))
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot start kubectl: run cargo xtask setup")?;
        if !output.status.success() {
            bail!(
                "kubectl {}: {}\n{}",
                args.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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
    node.run(Program { argv, environment: Vec::new(), cgroup, confined: false }).await
}

fn agent_pod() -> Pod {
    let container = Container::new("agent", Work::Sleep, None);
    let mut pod = Pod::new(NAMESPACE, "waggle-agent-x7k2p", Qos::Burstable, vec![container]);
    SERVICE_ACCOUNT.clone_into(&mut pod.service_account);
    pod
}

fn agent_files(paths: &Paths, stand_in: &StandIn, pod: &Pod) -> Result<Vec<(String, u32, Vec<u8>)>> {
    let token = stand_in.issue_token(&TokenSpec {
        namespace: NAMESPACE.to_owned(),
        service_account: SERVICE_ACCOUNT.to_owned(),
        pod: Some((pod.name.clone(), pod.uid.clone())),
        node: Some((scenario::NODE.to_owned(), scenario::NODE_UID.to_owned())),
        audiences: vec!["waggle.aggregator".to_owned()],
        ttl: Duration::from_hours(1),
    })?;
    let agent = paths.program("waggle-agent");
    Ok(vec![
        (
            "bin/waggle-agent".into(),
            0o755,
            fs::read(&agent).with_context(|| format!("cannot read {}", agent.display()))?,
        ),
        ("etc/waggle/ca.crt".into(), 0o444, stand_in.cluster_ca_pem().as_bytes().to_vec()),
        ("etc/waggle/token".into(), 0o400, token.into_bytes()),
    ])
}

fn aggregator_command(
    paths: &Paths,
    stand_in: &StandIn,
    dir: &Path,
    (api, ingest): (SocketAddr, SocketAddr),
    max_age: &str,
) -> Result<Vec<String>> {
    let write = |name: &str, text: &str| -> Result<String> {
        let path = dir.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path.display().to_string())
    };
    let api_names = [format!("{SERVICE}.{NAMESPACE}.svc"), "127.0.0.1".to_owned()];
    let api_names: Vec<&str> = api_names.iter().map(String::as_str).collect();
    let api_identity = stand_in.sign_serving_certificate(&api_names)?;
    let ingest_identity = stand_in.sign_serving_certificate(&["waggle-ingest.waggle-system.svc"])?;
    let flags = [
        ("--kubeconfig", write("aggregator.kubeconfig", &stand_in.aggregator_kubeconfig()?)?),
        ("--api-bind", api.to_string()),
        ("--ingest-bind", ingest.to_string()),
        ("--api-cert-file", write("api.crt", &api_identity.certificate_pem)?),
        ("--api-key-file", write("api.key", &api_identity.key_pem)?),
        ("--ingest-cert-file", write("ingest.crt", &ingest_identity.certificate_pem)?),
        ("--ingest-key-file", write("ingest.key", &ingest_identity.key_pem)?),
        ("--max-age", max_age.to_owned()),
    ];
    let mut command = vec![paths.program("waggle-aggregator").display().to_string()];
    command.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    Ok(command)
}

async fn client(kubeconfig: &str) -> Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig).context("an odd kubeconfig")?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
            .await
            .context("an odd kubeconfig")?;
    // What is answered first is what counts here: a retry would hide it, and the time it takes.
    config.default_retry = false;
    kube::Client::try_from(config).context("cannot make a client of the API server")
}

/// A port of the loopback that nobody uses now. Another process could take it before it is bound; nothing is lost then
/// but this run.
fn free_address() -> Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).context("no free port")
}

fn tail(log: &Path) -> String {
    last_lines(&fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
