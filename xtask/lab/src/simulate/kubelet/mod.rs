//! The kubelets of simulated nodes, and the scheduler, in front of a real API server: nodes are registered, pods bound,
//! run (in computed cgroups), reported Running and Ready with their containers' ids, and removed when they are deleted.
//! A pod of Waggle's agents gets a token bound to it, and then streams. There are no heartbeats: it is for control planes
//! without the controller for node lifecycle.

mod agent;
mod object;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::watcher::{self, watcher},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep},
};

pub use self::object::{Assigned, Step};
use self::object::{agent_pod, is_agent, running, step};
use super::{Demand, Fleet, Machines, Missing, Streams};
use crate::{central::NAMESPACE, scenario::NodeRef};

/// Requests to the API server at a time.
const AT_ONCE: usize = 32;
const ATTEMPTS: u32 = 8;

/// Which nodes there are.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many.
    pub nodes: usize,
    /// What their names begin with.
    pub prefix: String,
    /// Processors of each.
    pub processors: u32,
    /// GiB of memory of each.
    pub gibibytes: u32,
}

impl Default for Options {
    /// Three nodes of 16 processors and 64 GiB.
    fn default() -> Self {
        Self { nodes: 3, prefix: "simulated".to_owned(), processors: 16, gibibytes: 64 }
    }
}

/// Kubelets that run; they and the agents end with the value, the objects stay.
pub struct Kubelets {
    shared: Arc<Shared>,
    watch: JoinHandle<()>,
}

struct Shared {
    client: Client,
    machines: Machines,
    fleet: Arc<Fleet>,
    /// By the uid of the agent's pod.
    agents: Mutex<HashMap<String, JoinHandle<()>>>,
    gate: Semaphore,
    tokens: TempDir,
}

impl Drop for Kubelets {
    fn drop(&mut self) {
        self.watch.abort();
        self.shared.agents.lock().values().for_each(JoinHandle::abort);
    }
}

impl Kubelets {
    /// Registers the nodes, makes the agents' pods and begins to watch. `client` is an administrator's: kubelet,
    /// scheduler and `DaemonSet` controller are one here. Agents stream to `streams`.
    pub async fn start(client: Client, streams: Streams, options: &Options) -> Result<Self> {
        let names: Vec<String> =
            (0..options.nodes).map(|number| format!("{}-{number:04}", options.prefix)).collect();
        let shared = Arc::new(Shared {
            machines: Machines::new(names.iter().cloned()),
            fleet: Arc::new(Fleet::new(streams)),
            agents: Mutex::default(),
            gate: Semaphore::new(AT_ONCE),
            tokens: tempfile::tempdir().context("cannot make a temporary folder")?,
            client,
        });
        let mut registered = JoinSet::new();
        for name in names {
            let (shared, options) = (Arc::clone(&shared), options.clone());
            registered.spawn(async move { shared.register(&name, &options).await });
        }
        while let Some(one) = registered.join_next().await {
            one.context("a registration was lost")??;
        }
        let watch = tokio::spawn(Arc::clone(&shared).watch());
        Ok(Self { shared, watch })
    }

    /// What a container of each pod of an application (namespace, `app` label, container) uses from now on.
    pub fn demand(&self, part: (&str, &str, &str), demand: Demand) -> Result<(), Missing> {
        self.shared.machines.demand(part, demand)
    }

    /// The nodes and what runs on them.
    pub fn machines(&self) -> &Machines {
        &self.shared.machines
    }

    /// The agents.
    pub fn fleet(&self) -> &Fleet {
        &self.shared.fleet
    }

    /// Waits until the aggregator has welcomed every node's agent; how long it took.
    pub async fn wait_streams(&self, limit: Duration) -> Result<Duration> {
        let (begun, wanted) = (Instant::now(), self.shared.machines.names().count());
        loop {
            let live = self.shared.fleet.live_streams();
            if live == wanted {
                return Ok(begun.elapsed());
            }
            anyhow::ensure!(begun.elapsed() < limit, "{live} of {wanted} agents stream after {limit:?}");
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Shared {
    async fn register(&self, name: &str, options: &Options) -> Result<()> {
        let node = NodeRef::new(name).object(options.processors, options.gibibytes);
        self.create(Api::<Node>::all(self.client.clone()), node).await?;
        self.create(Api::<Pod>::namespaced(self.client.clone(), NAMESPACE), agent_pod(name)).await
    }

    /// Creates an object; one of that name that is there already stays.
    async fn create<K>(&self, api: Api<K>, object: Value) -> Result<()>
    where
        K: kube::Resource + serde::de::DeserializeOwned + serde::Serialize + Clone + std::fmt::Debug,
    {
        let _turn = self.gate.acquire().await?;
        let what = format!("{} {}", object["kind"], object["metadata"]["name"]);
        let object = serde_json::from_value(object).with_context(|| format!("{what} is no such object"))?;
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            other => other.map(drop).with_context(|| format!("cannot create {what}")),
        }
    }

    /// Follows all pods of the cluster until it is aborted.
    async fn watch(self: Arc<Self>) {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let mut events = pin!(watcher(pods, watcher::Config::default()));
        let mut listed = HashSet::new();
        loop {
            let event = match events.try_next().await {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "the watch of pods broke, it goes on");
                    sleep(Duration::from_millis(200)).await;
                    continue;
                }
            };
            match event {
                watcher::Event::Init => listed.clear(),
                watcher::Event::InitApply(pod) => {
                    listed.extend(pod.metadata.uid.clone());
                    self.take(&pod);
                }
                watcher::Event::InitDone => {
                    let gone = self.machines.pods().into_iter().filter(|uid| !listed.contains(uid));
                    gone.for_each(|uid| self.end(&uid));
                }
                watcher::Event::Apply(pod) => self.take(&pod),
                watcher::Event::Delete(pod) => {
                    if let Some(uid) = &pod.metadata.uid {
                        self.end(uid);
                    }
                }
            }
        }
    }

