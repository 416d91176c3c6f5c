//! Waggle on real nodes: its images, and its installation by `kubectl apply -k`, as a cluster's administrator would do it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;

use super::{Places, RealCluster};
use crate::{
    control_plane::API_SERVICES,
    image::{Image, product},
};

/// What is applied.
const OVERLAY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/overlays/default");
/// From `kubectl apply` to pods that are ready: they start on an emulated machine, in half a minute if its host is idle.
const START: Duration = Duration::from_mins(8);

/// Packs the images that every node has, Waggle's own and those of the lab, into `folder`; their archives.
pub fn images(places: &Places, folder: &Path) -> Result<Vec<PathBuf>> {
    let images: Vec<Image> =
        product::shipped(&places.binaries).into_iter().chain(product::lab(&places.binaries)).collect();
    pack(&images, folder)
}

/// Packs images into `folder`; their archives.
pub fn pack(images: &[Image], folder: &Path) -> Result<Vec<PathBuf>> {
    images
        .iter()
        .map(|image| {
            let archive = folder.join(format!("{}.tar", image.name.replace(['/', ':'], "-")));
            image.write(&archive).map(|_| archive)
        })
        .collect()
}

/// Installs Waggle and waits until its pods are ready and its API is Available.
pub async fn install(cluster: &mut RealCluster) -> Result<()> {
    let overlay = Path::new(OVERLAY).display().to_string();
    cluster.plane.kubectl(&["apply", "-k", &overlay]).await?;
    wait_ready(cluster).await
}

/// Waits until Waggle's pods are ready and its API is Available.
pub async fn wait_ready(cluster: &mut RealCluster) -> Result<()> {
    cluster
        .wait("Waggle's pods are ready and its API is Available", START, async |plane| {
            let ready = |kind: &str, name: &str, want: &'static str, have: &'static str| {
                let path = format!("/apis/apps/v1/namespaces/waggle-system/{kind}/{name}");
                async move {
                    let status = plane.get(&path).await?["status"].clone();
                    let (want, have) = (status[want].as_u64(), status[have].as_u64());
                    Ok::<_, anyhow::Error>(want.is_some_and(|want| want > 0) && want == have)
                }
            };
            let aggregator = ready("deployments", "waggle-aggregator", "replicas", "readyReplicas").await?;
            let agents = ready("daemonsets", "waggle-agent", "desiredNumberScheduled", "numberReady").await?;
            let mut available = true;
            for name in API_SERVICES {
                let object =
                    plane.get(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}")).await?;
                available &= super::wait::condition(&object, "Available");
            }
            Ok(aggregator && agents && available)
        })
        .await
}

/// Waits until the metrics of every node are served.
pub async fn wait_served(cluster: &mut RealCluster) -> Result<()> {
    let wanted = cluster.machines.len();
    cluster
        .wait("metrics of every node are served", START, async |plane| {
            let list = plane.get("/apis/metrics.k8s.io/v1/nodes").await?;
            Ok(list["items"].as_array().is_some_and(|items| items.len() == wanted))
        })
        .await
}
