//! A real control plane: etcd, kube-apiserver and kube-controller-manager as processes. On loopback it has Waggle's objects
//! applied and the aggregator as it ships behind the aggregation layer; there is no kubelet: nodes and pods are objects
//! that a test makes. With real nodes ([`crate::nodes`]) it has a scheduler, and nothing of Waggle: that is installed as
//! anywhere else.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use waggle_lab::control_plane::{ControlPlane, Options, Places};
//!
//! let plane = ControlPlane::start(&Places::from_environment()?, &Options::named("example")).await?;
//! plane.start_aggregator(&["--interval", "1s"]).await?;
//! plane.wait_available().await?;
//! println!("{}", plane.kubectl(&["get", "apiservices"]).await?);
//! # Ok(())
//! # }
//! ```
//!
//! Everything ends with the value, or with this program.

mod aggregator;
mod client;
pub mod lasting;
pub mod pki;
pub mod process;
pub mod registration;
pub mod servers;

use std::{
    env, fs,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use self::{
    pki::Pki,
    process::{Left, Lifetime, Process},
    servers::{Addresses, Surroundings},
};
use crate::port;

/// How long a process may take until it serves, on a machine that does other things too.
const START: Duration = Duration::from_mins(1);
const API_SERVER: &str = "kube-apiserver";
/// The registrations of metrics.k8s.io.
pub const API_SERVICES: [&str; 2] = ["v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"];

/// Where programs are and where a control plane keeps its files.
#[derive(Debug, Clone)]
pub struct Places {
    /// The folder with etcd, kube-apiserver, kube-controller-manager and kubectl.
    pub programs: PathBuf,
    /// The program waggle-aggregator.
    pub aggregator: PathBuf,
    /// A folder below which each control plane makes one of its own.
    pub state: PathBuf,
}

impl Places {
    /// As `cargo xtask` says.
    pub fn from_environment() -> Result<Self> {
        let place = |name: &str| {
            let value = env::var_os(name).with_context(|| {
                format!("{name} is not set: run cargo xtask test (or cluster), which builds what this needs")
            })?;
            Ok::<_, anyhow::Error>(PathBuf::from(value))
        };
        Ok(Self {
            programs: place("WAGGLE_CONTROL_PLANE")?,
            aggregator: place("WAGGLE_BINARIES")?.join("waggle-aggregator"),
            state: place("WAGGLE_STATE")?.join("control-plane"),
        })
    }
}

/// How a control plane shall be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of its folder: one at a time.
    pub label: String,
    /// With what its processes end.
    pub lifetime: Lifetime,
    /// What is around it.
    pub surroundings: Surroundings,
    /// Where kube-apiserver listens: the first is the one that it says; none is a free port of loopback.
    pub api_server: Vec<SocketAddr>,
    /// More flags of kube-controller-manager, such as `--horizontal-pod-autoscaler-sync-period=1s`.
    pub controller_flags: Vec<String>,
    /// More flags of kube-apiserver.
    pub api_server_flags: Vec<String>,
}

impl Options {
    /// The usual, for a test.
    pub fn named(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            lifetime: Lifetime::Tied,
            surroundings: Surroundings::Loopback,
            api_server: Vec::new(),
            controller_flags: Vec::new(),
            api_server_flags: Vec::new(),
        }
    }
}

/// A running control plane. Its methods take `&self`, so that tests can share one.
#[derive(Debug)]
pub struct ControlPlane {
    folder: PathBuf,
    places: Places,
    lifetime: Lifetime,
    pki: Pki,
    addresses: Addresses,
    kubeconfig: PathBuf,
    aggregator: aggregator::Place,
    running: Mutex<Option<Process>>,
    api_server_flags: Vec<String>,
    // Ended in this order: whoever asks ends before who answers.
    servers: Vec<Process>,
}

