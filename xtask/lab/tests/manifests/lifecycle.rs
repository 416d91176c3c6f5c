//! Installed, applied again, upgraded, taken over from kustomize by helm, removed: what the aggregator wrote stays where it
//! should, and nothing is left where nothing should be. There are no nodes here: pods are not scheduled, and the aggregator
//! is a process with its account's rights.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::time::sleep;
use waggle_lab::control_plane::{API_SERVICES, ControlPlane, Options, Places};

use crate::render::{NAMESPACE, helm, output, repository};

/// What the aggregator has written: the Secret's data, the ConfigMap's, and both bundles.
async fn authority(plane: &ControlPlane) -> [Value; 4] {
    let object = async |path: String| plane.get(&path).await.unwrap();
    let data = async |kind: &str| {
        object(format!("/api/v1/namespaces/{NAMESPACE}/{kind}/waggle-ca")).await["data"].take()
    };
    let bundle = async |name: &str| {
        object(format!("/apis/apiregistration.k8s.io/v1/apiservices/{name}")).await["spec"]["caBundle"].take()
    };
    [
        data("secrets").await,
        data("configmaps").await,
        bundle(API_SERVICES[0]).await,
        bundle(API_SERVICES[1]).await,
    ]
}

/// Fails where one of them is another, and says which without showing keys.
async fn kept(plane: &ControlPlane, made: &[Value; 4], after: &str) {
    let now = authority(plane).await;
    let same: Vec<bool> = now.iter().zip(made).map(|(now, made)| now == made).collect();
    assert_eq!(same, [true; 4], "Secret, ConfigMap, v1, v1beta1: {after}");
}

/// Waits until the aggregator has written all four.
async fn published(plane: &ControlPlane) -> [Value; 4] {
    let begun = Instant::now();
    loop {
        let all = authority(plane).await;
        if all.iter().all(|one| !one.is_null()) {
            return all;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "not published: {all:?}");
        sleep(Duration::from_millis(100)).await;
    }
}

/// Keys of etcd that are Waggle's, whatever their kind.
async fn ours(plane: &ControlPlane) -> Vec<String> {
    let keys = plane.etcd_keys().await.unwrap();
    // The definition of the group in every API server's own bookkeeping is not there: metrics.k8s.io is no stored group.
    keys.into_iter()
        .filter(|key| {
            ["waggle", "metrics.k8s.io", "aggregated-metrics"].iter().any(|part| key.contains(part))
        })
        .collect()
}

async fn nothing_is_left(plane: &ControlPlane, after: &str) {
    let begun = Instant::now();
    loop {
        let left = ours(plane).await;
        if left.is_empty() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_mins(1), "left after {after}: {left:#?}");
        sleep(Duration::from_millis(200)).await;
    }
    let api_services = plane.kubectl(&["get", "apiservices", "--no-headers"]).await.unwrap();
    assert!(api_services.lines().count() > 10, "{api_services}");
    for line in api_services.lines() {
        assert!(!line.contains("metrics.k8s.io") && line.contains(" True "), "after {after}: {line}");
    }
}

fn helm_with(plane: &ControlPlane, args: &[&str]) -> String {
    let mut command: Command = helm();
    command.env("KUBECONFIG", plane.kubeconfig()).args(args).args(["-n", NAMESPACE]);
    output(&mut command).unwrap_or_else(|error| panic!("helm {args:?}: {error}"))
}

