//! A real kube-apiserver takes all that is under `deploy/`: server-side dry runs, with warnings taken for errors, the
//! definitions of custom resources as their projects ship them, and Pod Security as it is enforced.

use std::{fs, sync::LazyLock, time::Duration};

use serde_json::{Value, json};
use tokio::{
    runtime::Runtime,
    time::{Instant, sleep},
};
use waggle_lab::control_plane::{ControlPlane, Options, Places};

use crate::render::{Objects, chart, kustomize, kustomize_with, objects, place};

/// One control plane for the tests of this module.
struct World {
    runtime: Runtime,
    plane: ControlPlane,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let plane = runtime.block_on(start());
    World { runtime, plane }
});

async fn start() -> ControlPlane {
    let places = Places::from_environment().unwrap();
    let plane = ControlPlane::start(&places, &Options::named("manifests")).await.unwrap();
    // The files in the folder, not the chart below it.
    let definitions = place("WAGGLE_DEFINITIONS").display().to_string();
    // They are too long for the annotation that a client-side apply makes.
    plane.kubectl(&["apply", "--server-side", "-f", &definitions]).await.unwrap();
    plane.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=30s"]).await.unwrap();
    plane
}

/// Runs a test against it.
pub fn behind(test: impl AsyncFnOnce(&'static ControlPlane)) {
    let World { runtime, plane } = &*WORLD;
    runtime.block_on(test(plane));
}

/// Has the API server judge objects as if they were applied; how many it took.
async fn judged(plane: &ControlPlane, what: &str, yaml: &str) -> usize {
    let file = plane.folder().join("judge.yaml");
    fs::write(&file, yaml).unwrap();
    let file = file.display().to_string();
    let said = plane
        .kubectl(&["apply", "--dry-run=server", "--validate=strict", "--warnings-as-errors", "-f", &file])
        .await
        .unwrap_or_else(|error| panic!("{what}: {error:#}"));
    said.lines().filter(|line| line.ends_with("(server dry run)")).count()
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn every_kustomization_is_taken() {
    behind(async |plane| {
        for (overlay, count) in
            [("default", 22), ("ha", 23), ("cert-manager", 21), ("dev", 22), ("beside-metrics-server", 19)]
        {
            let yaml = kustomize(&format!("deploy/overlays/{overlay}"));
            assert_eq!(judged(plane, overlay, &yaml).await, count, "{overlay}");
        }
        let all =
            kustomize_with("deploy/overlays/default", &["deploy/components/prometheus", "deploy/dashboards"]);
        assert_eq!(judged(plane, "components", &all).await, 27);
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn what_the_chart_makes_is_taken() {
    let on = |path: &'static str| (path, json!(true));
    let authority = fs::read_to_string(place("WAGGLE_STATE").join("control-plane/manifests/pki/ca.crt"));
    behind(async |plane| {
        let secret = json!({"source": "secret", "secret": {"name": "mine", "ca": authority.unwrap()}});
        for (values, count) in [
            (vec![], 22),
            (vec![("aggregator.replicas", json!(2))], 23),
            (vec![("certificates.source", json!("cert-manager"))], 21),
            (vec![("certificates", secret)], 17),
            (
                vec![
                    ("certificates.source", json!("cert-manager")),
                    on("prometheus.monitors"),
                    on("prometheus.rules"),
                    on("grafana.dashboard"),
                    ("agent.seLinuxOptions", json!({"type": "spc_t"})),
                    ("images.pullSecrets", json!(["mine"])),
                ],
                26,
            ),
        ] {
            let yaml = chart(&values).unwrap();
            assert_eq!(judged(plane, &format!("{values:?}"), &yaml).await, count, "{values:?}");
        }
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn the_definitions_judge_custom_resources() {
    behind(async |plane| {
        let yaml = kustomize("deploy/overlays/cert-manager");
        let wrong = yaml.replace("rotationPolicy: Always", "rotationPolicy: Sometimes");
        assert_ne!(wrong, yaml);
        let file = plane.folder().join("wrong.yaml");
        fs::write(&file, wrong).unwrap();
        let file = file.display().to_string();
        let refused = plane.kubectl(&["apply", "--dry-run=server", "-f", &file]).await.unwrap_err();
        let text = format!("{refused:#}");
        assert!(text.contains("spec.privateKey.rotationPolicy") && text.contains("Sometimes"), "{text}");
    });
}

/// A pod as its workload would make it.
fn pod_of(objects: &Objects, workload: &str) -> Value {
    let template = &objects[workload]["spec"]["template"];
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    pod["metadata"]["name"] = json!("pod");
    pod
}

/// Makes a namespace that enforces a level, with both service accounts.
async fn namespace(plane: &ControlPlane, level: &str) {
    let account = |name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": level, "name": name}});
    let label = json!({"pod-security.kubernetes.io/enforce": level});
    let namespace =
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": level, "labels": label}});
    plane.apply(&[namespace, account("waggle-aggregator"), account("waggle-agent")]).await.unwrap();
    let begun = Instant::now();
    while plane.get(&format!("/api/v1/namespaces/{level}/configmaps/kube-root-ca.crt")).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "no root CA in {level}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Has the API server judge a pod in the namespace of a level; why it does not take it.
async fn admitted(plane: &ControlPlane, level: &str, pod: &Value) -> Result<(), String> {
    let file = plane.folder().join("pod.json");
    fs::write(&file, pod.to_string()).unwrap();
    let file = file.display().to_string();
    let args = ["create", "--dry-run=server", "--warnings-as-errors", "-n", level, "-f", &file];
    plane.kubectl(&args).await.map(drop).map_err(|error| format!("{error:#}"))
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn pod_security_is_as_documented() {
    behind(async |plane| {
        for level in ["restricted", "baseline", "privileged"] {
            namespace(plane, level).await;
        }
        for overlay in ["default", "ha", "cert-manager", "dev"] {
            let objects = objects(&kustomize(&format!("deploy/overlays/{overlay}")));
            let aggregator = pod_of(&objects, "Deployment waggle-system/waggle-aggregator");
            let agent = pod_of(&objects, "DaemonSet waggle-system/waggle-agent");
            assert_eq!(admitted(plane, "restricted", &aggregator).await, Ok(()), "{overlay}");
            assert_eq!(admitted(plane, "privileged", &agent).await, Ok(()), "{overlay}");
            let refused = admitted(plane, "baseline", &agent).await.unwrap_err();
            // These two things and nothing else need more than `baseline`.
            let why = refused.split_once("violates PodSecurity \"baseline:latest\": ").unwrap().1;
            let why = why.trim_end();
            assert_eq!(
                why,
                "non-default capabilities (container \"agent\" must not include \"BPF\", \"PERFMON\" in \
                 securityContext.capabilities.add), hostPath volumes (volume \"cgroup\")",
                "{overlay}"
            );
        }
    });
}
