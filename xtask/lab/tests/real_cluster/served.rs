//! What is served, gathered over a while.

use std::{cell::RefCell, collections::BTreeMap, convert::Infallible, time::Duration};

use tokio::time::sleep;
use waggle_lab::{metrics::Item, nodes::RealCluster};

/// The pods with the loads.
pub const PODS: &str = "/apis/metrics.k8s.io/v1/namespaces/default/pods";
/// The nodes.
pub const NODES: &str = "/apis/metrics.k8s.io/v1/nodes";

/// What is served for a container or a node, with the span of its rate in ms.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    pub begin_ms: i64,
    pub end_ms: i64,
    pub millicores: f64,
    pub bytes: f64,
}

impl Sample {
    /// How long its span is, in ms.
    pub fn length(&self) -> f64 {
        (self.end_ms - self.begin_ms) as f64
    }
}

/// By pod and container, or by node and no container, in order.
pub type Samples = BTreeMap<(String, String), Vec<Sample>>;

/// Between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks for these lists again and again, until the future is dropped.
pub async fn gather(cluster: &RealCluster, paths: &[&str], samples: &RefCell<Samples>) -> Infallible {
    loop {
        for path in paths {
            let list = cluster.plane.get(path).await.unwrap();
            for object in list["items"].as_array().unwrap() {
                add(&Item::read(object).unwrap(), &mut samples.borrow_mut());
            }
        }
        sleep(PAUSE).await;
    }
}

fn add(item: &Item, samples: &mut Samples) {
    let end_ms = item.timestamp.as_millisecond();
    let begin_ms = end_ms - i64::try_from(item.window.as_millis()).unwrap();
    for (container, usage) in &item.usage {
        let known = samples.entry((item.name.clone(), container.clone())).or_default();
        if known.last().is_none_or(|last| last.end_ms != end_ms) {
            known.push(Sample { begin_ms, end_ms, millicores: usage.millicores, bytes: usage.bytes });
        }
    }
}
