//! Who may do what, by the manifests: exactly what `authentication.md` in the design says, and nothing by a wildcard.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::render::{Objects, kustomize, objects};

/// Everything that a service account of Waggle's is bound to.
fn bound(objects: &Objects, account: &str) -> BTreeSet<String> {
    let ours = json!([{"kind": "ServiceAccount", "name": account, "namespace": "waggle-system"}]);
    let bindings = objects.values().filter(|object| object["kind"].as_str().unwrap().ends_with("Binding"));
    bindings
        .filter(|object| object["subjects"] == ours)
        .map(|object| {
            let within = object["metadata"]["namespace"].as_str();
            let role =
                format!("{} {}", object["roleRef"]["kind"], object["roleRef"]["name"]).replace('"', "");
            match within {
                Some(namespace) => format!("{role} in {namespace}"),
                None => role,
            }
        })
        .collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

#[test]
#[ignore = "needs kubectl and helm: cargo xtask test"]
fn accounts_have_these_rights_and_no_others() {
    let own_ca = objects(&kustomize("deploy/overlays/default"));
    let external = objects(&kustomize("deploy/overlays/cert-manager"));
    let always = [
        "ClusterRole system:auth-delegator",
        "ClusterRole waggle-aggregator",
        "Role extension-apiserver-authentication-reader in kube-system",
    ];
    let with_ca = [
        always.as_slice(),
        &["ClusterRole waggle-aggregator-ca", "Role waggle-aggregator-ca in waggle-system"],
    ]
    .concat();
    assert_eq!(bound(&own_ca, "waggle-aggregator"), set(&with_ca));
    assert_eq!(bound(&external, "waggle-aggregator"), set(&always));
    for objects in [&own_ca, &external] {
        assert_eq!(bound(objects, "waggle-agent"), set(&[]));
        // Nobody is bound to anything but these two, which the counts above would not show.
        let bindings = objects.keys().filter(|name| name.contains("Binding ")).count();
        assert_eq!(bindings, bound(objects, "waggle-aggregator").len());
    }
    let rules = |name: &str| own_ca[name]["rules"].clone();
    assert_eq!(
        rules("ClusterRole waggle-aggregator"),
        json!([{"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["list", "watch"]}])
    );
    assert_eq!(
        rules("ClusterRole waggle-aggregator-ca"),
        json!([{
            "apiGroups": ["apiregistration.k8s.io"], "resources": ["apiservices"],
            "resourceNames": ["v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"], "verbs": ["get", "patch"],
        }])
    );
    assert_eq!(
        rules("Role waggle-system/waggle-aggregator-ca"),
        json!([{
            "apiGroups": [""], "resources": ["secrets", "configmaps"], "resourceNames": ["waggle-ca"],
            "verbs": ["get", "list", "watch", "update", "patch"],
        }])
    );
    assert_eq!(
        rules("ClusterRole system:aggregated-metrics-reader"),
        json!([{
            "apiGroups": ["metrics.k8s.io"], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"],
        }])
    );
    let count = |objects: &Objects| objects.keys().filter(|name| name.contains("Role ")).count();
    assert_eq!((count(&own_ca), count(&external)), (4, 2), "roles beside those above");
}

#[test]
#[ignore = "needs kubectl and helm: cargo xtask test"]
fn tokens_and_keys_are_mounted_where_they_are_needed_only() {
    for overlay in ["default", "ha", "cert-manager", "dev"] {
        let objects = objects(&kustomize(&format!("deploy/overlays/{overlay}")));
        let agent = &objects["DaemonSet waggle-system/waggle-agent"]["spec"]["template"]["spec"];
        assert_eq!(agent["automountServiceAccountToken"], false);
        assert_eq!(
            objects["ServiceAccount waggle-system/waggle-agent"]["automountServiceAccountToken"],
            false
        );
        assert_eq!(agent["hostNetwork"], Value::Null);
        assert_eq!(agent["hostPID"], Value::Null);
        let volumes = agent["volumes"].as_array().unwrap();
        let names: Vec<&str> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["cgroup", "ca", "token"], "{overlay}");
        let token = &volumes[2]["projected"]["sources"];
        assert_eq!(token[0]["serviceAccountToken"]["audience"], "waggle.aggregator");
        assert_eq!(token.as_array().unwrap().len(), 1);
        // Agents see the CA and nothing else of the object that has it.
        let trust = if overlay == "cert-manager" { &volumes[1]["secret"] } else { &volumes[1]["configMap"] };
        assert_eq!(trust["items"], json!([{"key": "ca.crt", "path": "ca.crt"}]));
        assert_eq!(trust["optional"], Value::Null);
        for mount in agent["containers"][0]["volumeMounts"].as_array().unwrap() {
            assert_eq!(mount["readOnly"], true, "{overlay}: {mount}");
            assert_eq!(mount["subPath"], Value::Null);
        }
        for api_service in ["v1", "v1beta1"] {
            let spec = &objects[&format!("APIService {api_service}.metrics.k8s.io")]["spec"];
            assert_eq!(spec["insecureSkipTLSVerify"], Value::Null);
            assert_eq!(spec["caBundle"], Value::Null, "kept by whoever keeps the CA");
        }
    }
}
