//! From metrics-server and back, step by step as `docs/migration.md` says, with metrics-server itself and an autoscaler that looks
//! every second.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{LIMIT, asker::Asker, install, world::World};
use crate::{
    central::NAMESPACE,
    control_plane::ControlPlane,
    metrics_server::{self, MetricsServer},
    nodes::condition,
};

/// What the page has people merge into the registration, with the CA's place still open as the shell has it.
pub const THERE: &str = r#"{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":null}},"spec":{"insecureSkipTLSVerify":false,"caBundle":"'$CA'","service":{"namespace":"waggle-system","name":"waggle-aggregator","port":443}}}"#;
/// The same on the way back.
pub const BACK: &str = r#"{"spec":{"insecureSkipTLSVerify":true,"caBundle":null,"service":{"namespace":"kube-system","name":"metrics-server","port":443}}}"#;

const REGISTRATION: &str = "v1beta1.metrics.k8s.io";
/// The Deployment that is scaled, and its autoscaler.
const SCALED: &str = "steady";
/// For so long the autoscaler looks on after the last change.
const AFTER: Duration = Duration::from_secs(20);
/// What both servers' manifests have: whoever is registered keeps it.
const SHARED: [&str; 2] = [REGISTRATION, "system:aggregated-metrics-reader"];

/// metrics-server, which comes and goes.
pub struct Beside {
    program: PathBuf,
    server: Option<MetricsServer>,
}

impl Beside {
    /// Not there yet.
    pub fn from_environment() -> Result<Self> {
        Ok(Self { program: metrics_server::program()?, server: None })
    }

    /// Starts it behind its Service, and waits until it serves every node.
    async fn start(&mut self, world: &mut World) -> Result<()> {
        let nodes = world.cluster.machines.len();
        let server = MetricsServer::start(&self.program, &world.cluster.plane).await?;
        world.cluster.plane.apply(&metrics_server::service()).await?;
        world
            .cluster
            .wait("metrics-server serves every node", LIMIT, async |_| Ok(server.serves(nodes).await))
            .await?;
        self.server = Some(server);
        Ok(())
    }

    async fn end(&mut self, plane: &ControlPlane) -> Result<()> {
        self.server.take().context("metrics-server does not run")?.check()?;
        plane
            .kubectl(&["-n", "kube-system", "delete", "service,endpointslice", "metrics-server"])
            .await
            .map(drop)
    }
}

/// From a cluster with metrics-server to one with Waggle alone.
pub async fn there(world: &mut World, beside: &mut Beside) -> Result<String> {
    beside.start(world).await?;
    world.cluster.plane.apply(&[metrics_server::registration(&world.cluster.plane)?]).await?;
    world.cluster.plane.apply(&scaled()).await?;
    world
        .cluster
        .wait("the autoscaler follows metrics-server", LIMIT, async |plane| {
            Ok(Following::look(plane).await.is_ok())
        })
        .await?;
    // A pod that has only just started may still be left out of a sync.
    sleep(AFTER).await;
    let watched = Watched::start(world).await?;

    let overlay = |name: &str| World::shipped(name).display().to_string();
    let plane = &world.cluster.plane;
    plane.kubectl(&["apply", "-k", &overlay("beside-metrics-server")]).await?;
    for workload in ["deployment/waggle-aggregator", "daemonset/waggle-agent"] {
        plane.kubectl(&["-n", NAMESPACE, "rollout", "status", workload, "--timeout=8m"]).await?;
    }
    ensure!(
        registered(plane).await? == "metrics-server",
        "installed beside it, Waggle took the registration"
    );
    let ca = plane.get(&format!("/api/v1/namespaces/{NAMESPACE}/configmaps/waggle-ca")).await?;
    let ca = STANDARD.encode(ca["data"]["ca.crt"].as_str().context("no bundle is published")?);
    patch(plane, &THERE.replace("'$CA'", &ca)).await?;
    plane.kubectl(&["top", "nodes"]).await?;
    plane.kubectl(&["apply", "-k", &overlay("default")]).await?;
    beside.end(plane).await?;

    let lists = watched.end(world).await?;
    ensure!(registered(&world.cluster.plane).await? == "waggle-aggregator", "somebody else is registered");
    Ok(format!("{lists}; {}", world.numbers_are_right().await?))
}

