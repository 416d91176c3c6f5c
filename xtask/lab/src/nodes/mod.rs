//! Real nodes: machines with containerd and kubelet that join a real control plane, all in one network namespace. Needs root.
//!
//! The thread that starts a cluster is in its network before it starts anything ([`Network::enter`]): threads, runtimes
//! and processes that it starts later are there, too.
//!
//! ```no_run
//! # fn example() -> anyhow::Result<()> {
//! use waggle_lab::nodes::{Network, Options, Places, RealCluster};
//!
//! let network = Network::create("waggle-example", 1)?;
//! network.enter()?;
//! tokio::runtime::Runtime::new()?.block_on(async {
//!     let mut cluster = RealCluster::start(&Places::from_environment()?, &Options::named("example")).await?;
//!     cluster.wait_nodes_ready().await?;
//!     println!("{}", cluster.plane.kubectl(&["get", "nodes", "-o", "wide"]).await?);
//!     Ok(())
//! })
//! # }
//! ```

pub mod addresses;
mod content;
mod dns;
pub mod forward;
pub mod lasting;
mod machine;
mod network;
mod places;
pub mod product;
mod root;
pub mod soak;
mod wait;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;

use self::root::Root;
pub use self::{
    machine::{Machine, name, stumbled},
    network::{Network, remove as remove_network},
    places::{KERNEL, Places},
    wait::condition,
};
use crate::{
    control_plane::{
        self, ControlPlane,
        process::{Left, Lifetime, Process},
        servers::Surroundings,
    },
    layout::Layout,
};

/// The cgroup driver of nodes that nobody asked for another: without systemd a machine boots in half the time and leaves its one
/// processor to what is looked at.
pub const DRIVER: Layout = Layout::Cgroupfs;

/// From the start of a machine to a node that is Ready: 12 s, minutes where the host does much else.
pub const READY: Duration = Duration::from_mins(5);

/// How a cluster shall be.
#[derive(Debug, Clone)]
pub struct Options {
    /// The name of its folder: one at a time.
    pub label: String,
    /// The machines: the cgroup driver of each.
    pub nodes: Vec<Layout>,
    /// With what its processes end.
    pub lifetime: Lifetime,
    /// Archives of the images that every node has.
    pub images: Vec<PathBuf>,
    /// Pods that the kubelet of every node runs by itself.
    pub static_pods: Vec<Value>,
    /// More flags of kube-controller-manager.
    pub controller_flags: Vec<String>,
}

impl Options {
    /// One node with the usual driver, for a test.
    pub fn named(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            nodes: vec![DRIVER],
            lifetime: Lifetime::Tied,
            images: Vec::new(),
            static_pods: Vec::new(),
            controller_flags: Vec::new(),
        }
    }
}

/// A running cluster. It ends with the value.
#[derive(Debug)]
pub struct RealCluster {
    /// Its nodes, in order. They end first.
    pub machines: Vec<Machine>,
    dns: Process,
    /// Its control plane.
    pub plane: ControlPlane,
    places: Places,
    /// What machines boot from: one for each driver that a machine had.
    roots: Vec<Root>,
    /// Archives of the images that every machine has.
    images: Vec<PathBuf>,
    lifetime: Lifetime,
    begun: Instant,
}

impl RealCluster {
    /// Starts control plane, DNS and machines. The nodes are not Ready yet.
    pub async fn start(places: &Places, options: &Options) -> Result<Self> {
        let begun = Instant::now();
        let plane_options = control_plane::Options {
            lifetime: options.lifetime,
            surroundings: Surroundings::Nodes,
            api_server: addresses::api_server(),
            controller_flags: options.controller_flags.clone(),
            ..control_plane::Options::named(&options.label)
        };
        let plane = ControlPlane::start(&places.control_plane, &plane_options).await?;
        let dns = dns::start(places, &plane, options.lifetime).await?;
        let (places, lifetime, images) = (places.clone(), options.lifetime, options.images.clone());
        let mut cluster =
            Self { machines: Vec::new(), dns, plane, places, roots: Vec::new(), images, lifetime, begun };
        for (number, &driver) in (0..).zip(&options.nodes) {
            cluster.start_machine(number, driver, &options.static_pods).await?;
        }
        Ok(cluster)
    }

    /// Starts one more machine. The network has a device for each number below that which it was made for, and each is for one
    /// machine at a time.
    pub async fn start_machine(&mut self, number: u8, driver: Layout, static_pods: &[Value]) -> Result<()> {
        let root = self.root(driver).await?;
        let machine =
            Machine::start(&self.places, &self.plane, number, &root, self.lifetime, static_pods).await?;
        self.machines.push(machine);
        Ok(())
    }

    /// What machines of a driver boot from, made for the first of them.
    async fn root(&mut self, driver: Layout) -> Result<Root> {
        if let Some(root) = self.roots.iter().find(|root| root.driver == driver) {
            return Ok(root.clone());
        }
        let root = root::make(&self.places, self.plane.folder(), driver, &self.images).await?;
        self.roots.push(root.clone());
        Ok(root)
    }

    /// How long it has been since its start.
    pub fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits until every node is Ready.
    pub async fn wait_nodes_ready(&mut self) -> Result<()> {
        let wanted = self.machines.len();
        self.wait("every node is Ready", READY, async |plane| {
            let nodes = plane.get("/api/v1/nodes").await?;
            let nodes = nodes["items"].as_array().cloned().unwrap_or_default();
            Ok(nodes.len() == wanted && nodes.iter().all(|node| condition(node, "Ready")))
        })
        .await
    }

    /// Leaves everything running when this program ends; the processes, in the order in which they are to be ended.
    pub fn leave(self) -> Vec<Left> {
        let machines = self.machines.into_iter().filter_map(Machine::leave);
        machines.chain(self.dns.leave()).chain(self.plane.leave()).collect()
    }
}