impl ControlPlane {
    /// Starts the processes. On loopback it applies Waggle's objects with the aggregator's port, too; nobody serves
    /// metrics.k8s.io yet: see [`ControlPlane::start_aggregator`].
    pub async fn start(places: &Places, options: &Options) -> Result<Self> {
        let folder = places.state.join(&options.label);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        let own: Vec<IpAddr> = options.api_server.iter().map(SocketAddr::ip).collect();
        let pki = Pki::create(folder.join("pki"), &own)?;
        let addresses = Addresses {
            etcd: port::free()?,
            etcd_peers: port::free()?,
            api_server: options.api_server.first().copied().map_or_else(port::free, Ok)?,
            controllers: port::free()?,
            scheduler: port::free()?,
        };
        let kubeconfig = pki.user(addresses.api_server, "admin", &["system:masters"])?;
        let mut plane = Self {
            folder,
            places: places.clone(),
            lifetime: options.lifetime,
            pki,
            addresses,
            kubeconfig,
            aggregator: aggregator::Place::choose()?,
            running: Mutex::new(None),
            api_server_flags: Vec::new(),
            servers: Vec::new(),
        };
        plane.start_servers(options).await?;
        if options.surroundings == Surroundings::Loopback {
            registration::write(&plane.folder.join("manifests"), plane.aggregator.api.port())?;
            plane.apply_manifests().await?;
        }
        plane.check()?;
        plane.listen_controllers().await?;
        Ok(plane)
    }

    async fn start_servers(&mut self, options: &Options) -> Result<()> {
        let (addresses, surroundings) = (self.addresses, options.surroundings);
        let data = self.folder.join("etcd").display().to_string();
        self.start_server("etcd", &servers::etcd(&addresses, &data))?;
        if let Some(etcd) = self.servers.first_mut() {
            etcd.listens(addresses.etcd, START).await?;
        }
        let mut flags = servers::api_server(&addresses, &self.pki, surroundings);
        flags.extend(options.api_server_flags.iter().cloned());
        self.start_server(API_SERVER, &flags)?;
        self.api_server_flags = flags;
        self.wait_ready().await?;
        let user = |name| -> Result<String> {
            Ok(self.pki.user(addresses.api_server, name, &[])?.display().to_string())
        };
        let (controllers, scheduler) =
            (user("system:kube-controller-manager")?, user("system:kube-scheduler")?);
        if surroundings == Surroundings::Nodes {
            self.start_server("kube-scheduler", &servers::scheduler(&addresses, &scheduler))?;
        }
        let mut flags = servers::controller_manager(&addresses, &self.pki, &controllers, surroundings);
        flags.extend(options.controller_flags.iter().cloned());
        self.start_server("kube-controller-manager", &flags)
    }

    /// Starts a server that is ended before those that run.
    fn start_server(&mut self, name: &str, flags: &[String]) -> Result<()> {
        let program = self.places.programs.join(name);
        let process = Process::start(name, &program, flags, &self.folder, self.lifetime)?;
        self.servers.insert(0, process);
        Ok(())
    }

    /// Kills kube-apiserver, starts it again as it was, and waits until it is ready.
    pub async fn restart_api_server(&mut self) -> Result<()> {
        let position = self.servers.iter().position(|server| server.name() == API_SERVER);
        let position = position.context("kube-apiserver was not started")?;
        self.servers.remove(position).kill()?;
        let program = self.places.programs.join(API_SERVER);
        let again =
            Process::start(API_SERVER, &program, &self.api_server_flags, &self.folder, self.lifetime)?;
        self.servers.insert(position, again);
        self.wait_ready().await
    }

    /// An error with its last words, if a server has ended.
    pub fn check(&mut self) -> Result<()> {
        self.servers.iter_mut().try_for_each(Process::check)
    }

    async fn listen_controllers(&mut self) -> Result<()> {
        let address = self.addresses.controllers;
        match self.servers.first_mut() {
            Some(controllers) => controllers.listens(address, START).await,
            None => bail!("kube-controller-manager was not started"),
        }
    }

    async fn wait_ready(&mut self) -> Result<()> {
        let client = self.client().await?;
        let begun = Instant::now();
        loop {
            let request = http::Request::get("/readyz").body(Vec::new()).context("an odd path")?;
            let answer = client.request_text(request).await;
            if answer.is_ok() {
                return Ok(());
            }
            self.check()?;
            if begun.elapsed() > START {
                bail!("kube-apiserver is not ready: {answer:?}, see {}", self.folder.display());
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The folder with logs and files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where kube-apiserver listens.
    pub fn api_server(&self) -> SocketAddr {
        self.addresses.api_server
    }

    /// Where etcd listens, without TLS.
    pub fn etcd(&self) -> SocketAddr {
        self.addresses.etcd
    }

    /// The kubeconfig of an administrator (`system:masters`).
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The authorities, and files signed by them.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// Leaves everything running when this program ends; the processes, in the order in which they are to be ended.
    pub fn leave(self) -> Vec<Left> {
        let aggregator = self.running.into_inner();
        aggregator.into_iter().chain(self.servers).filter_map(Process::leave).collect()
    }
}
