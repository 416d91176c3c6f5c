//! Pods whose use is known, the same on each node: the kernel enforces the limit of a burner, and a holder has written every page that it holds.

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

const fn burner(name: &'static str, millicores: u32) -> Container {
    Container { name, work: BURN, millicores: Some(millicores) }
}

const fn holder(name: &'static str, work: &'static [&'static str]) -> Container {
    Container { name, work, millicores: None }
}

/// Burners take a sixth of the node's one processor: an idle emulated node needs up to half of it on a slow host, and one
/// without a reserve serves nothing. Containers share pods because the host pays for each sandbox and its network.
const LOADS: [Load; 3] = [
    Load { name: "burners", containers: &[burner("a", 20), burner("b", 50), burner("c", 100)] },
    Load {
        name: "holders",
        containers: &[holder("small", &["hold", "64Mi"]), holder("large", &["hold", "200Mi"])],
    },
    Load { name: "pair", containers: &[holder("hold", &["hold", "48Mi"]), holder("sidecar", &["sleep"])] },
];

/// What is known of a container: its pod, its name, millicores, MiB.
#[derive(Debug, Clone)]
pub struct Known {
    pub pod: String,
    pub container: &'static str,
    pub millicores: Option<u32>,
    pub mebibytes: Option<u32>,
}

/// The name of a pod on a node: as the kubelet names static ones.
pub fn on(pod: &str, node: &str) -> String {
    format!("{pod}-{node}")
}

/// Every container on a node of which something is known.
pub fn known(node: &str) -> Vec<Known> {
    let of = |load: &'static Load| {
        load.containers.iter().map(|container| Known {
            pod: on(load.name, node),
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

/// The pods of a node, for the API. No scheduler is asked: each driver has every load.
pub fn pods(node: &str) -> Vec<Value> {
    let of = |load: &Load| {
        let mut pod = pod("default", &on(load.name, node), load.containers);
        pod["spec"]["nodeName"] = node.into();
        pod
    };
    LOADS.iter().map(of).collect()
}

/// The pod that every kubelet runs by itself.
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
