//! How long it takes from a load that begins to a Deployment that is scaled for it, with the cluster's own autoscaler.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    sources::Clock,
    truth::{Load, Seconds},
    workloads::NAMESPACE,
};
use crate::nodes::RealCluster;

const NAME: &str = "scaled";
/// The pod is idle for so long first: the autoscaler believes no value that is of a pod's start.
const IDLE: &str = "45s";
/// From objects to a running pod.
const START: Duration = Duration::from_mins(3);
/// A load is given up on after that.
const LIMIT: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(100);

/// Makes a Deployment whose pod begins to compute, and waits until it is scaled: how long that took, or `None` if it was not.
pub async fn once(cluster: &mut RealCluster, clock: Clock) -> Result<Option<Seconds>> {
    let args = ["burst", "10m", "1s", "--after", IDLE];
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": NAMESPACE, "name": NAME},
        "spec": {
            "replicas": 1, "selector": {"matchLabels": {"app": NAME}},
            "template": {"metadata": {"labels": {"app": NAME}}, "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{
                    "name": "main", "image": "waggle.local/workload:lab", "imagePullPolicy": "Never", "args": args,
                    "resources": {"requests": {"cpu": "100m", "memory": "8Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
                }],
            }},
        },
    });
    let autoscaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"namespace": NAMESPACE, "name": NAME},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME},
            "minReplicas": 1, "maxReplicas": 2,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}}],
        },
    });
    cluster.plane.apply(&[deployment, autoscaler]).await?;
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{NAME}");
    cluster
        .wait("the pod to be scaled runs", START, async |plane| {
            Ok(plane.get(&path).await?["status"]["readyReplicas"] == 1)
        })
        .await?;
    let looked = Instant::now();
    let scaled = loop {
        let replicas = cluster.plane.get(&path).await?["spec"]["replicas"].as_u64().context("no replicas")?;
        if replicas > 1 {
            break Some(clock.now());
        }
        if looked.elapsed() > LIMIT {
            break None;
        }
        cluster.check()?;
        sleep(LOOK).await;
    };
    let load = load_begun(cluster).await?;
    cluster.plane.kubectl(&["-n", NAMESPACE, "delete", "hpa,deployment", NAME, "--wait"]).await?;
    cluster
        .wait("the scaled pods are gone", START, async |plane| {
            let path = format!("/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{NAME}");
            Ok(plane.get(&path).await?["items"].as_array().is_some_and(Vec::is_empty))
        })
        .await?;
    let took = scaled.map(|scaled| scaled - load);
    anyhow::ensure!(
        took.is_none_or(|took| took > 0.0),
        "the Deployment was scaled before its load began: {took:?} s"
    );
    Ok(took)
}

/// When the first pod began to compute, by its own log. The second may have none yet.
async fn load_begun(cluster: &RealCluster) -> Result<Seconds> {
    let selector = format!("app={NAME}");
    let logs = cluster
        .plane
        .kubectl(&["-n", NAMESPACE, "logs", "--selector", &selector, "--tail=-1", "--ignore-errors"])
        .await?;
    let spans = Load::from_log(0.0, &logs).spans;
    spans
        .iter()
        .map(|&(begin, _)| begin)
        .min_by(f64::total_cmp)
        .context("the pod to be scaled never began to compute")
}
