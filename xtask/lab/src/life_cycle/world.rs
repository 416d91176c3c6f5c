//! The cluster that the steps are done on, and what users see of it: nodes and burners whose use the kernel limits.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{LABEL, LIMIT};
use crate::{
    control_plane::{ControlPlane, registration},
    image::{Image, product},
    metrics::Item,
    nodes::{DRIVER, Options, Places, RealCluster, product as installation},
};

/// The tag of the version that is installed first, and of the one that it is upgraded to.
pub const VERSIONS: [&str; 2] = ["0.1.0", "next"];
/// Where the sources of the manifests are.
const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
/// What each burner may use.
const MILLICORES: f64 = 100.0;
/// How far from it a served value may be.
const TOLERANCE: f64 = 0.1;
/// A shorter window may hold the start of the container, which is no part of the load.
const WINDOW: Duration = Duration::from_secs(10);
/// How long the bundle of a new CA is published before it signs: a kubelet takes up to a minute and a half to tell its pods.
const OVERLAP: &str = "--ca-overlap=100s";

/// The cluster, and how Waggle is installed in it.
pub struct World {
    /// Control plane and machines.
    pub cluster: RealCluster,
    /// How many machines there shall be.
    pub nodes: u8,
}

impl World {
    /// Starts the cluster, with a burner on each node, and both versions' images on it.
    pub async fn start(places: &Places, nodes: u8) -> Result<Self> {
        let images = images(places, &places.state.join(LABEL).join("images"))?;
        // An autoscaler that looks every second misses what is missing for a second.
        let controller_flags = vec!["--horizontal-pod-autoscaler-sync-period=1s".to_owned()];
        let options =
            Options { nodes: vec![DRIVER; nodes.into()], images, controller_flags, ..Options::named(LABEL) };
        let mut cluster = RealCluster::start(places, &options).await?;
        cluster.wait_nodes_ready().await?;
        cluster
            .wait("pods may be made", LIMIT, async |plane| {
                Ok(plane.get("/api/v1/namespaces/default/serviceaccounts/default").await.is_ok())
            })
            .await?;
        cluster.plane.apply(&[burners()]).await?;
        Ok(Self { cluster, nodes })
    }

    /// The folder of an overlay as it is shipped.
    pub fn shipped(name: &str) -> PathBuf {
        Path::new(DEPLOY).join("overlays").join(name)
    }

    /// Whether one aggregator can go without a gap: where two nodes carry two.
    pub fn is_redundant(&self) -> bool {
        self.nodes > 1
    }

    /// Applies the manifests with the images of that version.
    pub async fn apply(&self, version: &str) -> Result<()> {
        let folder = self.overlay();
        write_overlay(&folder, self.is_redundant(), version)?;
        self.cluster.plane.kubectl(&["apply", "-k", &folder.display().to_string()]).await.map(drop)
    }

    /// The folder of the manifests as they are applied.
    pub fn overlay(&self) -> PathBuf {
        self.cluster.plane.folder().join("overlay")
    }

    /// Waits for the rollouts of both workloads to end, and for pods of that version.
    pub async fn rolled_out(&mut self, version: &str) -> Result<()> {
        let tag = format!(":{version}");
        self.cluster
            .wait(&format!("every pod of Waggle is ready and of version {version}"), LIMIT, async |plane| {
                let pods = waggle_pods(plane).await?;
                let of_version = |pod: &Value| {
                    pod["metadata"].get("deletionTimestamp").is_none()
                        && pod["spec"]["containers"][0]["image"]
                            .as_str()
                            .is_some_and(|name| name.ends_with(&tag))
                };
                Ok(!pods.is_empty() && pods.iter().all(of_version))
            })
            .await?;
        installation::wait_ready(&mut self.cluster).await
    }

    /// Waits until every node is served with a newer timestamp than now, and every burner within its limit, give or take.
    pub async fn numbers_are_right(&mut self) -> Result<String> {
        let before = self.node_times().await.unwrap_or_default();
        let nodes = self.cluster.machines.len();
        self.cluster
            .wait("every node is served anew", LIMIT, async |plane| {
                let now = node_times(plane).await?;
                Ok(now.len() == nodes
                    && now.iter().all(|(name, time)| before.get(name).is_none_or(|old| time > old)))
            })
            .await?;
        self.cluster
            .wait("every burner is served with what it may use", LIMIT, async |plane| {
                let burners = burner_items(plane).await?;
                ensure!(burners.len() == nodes, "{} of {nodes} burners are served", burners.len());
                for burner in &burners {
                    let used = burner.container("burn")?.millicores;
                    ensure!(
                        burner.window >= WINDOW && (used / MILLICORES - 1.0).abs() <= TOLERANCE,
                        "{} uses {used:.1} m over {:?}",
                        burner.name,
                        burner.window
                    );
                }
                Ok(true)
            })
            .await?;
        let used = burner_items(&self.cluster.plane).await?;
        let used: Vec<String> = used
            .iter()
            .filter_map(|item| item.container("burn").ok())
            .map(|u| format!("{:.1} m", u.millicores))
            .collect();
        Ok(format!("burners of 100 m: {}", used.join(", ")))
    }

