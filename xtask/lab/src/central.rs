//! What is central in a cluster: the stand-in API server and the aggregator as it ships, registered with it. Everything
//! ends with the value.

use std::{
    fs::{self, File},
    net::SocketAddr,
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
use waggle_stand_in::{StandIn, TokenSpec};

use crate::{
    metrics::Item,
    paths::Paths,
    port,
    scenario::{self, Pod},
};

/// The namespace of aggregator and agents.
pub const NAMESPACE: &str = "waggle-system";
/// The agents' service account.
pub const AGENT_ACCOUNT: &str = "waggle-agent";
const SERVICE: &str = "waggle-aggregator";
const API: &str = "/apis/metrics.k8s.io/v1beta1";

/// A running API server with a running aggregator.
pub struct Central {
    /// The API server.
    pub stand_in: Arc<StandIn>,
    /// An administrator's kubeconfig.
    pub kubeconfig: PathBuf,
    /// Where the agents report to.
    pub ingest: SocketAddr,
    client: kube::Client,
    aggregator: Option<Child>,
    command: Vec<String>,
    api: SocketAddr,
    log: PathBuf,
    kubectl: PathBuf,
    _dir: TempDir,
}

impl Central {
    /// Starts the API server, which knows the node, and prepares the aggregator, which is started by
    /// [`Central::start_aggregator`]. `label` names its log, `max_age` is its `--max-age`.
    pub async fn start(paths: &Paths, label: &str, max_age: &str) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
        let stand_in =
            Arc::new(StandIn::builder().start().await.context("cannot start the stand-in API server")?);
        stand_in.apply(scenario::node_object())?;
        let (api, ingest) = (port::free()?, port::free()?);
        let command = aggregator_command(paths, &stand_in, dir.path(), (api, ingest), max_age)?;
        let logs = paths.state.join("vm").join(label);
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
        Ok(Self {
            stand_in,
            kubeconfig,
            ingest,
            client,
            aggregator: None,
            command,
            api,
            log,
            kubectl: paths.kubectl.clone(),
            _dir: dir,
        })
    }

    /// Where the aggregator's API port is.
    pub fn api(&self) -> SocketAddr {
        self.api
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

    /// Waits until the aggregator is ready but for values, which need agents: it knows pods and nodes. How long it took.
    pub async fn wait_informed(&self, limit: Duration) -> Result<Duration> {
        let kubeconfig = self.stand_in.admin_kubeconfig()?;
        let direct = kubeconfig.replace(&self.stand_in.url(), &format!("https://{}", self.api));
        let (client, begun) = (client(&direct).await?, Instant::now());
        loop {
            let request = http::Request::get("/readyz?exclude=metric-storage-ready")
                .body(Vec::new())
                .context("an odd path")?;
            match client.request_text(request).await {
                Ok(_) => return Ok(begun.elapsed()),
                Err(error) if begun.elapsed() > limit => {
                    bail!("the aggregator is not informed after {limit:?}: {error}\n{}", tail(&self.log))
                }
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// The process id of the aggregator, while it runs.
    pub fn aggregator_pid(&self) -> Option<u32> {
        self.aggregator.as_ref().and_then(Child::id)
    }

    /// Kills the aggregator as a crash would, with SIGKILL.
    pub async fn kill_aggregator(&mut self) -> Result<()> {
        let mut child = self.aggregator.take().context("the aggregator does not run")?;
        child.kill().await.context("cannot kill the aggregator")
    }

    /// The token of an agent's pod on its node, good for an hour.
    pub fn agent_token(&self, pod: &Pod) -> Result<String> {
        Ok(self.stand_in.issue_token(&TokenSpec {
            namespace: pod.namespace.clone(),
            service_account: pod.service_account.clone(),
            pod: Some((pod.name.clone(), pod.uid.clone())),
            node: Some((pod.node.name.clone(), pod.node.uid.clone())),
            audiences: vec!["waggle.aggregator".to_owned()],
            ttl: Duration::from_hours(1),
        })?)
    }

    /// What is served for a pod; `None` if nothing is (or nobody serves).
    pub async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Item>> {
        self.get(&format!("{API}/namespaces/{namespace}/pods/{name}")).await
    }

    /// What is served for the first node; `None` if nothing is (or nobody serves).
    pub async fn node_metrics(&self) -> Result<Option<Item>> {
        self.metrics_of_node(scenario::NODE).await
    }

    /// What is served for a node; `None` if nothing is (or nobody serves).
    pub async fn metrics_of_node(&self, name: &str) -> Result<Option<Item>> {
        self.get(&format!("{API}/nodes/{name}")).await
    }

    /// All pods that are served, as they are answered.
    pub async fn pods(&self) -> Result<Vec<Value>> {
        let list = self.value(&format!("{API}/pods")).await?;
        Ok(list.and_then(|list| list["items"].as_array().cloned()).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> Result<Option<Item>> {
        self.value(path).await?.map(|object| Item::read(&object)).transpose()
    }

    /// One answer through the front proxy; `None` where nothing is served or nobody serves.
    async fn value(&self, path: &str) -> Result<Option<Value>> {
        let request = http::Request::get(path).body(Vec::new()).context("an odd path")?;
        match self.client.request::<Value>(request).await {
            Ok(object) => Ok(Some(object)),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 503) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("GET {path}")),
        }
    }

    /// Runs kubectl as an administrator; its output.
    pub async fn kubectl(&self, args: &[&str]) -> Result<String> {
        let output = Command::new(&self.kubectl)
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

/// A client of an API server, which never tries again by itself.
pub async fn client(kubeconfig: &str) -> Result<kube::Client> {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(kubeconfig).context("an odd kubeconfig")?;
    let mut config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
            .await
            .context("an odd kubeconfig")?;
    // What is answered first is what counts here: a retry would hide it, and the time it takes.
    config.default_retry = false;
    kube::Client::try_from(config).context("cannot make a client of the API server")
}

pub(crate) fn tail(log: &Path) -> String {
    last_lines(&fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
}

pub(crate) fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
}
