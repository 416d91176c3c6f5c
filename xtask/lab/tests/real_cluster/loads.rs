//! Pods whose use is known: the kernel enforces the limit of a burner, and a holder has written every page that it holds.

use serde_json::{Value, json};

pub const STATIC_NAMESPACE: &str = "kube-system";
/// The kubelet adds the name of its node.
pub const STATIC_POD: &str = "fixed";

/// A container of a pod: its name, what it does, its CPU limit.
struct Container {
    name: &'static str,
    work: &'static [&'static str],
    millicores: Option<u32>,
}

/// A pod and its containers.
struct Load {
    name: &'static str,
    containers: &'static [Container],
}

const BURN: &[&str] = &["burn"];

const LOADS: [Load; 6] = [
    Load { name: "burner-50", containers: &[Container { name: "burn", work: BURN, millicores: Some(50) }] },
    Load { name: "burner-100", containers: &[Container { name: "burn", work: BURN, millicores: Some(100) }] },
    Load { name: "burner-250", containers: &[Container { name: "burn", work: BURN, millicores: Some(250) }] },
    Load {
        name: "holder-64",
        containers: &[Container { name: "hold", work: &["hold", "64Mi"], millicores: None }],
    },
    Load {
        name: "holder-200",
        containers: &[Container { name: "hold", work: &["hold", "200Mi"], millicores: None }],
    },
    Load {
        name: "pair",
        containers: &[
            Container { name: "hold", work: &["hold", "48Mi"], millicores: None },
            Container { name: "sidecar", work: &["sleep"], millicores: None },
        ],
    },
];

/// What is known of a container: its pod, its name, millicores, MiB.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub pod: &'static str,
    pub container: &'static str,
    pub millicores: Option<u32>,
    pub mebibytes: Option<u32>,
}

/// Every container of which something is known.
pub fn known() -> Vec<Known> {
    let of = |load: &'static Load| {
        load.containers.iter().map(|container| Known {
            pod: load.name,
            container: container.name,
            millicores: container.millicores,
            mebibytes: match container.work {
                ["hold", size] => size.strip_suffix("Mi").and_then(|size| size.parse().ok()),
                _ => None,
            },
        })
    };
    LOADS.iter().flat_map(of).collect()
}

/// The pods, for the API.
pub fn pods() -> Vec<Value> {
    LOADS.iter().map(|load| pod("default", load.name, load.containers)).collect()
}

/// The pod that the kubelet runs by itself.
pub fn static_pod() -> Value {
    pod(
        STATIC_NAMESPACE,
        STATIC_POD,
        &[Container { name: "hold", work: &["hold", "32Mi"], millicores: None }],
    )
}

fn pod(namespace: &str, name: &str, containers: &[Container]) -> Value {
    let containers = containers.iter().map(|container| {
        let limits = match container.millicores {
            Some(cpu) => json!({"cpu": format!("{cpu}m"), "memory": "32Mi"}),
            None => json!({"memory": "256Mi"}),
        };
        // What it may use is promised, too: a burner that has to wait for others is no known load.
        let cpu = format!("{}m", container.millicores.unwrap_or(10));
        json!({
            "name": container.name,
            "image": "waggle.local/workload:lab",
            "imagePullPolicy": "Never",
            "args": container.work,
            "resources": {"requests": {"cpu": cpu, "memory": "16Mi"}, "limits": limits},
        })
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": namespace, "name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": containers.collect::<Vec<_>>()},
    })
}
