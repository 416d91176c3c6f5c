//! How Waggle is registered, who may do what, and what etcd holds of it.

use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use tokio::time::sleep;
use waggle_lab::control_plane::{API_SERVICES, ControlPlane};

use crate::world::{behind, said};

/// `data` of an object in Waggle's namespace.
async fn data(plane: &ControlPlane, kind: &str) -> Value {
    plane.get(&format!("/api/v1/namespaces/waggle-system/{kind}/waggle-ca")).await.unwrap()["data"].clone()
}

async fn bundle(plane: &ControlPlane, api_service: &str) -> String {
    let path = format!("/apis/apiregistration.k8s.io/v1/apiservices/{api_service}");
    let object = plane.get(&path).await.unwrap();
    assert_eq!(object["spec"]["insecureSkipTLSVerify"], Value::Null);
    let encoded = object["spec"]["caBundle"].as_str().unwrap_or_default();
    String::from_utf8(STANDARD.decode(encoded).unwrap()).unwrap()
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn both_versions_are_available_and_verified() {
    behind(async |plane| {
        let published = data(plane, "configmaps").await["ca.crt"].as_str().unwrap().to_owned();
        assert!(published.starts_with("-----BEGIN CERTIFICATE-----"), "{published}");
        for name in API_SERVICES {
            assert_eq!(bundle(plane, name).await, published, "{name}");
        }
        let all = plane.get("/apis/apiregistration.k8s.io/v1/apiservices").await.unwrap();
        let ours =
            all["items"].as_array().unwrap().iter().filter(|one| one["spec"]["group"] == "metrics.k8s.io");
        assert_eq!(ours.count(), API_SERVICES.len());
        // An Available APIService is no proof that the bundle is right: the check does not verify. An answer is.
        for version in ["v1", "v1beta1"] {
            let list = plane.get(&format!("/apis/metrics.k8s.io/{version}/nodes")).await.unwrap();
            assert_eq!(list["kind"], "NodeMetricsList");
            assert_eq!(list["apiVersion"], format!("metrics.k8s.io/{version}"));
        }
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn who_may_view_may_read_metrics_and_nobody_else() {
    behind(async |plane| {
        let viewer = plane.user("viewer", &[]).unwrap();
        let stranger = plane.user("stranger", &[]).unwrap();
        let role = ["create", "clusterrolebinding", "viewers", "--clusterrole=view", "--user=viewer"];
        plane.kubectl(&role).await.unwrap();
        let (code, text) = said(plane, &stranger, &["get", "--raw", "/apis/metrics.k8s.io/v1/nodes"]).await;
        assert!(!code);
        let refusal = "nodes.metrics.k8s.io is forbidden: User \"stranger\" cannot list resource \"nodes\" in API \
                       group \"metrics.k8s.io\" at the cluster scope";
        assert!(text.contains(refusal), "{text}");
        let (code, text) = said(plane, &stranger, &["get", "podmetrics", "-n", "default"]).await;
        assert!(!code);
        assert!(text.contains("in the namespace \"default\""), "{text}");

        // The role view has the rule by aggregation, which a controller does.
        let begun = Instant::now();
        loop {
            let (code, text) =
                said(plane, &viewer, &["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).await;
            if code {
                assert!(text.contains("\"kind\":\"NodeMetricsList\""), "{text}");
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{text}");
            sleep(Duration::from_millis(200)).await;
        }
        let rules = plane.kubectl(&["get", "clusterrole", "view", "-o", "json"]).await.unwrap();
        assert!(rules.contains("metrics.k8s.io"), "{rules}");
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn etcd_holds_nothing_but_the_registrations() {
    behind(async |plane| {
        let keys = plane.etcd_keys().await.unwrap();
        // Hundreds: the objects that a fresh API server makes for itself.
        assert!(keys.len() > 100, "{keys:?}");
        assert!(keys.iter().any(|key| key.ends_with("/waggle-system/waggle-ca")), "{keys:?}");
        let mut ours: Vec<&String> = keys.iter().filter(|key| key.contains("metrics.k8s.io")).collect();
        ours.sort_unstable();
        let expected =
            API_SERVICES.map(|name| format!("/registry/apiregistration.k8s.io/apiservices/{name}"));
        assert_eq!(ours, expected.iter().collect::<Vec<_>>());
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn the_aggregator_has_no_rights_beyond_its_own() {
    behind(async |plane| {
        let account = "--as=system:serviceaccount:waggle-system:waggle-aggregator";
        for (args, may) in [
            (["list", "pods", "-A"].as_slice(), true),
            (&["watch", "nodes"], true),
            (&["create", "tokenreviews.authentication.k8s.io"], true),
            (&["create", "subjectaccessreviews.authorization.k8s.io"], true),
            (&["patch", "apiservices/v1beta1.metrics.k8s.io"], true),
            (&["update", "secrets/waggle-ca", "-n", "waggle-system"], true),
            (&["patch", "configmaps/waggle-ca", "-n", "waggle-system"], true),
            (&["get", "pods", "-A"], false),
            (&["delete", "pods", "-A"], false),
            (&["patch", "apiservices/v1."], false),
            (&["create", "secrets", "-n", "waggle-system"], false),
            (&["get", "secrets", "-n", "waggle-system"], false),
            (&["get", "configmaps", "-n", "waggle-system"], false),
            (&["create", "serviceaccounts/token", "-n", "waggle-system"], false),
            (&["get", "nodes", "--subresource=metrics"], false),
        ] {
            let all = [["auth", "can-i", account].as_slice(), args].concat();
            // Exit code 1 is the answer "no".
            let (_, text) = said(plane, plane.kubeconfig(), &all).await;
            let answer = text.lines().next().unwrap_or_default();
            assert_eq!(answer, if may { "yes" } else { "no" }, "{args:?}: {text}");
        }
        let agent = "--as=system:serviceaccount:waggle-system:waggle-agent";
        for verb in ["get", "list", "create", "delete"] {
            let (code, text) =
                said(plane, plane.kubeconfig(), &["auth", "can-i", agent, verb, "pods", "-A"]).await;
            assert!(!code && text.starts_with("no\n"), "{verb}: {text}");
        }
    });
}

#[test]
#[ignore = "needs a real control plane: cargo xtask test"]
fn applying_the_manifests_again_leaves_the_authority_alone() {
    behind(async |plane| {
        let before = (data(plane, "secrets").await, bundle(plane, API_SERVICES[0]).await);
        assert!(before.0["ca.key"].as_str().unwrap().len() > 100);
        plane.apply_manifests().await.unwrap();
        assert_eq!((data(plane, "secrets").await, bundle(plane, API_SERVICES[0]).await), before);
        plane.get("/apis/metrics.k8s.io/v1/nodes").await.unwrap();
    });
}