async fn replicas(plane: &ControlPlane) -> Value {
    let path = format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/waggle-aggregator");
    plane.get(&path).await.unwrap()["spec"]["replicas"].take()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real control plane: cargo xtask test"]
async fn what_is_installed_is_kept_and_what_is_removed_is_gone() {
    let places = Places::from_environment().unwrap();
    let plane = ControlPlane::start(&places, &Options::named("life-of-manifests")).await.unwrap();
    let overlay = |name: &str| repository(&format!("deploy/overlays/{name}")).display().to_string();
    let (default, ha) = (overlay("default"), overlay("ha"));
    let chart = repository("deploy/chart/waggle").display().to_string();
    // What the lab itself has applied is out of the way first, which is a removal, too.
    let lab = plane.folder().join("manifests").display().to_string();
    plane.kubectl(&["delete", "-k", &lab]).await.unwrap();
    nothing_is_left(&plane, "the lab").await;

    plane.kubectl(&["apply", "-k", &default]).await.unwrap();
    plane.start_aggregator(&[]).await.unwrap();
    let made = published(&plane).await;
    assert!(made[0]["ca.key"].as_str().unwrap().len() > 100);
    for (what, args) in [
        ("again", ["apply", "-k", &default].as_slice()),
        ("the overlay with two replicas", &["apply", "-k", &ha]),
        ("by the server", &["apply", "--server-side", "--force-conflicts", "-k", &default]),
    ] {
        plane.kubectl(args).await.unwrap();
        kept(&plane, &made, &format!("applied {what}")).await;
    }

    // kubectl takes nothing away that another overlay does not have (docs/install.md says so).
    plane.kubectl(&["-n", NAMESPACE, "delete", "poddisruptionbudget", "waggle-aggregator"]).await.unwrap();

    // helm takes over what kubectl has applied, and keeps it through upgrades of both kinds.
    helm_with(&plane, &["upgrade", "--install", "waggle", &chart, "--take-ownership", "--force-conflicts"]);
    kept(&plane, &made, "taken over by helm").await;
    // kubectl stays an owner of what both say: an upgrade that changes it has to insist.
    for how in [["--server-side=true", "--force-conflicts"].as_slice(), &["--server-side=false"]] {
        let upgrade = ["upgrade", "waggle", &chart, "--set", "aggregator.replicas=2"];
        helm_with(&plane, &[upgrade.as_slice(), how].concat());
        assert_eq!(replicas(&plane).await, 2);
        kept(&plane, &made, &format!("upgraded with {how:?}")).await;
        helm_with(&plane, &[["rollback", "waggle", "1"].as_slice(), how].concat());
        assert_eq!(replicas(&plane).await, 1);
        kept(&plane, &made, &format!("rolled back with {how:?}")).await;
    }
    helm_with(&plane, &["uninstall", "waggle"]);
    let left: Vec<String> =
        ours(&plane).await.into_iter().filter(|key| !key.contains("/waggle-system")).collect();
    assert_eq!(left, Vec::<String>::new(), "left outside of the namespace, which helm did not make");
    plane.kubectl(&["delete", "namespace", NAMESPACE]).await.unwrap();
    plane.kill_aggregator().unwrap();
    nothing_is_left(&plane, "helm uninstall").await;

    // And from nothing: helm alone, then kubectl alone.
    helm_with(&plane, &["install", "waggle", &chart, "--create-namespace"]);
    plane.start_aggregator(&[]).await.unwrap();
    let made = published(&plane).await;
    helm_with(&plane, &["upgrade", "waggle", &chart, "--set", "aggregator.replicas=2"]);
    kept(&plane, &made, "upgraded by helm alone").await;

    // On the way back to metrics-server helm lets go of the registration, and the CA stays in it.
    let keep = "apiServices.annotations.helm\\.sh/resource-policy=keep";
    helm_with(&plane, &["upgrade", "waggle", &chart, "--set", keep]);
    helm_with(&plane, &["upgrade", "waggle", &chart, "--set", "apiServices.create=false"]);
    kept(&plane, &made, "let go of by helm").await;
    plane.kubectl(&["delete", "apiservice", API_SERVICES[0], API_SERVICES[1]]).await.unwrap();
    helm_with(&plane, &["uninstall", "waggle"]);
    plane.kill_aggregator().unwrap();
    plane.kubectl(&["delete", "namespace", NAMESPACE]).await.unwrap();
    nothing_is_left(&plane, "helm alone").await;

    plane.kubectl(&["apply", "-k", &ha]).await.unwrap();
    plane.start_aggregator(&[]).await.unwrap();
    published(&plane).await;
    // The aggregator still runs, as pods that are being ended do: it must bring nothing back.
    plane.kubectl(&["delete", "-k", &ha]).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    plane.kill_aggregator().unwrap();
    nothing_is_left(&plane, "kubectl delete -k").await;
}