    /// Does what a pod's state asks for; what the API server is to be told is told beside it.
    fn take(self: &Arc<Self>, pod: &Pod) {
        let Some(next) = step(pod) else { return };
        let metadata = &pod.metadata;
        let (Some(namespace), Some(name), Some(uid)) =
            (metadata.namespace.clone(), metadata.name.clone(), metadata.uid.clone())
        else {
            return;
        };
        let to = To { namespace, name, uid };
        match next {
            Step::Bind => {
                if let Some(node) = self.machines.place(&to.uid) {
                    self.tell(to, Tell::Bind(node));
                }
            }
            Step::Run(assigned) => self.run(to, &assigned),
            Step::End => {
                let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
                // A pod without a node has no kubelet; one of another node has another.
                if node.is_none_or(|node| self.machines.node(node).is_some()) {
                    self.end(&to.uid);
                    if metadata.deletion_timestamp.is_some() {
                        self.tell(to, Tell::Gone);
                    }
                }
            }
        }
    }

    fn run(self: &Arc<Self>, to: To, pod: &Assigned) {
        let Some(node) = self.machines.node(&pod.node) else { return };
        match self.machines.begin(pod) {
            Ok(true) => {
                if is_agent(pod) {
                    let file: PathBuf = self.tokens.path().join(&pod.node);
                    let fleet = Arc::clone(&self.fleet);
                    let agent = agent::run(self.client.clone(), fleet, node.clone(), pod.clone(), file);
                    self.agents.lock().insert(pod.uid.clone(), tokio::spawn(agent));
                }
                self.tell(to, Tell::Running(running(pod, jiff::Timestamp::now())));
            }
            Ok(false) => {}
            Err(error) => tracing::error!(pod = pod.name, %error, "a pod cannot be started"),
        }
    }

    fn end(&self, uid: &str) {
        if let Some(agent) = self.agents.lock().remove(uid) {
            agent.abort();
            if let Some(node) = self.machines.node_of(uid) {
                self.fleet.stop(&node);
            }
        }
        if let Err(error) = self.machines.end(uid) {
            tracing::error!(uid, %error, "a pod cannot be ended");
        }
    }

    fn tell(self: &Arc<Self>, to: To, what: Tell) {
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = shared.gate.acquire().await;
            for attempt in 1..=ATTEMPTS {
                match what.send(&shared.client, &to).await {
                    // Gone or changed meanwhile: the watch says what to do now.
                    Ok(()) => return,
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => return,
                    Err(error) if attempt == ATTEMPTS => {
                        tracing::error!(pod = to.name, %error, "the API server cannot be told of a pod");
                    }
                    Err(_) => sleep(Duration::from_millis(100) * attempt).await,
                }
            }
        });
    }
}

/// Which pod.
#[derive(Debug, Clone)]
struct To {
    namespace: String,
    name: String,
    uid: String,
}

/// What the API server is told.
#[derive(Debug)]
enum Tell {
    Bind(String),
    Running(Value),
    Gone,
}

impl Tell {
    async fn send(&self, client: &Client, to: &To) -> Result<(), kube::Error> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &to.namespace);
        match self {
            Self::Bind(node) => {
                let binding = json!({
                    "apiVersion": "v1", "kind": "Binding",
                    "metadata": {"namespace": to.namespace, "name": to.name, "uid": to.uid},
                    "target": {"apiVersion": "v1", "kind": "Node", "name": node},
                });
                let parameters = PostParams::default();
                pods.create_subresource::<_, Value>("binding", &to.name, &parameters, &binding)
                    .await
                    .map(drop)
            }
            Self::Running(status) => {
                let patch = Patch::Merge(status);
                pods.patch_status(&to.name, &PatchParams::default(), &patch).await.map(drop)
            }
            Self::Gone => {
                let this = Preconditions { uid: Some(to.uid.clone()), resource_version: None };
                let parameters = DeleteParams::default().grace_period(0).preconditions(this);
                pods.delete(&to.name, &parameters).await.map(drop)
            }
        }
    }
}