    /// When each node that is served was measured.
    pub async fn node_times(&self) -> Result<BTreeMap<String, Timestamp>> {
        node_times(&self.cluster.plane).await
    }

    /// The pods of one workload of Waggle: `aggregator` or `agent`.
    pub async fn pods_of(&self, component: &str) -> Result<Vec<Value>> {
        let pods = waggle_pods(&self.cluster.plane).await?;
        let of = |pod: &Value| pod["metadata"]["labels"]["app.kubernetes.io/component"] == component;
        Ok(pods.into_iter().filter(of).collect())
    }
}

/// When each node that is served was measured.
pub async fn node_times(plane: &ControlPlane) -> Result<BTreeMap<String, Timestamp>> {
    let list = plane.get("/apis/metrics.k8s.io/v1beta1/nodes").await?;
    let items = list["items"].as_array().context("a list without items")?;
    items.iter().map(|item| Item::read(item).map(|item| (item.name, item.timestamp))).collect()
}

async fn burner_items(plane: &ControlPlane) -> Result<Vec<Item>> {
    let list =
        plane.get("/apis/metrics.k8s.io/v1beta1/namespaces/default/pods?labelSelector=app%3Dburner").await?;
    list["items"].as_array().context("a list without items")?.iter().map(Item::read).collect()
}

async fn waggle_pods(plane: &ControlPlane) -> Result<Vec<Value>> {
    let list = plane.get("/api/v1/namespaces/waggle-system/pods").await?;
    Ok(list["items"].as_array().cloned().unwrap_or_default())
}

/// Both versions, which differ in their name alone: a rollout is the same whatever is in the new image.
fn images(places: &Places, folder: &Path) -> Result<Vec<PathBuf>> {
    let [current, next] = VERSIONS;
    let mut all: Vec<Image> = product::shipped(&places.binaries).into_iter().collect();
    for image in &all {
        ensure!(image.name.ends_with(current), "{} is not of version {current}", image.name);
    }
    let upgraded: Vec<Image> =
        all.iter().map(|image| Image { name: image.name.replace(current, next), ..image.clone() }).collect();
    all.extend(upgraded);
    all.extend(product::lab(&places.binaries));
    installation::pack(&all, folder)
}

/// On each node one that burns what it may.
fn burners() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"namespace": "default", "name": "burner"},
        "spec": {
            "selector": {"matchLabels": {"app": "burner"}},
            "template": {
                "metadata": {"labels": {"app": "burner"}},
                "spec": {
                    "terminationGracePeriodSeconds": 1,
                    "containers": [{
                        "name": "burn", "image": "waggle.local/workload:lab", "imagePullPolicy": "Never",
                        "args": ["burn"],
                        "resources": {"limits": {"cpu": "100m", "memory": "32Mi"}},
                    }],
                },
            },
        },
    })
}

/// As an administrator would: an overlay of one's own on the shipped one, with another tag and one flag.
fn write_overlay(folder: &Path, redundant: bool, version: &str) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let base = registration::way(folder, &World::shipped(if redundant { "ha" } else { "default" }))?;
    let image = |name: &str| json!({"name": format!("waggle.local/{name}"), "newTag": version});
    let flag = json!([{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": OVERLAP}]);
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": [base],
        "images": [image("waggle-agent"), image("waggle-aggregator")],
        "patches": [{"target": {"kind": "Deployment", "name": "waggle-aggregator"}, "patch": flag.to_string()}],
    });
    let file = folder.join("kustomization.yaml");
    fs::write(&file, format!("{kustomization:#}\n"))
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The name of an object, where it must have one.
pub fn name(object: &Value) -> Result<&str> {
    match object["metadata"]["name"].as_str() {
        Some(name) => Ok(name),
        None => bail!("an object without a name: {object}"),
    }
}
