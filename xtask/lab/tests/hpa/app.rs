//! An application that is scaled: its objects, and what the autoscaler must make of a served list by its documented
//! algorithm. Pure.

use serde_json::{Value, json};
use waggle_lab::metrics::Item;

pub const NAMESPACE: &str = "shop";
/// Replicas at the beginning and at least.
pub const FEWEST: i64 = 2;
/// Replicas at most.
pub const MOST: i64 = 6;
/// What `web` requests, in thousandths of a processor.
pub const REQUEST: u64 = 200;
const SIDECAR_REQUEST: u64 = 100;
/// The wanted utilization, percent.
const PERCENT: u64 = 50;
/// The wanted working set of a pod.
pub const AVERAGE_MIB: u64 = 64;
/// Within this part of the target nothing is done.
const TOLERANCE: f64 = 0.1;

/// What an autoscaler looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// CPU of the whole pod against its requests.
    CpuUtilization,
    /// Working set of the whole pod.
    MemoryAverage,
    /// CPU of one container against its request.
    ContainerCpu,
}

#[derive(Debug, Clone, Copy)]
pub struct App {
    pub name: &'static str,
    pub kind: Kind,
}

pub const APPS: [App; 3] = [
    App { name: "cart", kind: Kind::CpuUtilization },
    App { name: "store", kind: Kind::MemoryAverage },
    App { name: "till", kind: Kind::ContainerCpu },
];

impl App {
    fn containers(self) -> Vec<Value> {
        let container = |name: &str, millicores: u64| {
            let requests = json!({"cpu": format!("{millicores}m"), "memory": "16Mi"});
            json!({"name": name, "image": "waggle.test/work:1", "resources": {"requests": requests}})
        };
        match self.kind {
            Kind::ContainerCpu => vec![container("web", REQUEST), container("proxy", SIDECAR_REQUEST)],
            _ => vec![container("web", REQUEST)],
        }
    }

    pub fn deployment(self) -> Value {
        let labels = json!({"app": self.name});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"namespace": NAMESPACE, "name": self.name},
            "spec": {
                "replicas": FEWEST, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"automountServiceAccountToken": false, "containers": self.containers()},
                },
            },
        })
    }

    pub fn autoscaler(self) -> Value {
        let utilization = json!({"type": "Utilization", "averageUtilization": PERCENT});
        let average = json!({"type": "AverageValue", "averageValue": format!("{AVERAGE_MIB}Mi")});
        let metric = match self.kind {
            Kind::CpuUtilization => {
                json!({"type": "Resource", "resource": {"name": "cpu", "target": utilization}})
            }
            Kind::MemoryAverage => {
                json!({"type": "Resource", "resource": {"name": "memory", "target": average}})
            }
            Kind::ContainerCpu => json!({
                "type": "ContainerResource",
                "containerResource": {"name": "cpu", "container": "web", "target": utilization},
            }),
        };
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"namespace": NAMESPACE, "name": self.name},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.name},
                "minReplicas": FEWEST, "maxReplicas": MOST, "metrics": [metric],
                // Without it a lower number waits five minutes.
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
            },
        })
    }

    /// How many replicas the autoscaler wants for these served pods, all of which are established.
    pub fn wanted(self, served: &[Item]) -> i64 {
        let pods = served.len() as f64;
        let all = served.iter().flat_map(|item| &item.usage);
        let cpu = |only: Option<&str>| -> f64 {
            let counted = all.clone().filter(|(name, _)| only.is_none_or(|only| *name == only));
            counted.map(|(_, usage)| usage.millicores.ceil()).sum()
        };
        // Whole percents, as it computes them.
        let utilization = |used: f64, request: u64| (used * 100.0 / (request as f64 * pods)).floor();
        let ratio = match self.kind {
            Kind::CpuUtilization => utilization(cpu(None), REQUEST) / PERCENT as f64,
            Kind::ContainerCpu => utilization(cpu(Some("web")), REQUEST) / PERCENT as f64,
            Kind::MemoryAverage => {
                all.map(|(_, usage)| usage.bytes).sum::<f64>() / pods / (AVERAGE_MIB << 20) as f64
            }
        };
        let within = (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&ratio);
        let wanted = if within { pods } else { (ratio * pods).ceil() };
        #[allow(clippy::cast_possible_truncation, reason = "a small number of pods")]
        let wanted = wanted as i64;
        wanted.clamp(FEWEST, MOST)
    }
}