/// And back, until nothing of Waggle is left.
pub async fn back(world: &mut World, beside: &mut Beside) -> Result<String> {
    let watched = Watched::start(world).await?;
    beside.start(world).await?;
    let plane = &world.cluster.plane;
    patch(plane, BACK).await?;
    plane.kubectl(&["delete", "apiservice", "v1.metrics.k8s.io"]).await?;
    plane.apply(&[metrics_server::registration(plane)?]).await?;
    let overlay = World::shipped("beside-metrics-server").display().to_string();
    plane.kubectl(&["delete", "-k", &overlay, "--wait=true", "--timeout=120s"]).await?;
    let left = install::nothing_is_left(world, &SHARED).await?;
    let lists = watched.end(world).await?;
    ensure!(registered(&world.cluster.plane).await? == "metrics-server", "somebody else is registered");
    Ok(format!("{lists}; {left}"))
}

/// Users and an autoscaler who are asked, at the end, whether they missed anything.
struct Watched {
    asker: Asker,
    before: Following,
    begun: Instant,
}

impl Watched {
    async fn start(world: &World) -> Result<Self> {
        let before = Following::look(&world.cluster.plane).await?;
        Ok(Self { asker: Asker::start(world).await?, before, begun: Instant::now() })
    }

    async fn end(self, world: &World) -> Result<String> {
        sleep(AFTER).await;
        let lists = self.asker.end().none_failed()?;
        let after = Following::look(&world.cluster.plane).await?;
        ensure!(after == self.before, "the autoscaler lost a sync: before {:?}, now {after:?}", self.before);
        let took = self.begun.elapsed().as_secs_f64();
        Ok(format!("{lists}; the autoscaler, which looks every second, followed all of {took:.0} s"))
    }
}

/// Since when an autoscaler follows its metric without a gap, and how often it has warned of one. One sync without an answer changes the instant,
/// and is warned of unless there were many warnings before.
#[derive(Debug, PartialEq, Eq)]
struct Following {
    since: String,
    warnings: u64,
}

impl Following {
    /// An error if it does not follow.
    async fn look(plane: &ControlPlane) -> Result<Self> {
        let path = format!("/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers/{SCALED}");
        let autoscaler = plane.get(&path).await?;
        let conditions = &autoscaler["status"]["conditions"];
        ensure!(condition(&autoscaler, "ScalingActive"), "it does not follow: {conditions}");
        let active =
            conditions.as_array().into_iter().flatten().find(|known| known["type"] == "ScalingActive");
        let since = active.and_then(|known| known["lastTransitionTime"].as_str()).context("since when?")?;
        let selector =
            format!("involvedObject.kind=HorizontalPodAutoscaler,involvedObject.name={SCALED},type=Warning");
        let events =
            plane.get(&format!("/api/v1/namespaces/default/events?fieldSelector={selector}")).await?;
        let counts = events["items"].as_array().context("a list without items")?.iter();
        let warnings = counts.map(|event| event["count"].as_u64().unwrap_or(1)).sum();
        Ok(Self { since: since.to_owned(), warnings })
    }
}

/// A patch of the page.
async fn patch(plane: &ControlPlane, patch: &str) -> Result<()> {
    plane.kubectl(&["patch", "apiservice", REGISTRATION, "--type=merge", "-p", patch]).await.map(drop)
}

/// The Service that is asked for `v1beta1`.
async fn registered(plane: &ControlPlane) -> Result<String> {
    let object = plane.get(&format!("/apis/apiregistration.k8s.io/v1/apiservices/{REGISTRATION}")).await?;
    ensure!(condition(&object, "Available"), "{REGISTRATION} is not Available: {}", object["status"]);
    let name = object["spec"]["service"]["name"].as_str();
    name.map(str::to_owned).context("a registration without a service")
}

/// A Deployment that uses what it requests, and an autoscaler that is content with it.
fn scaled() -> [Value; 2] {
    let metadata = json!({"namespace": "default", "name": SCALED});
    let container = json!({
        "name": "burn", "image": "waggle.local/workload:lab", "imagePullPolicy": "Never", "args": ["burn"],
        "resources": {"requests": {"cpu": "50m", "memory": "16Mi"}, "limits": {"cpu": "50m", "memory": "32Mi"}},
    });
    [
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": 1, "selector": {"matchLabels": {"app": SCALED}},
                "template": {
                    "metadata": {"labels": {"app": SCALED}},
                    "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
                },
            },
        }),
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": metadata,
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": SCALED},
                "minReplicas": 1, "maxReplicas": 2,
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 100}}}],
            },
        }),
    ]
}
