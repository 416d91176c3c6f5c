//! The six metric families by which dashboards and alerts know metrics-server, where they are switched on
//! (`--compatibility-metrics`). Names, labels and help are metrics-server's; a "request to the Kubelet" is an agent's
//! report here. Two of them have a label for nodes, which is why they are off by default.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{units::RealTime, view::Views};

type ByNode<M, F = fn() -> M> = Family<[(&'static str, Arc<str>); 1], M, F>;
type By<M> = Family<[(&'static str, &'static str); 1], M>;

/// The families. Clones count together.
#[derive(Debug, Clone)]
pub struct MetricsServer {
    freshness: Histogram,
    last_request: ByNode<Gauge<f64, AtomicU64>>,
    request_duration: ByNode<Histogram>,
    requests: By<Counter>,
    tick: Histogram,
}

impl Default for MetricsServer {
    fn default() -> Self {
        Self {
            freshness: Histogram::new(exponential_buckets(1.0, 1.364, 20)),
            last_request: Family::new_with_constructor(Gauge::default),
            request_duration: Family::new_with_constructor(durations),
            requests: Family::default(),
            tick: durations(),
        }
    }
}

/// The buckets of Prometheus' client library for Go.
fn durations() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl MetricsServer {
    /// Adds the families to a registry; what is stored is counted in `views` when it is asked for.
    pub fn register(&self, registry: &mut Registry, views: Views) {
        let registry = registry.sub_registry_with_prefix("metrics_server");
        registry.register(
            "api_metric_freshness_seconds",
            "Freshness of metrics exported",
            self.freshness.clone(),
        );
        registry.register(
            "kubelet_last_request_time_seconds",
            "Time of last request performed to Kubelet API since unix epoch in seconds",
            self.last_request.clone(),
        );
        registry.register(
            "kubelet_request_duration_seconds",
            "Duration of requests to Kubelet API in seconds",
            self.request_duration.clone(),
        );
        registry.register("kubelet_request", "Number of requests sent to Kubelet API", self.requests.clone());
        registry.register(
            "manager_tick_duration_seconds",
            "The total time spent collecting and storing metrics in seconds",
            self.tick.clone(),
        );
        registry.register_collector(Box::new(Stored(views)));
    }

    /// An object was answered whose values are so old.
    pub fn answered(&self, age: Duration) {
        self.freshness.observe(age.as_secs_f64());
    }

    /// A node's report was stored: when, and how long after its walk.
    pub fn reported(&self, node: &Arc<str>, at: RealTime, after: Duration) {
        let labels = [("node", Arc::clone(node))];
        self.last_request.get_or_create(&labels).set(Duration::from_nanos(at.0).as_secs_f64());
        self.request_duration.get_or_create(&labels).observe(after.as_secs_f64());
        self.requests.get_or_create(&[("success", "true")]).inc();
    }

    /// A report was not taken.
    pub fn refused(&self) {
        self.requests.get_or_create(&[("success", "false")]).inc();
    }

    /// So long a report was looked at and stored.
    pub fn took(&self, time: Duration) {
        self.tick.observe(time.as_secs_f64());
    }

    /// A node is gone, and its lines with it.
    pub fn forget(&self, node: &Arc<str>) {
        let labels = [("node", Arc::clone(node))];
        self.last_request.remove(&labels);
        self.request_duration.remove(&labels);
    }
}

/// How many nodes and containers have values.
#[derive(Debug)]
struct Stored(Views);

impl Collector for Stored {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let points: By<Gauge> = Family::default();
        let (mut nodes, mut containers) = (0, 0);
        for view in self.0.snapshot().all() {
            nodes += i64::from(view.node.is_some());
            let of_pods: usize = view.pods.iter().map(|pod| pod.usages.len()).sum();
            containers += i64::try_from(of_pods).unwrap_or(i64::MAX);
        }
        points.get_or_create(&[("type", "node")]).set(nodes);
        points.get_or_create(&[("type", "container")]).set(containers);
        let (name, help) = ("storage_points", "Number of metrics points stored");
        points.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prometheus_client::encoding::text;

    use super::*;

    #[test]
    fn the_families_are_exactly_those_of_metrics_server() {
        let (metrics, mut registry) = (MetricsServer::default(), Registry::default());
        metrics.register(&mut registry, Views::default());
        let (here, gone): (Arc<str>, Arc<str>) = ("here".into(), "gone".into());
        for node in [&here, &gone] {
            metrics.reported(node, RealTime(1_777_888_807_500_000_000), Duration::from_millis(30));
        }
        metrics.refused();
        metrics.took(Duration::from_micros(80));
        metrics.answered(Duration::from_secs(2));
        metrics.forget(&gone);
        let mut text = String::new();
        text::encode(&mut text, &registry).unwrap();
        let families: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        assert_eq!(
            families.into_iter().collect::<Vec<_>>(),
            [
                "metrics_server_api_metric_freshness_seconds histogram",
                "metrics_server_kubelet_last_request_time_seconds gauge",
                "metrics_server_kubelet_request counter",
                "metrics_server_kubelet_request_duration_seconds histogram",
                "metrics_server_manager_tick_duration_seconds histogram",
                "metrics_server_storage_points gauge",
            ]
        );
        for line in [
            "metrics_server_kubelet_last_request_time_seconds{node=\"here\"} 1777888807.5\n",
            "metrics_server_kubelet_request_total{success=\"true\"} 2\n",
            "metrics_server_kubelet_request_total{success=\"false\"} 1\n",
            "metrics_server_storage_points{type=\"node\"} 0\n",
            "metrics_server_storage_points{type=\"container\"} 0\n",
            "metrics_server_api_metric_freshness_seconds_bucket{le=\"1.364\"} 0\n",
            "metrics_server_api_metric_freshness_seconds_count 1\n",
            "metrics_server_manager_tick_duration_seconds_bucket{le=\"0.005\"} 1\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
        assert_eq!(text.matches("freshness_seconds_bucket").count(), 21, "twenty buckets and +Inf");
        assert!(!text.contains("node=\"gone\""), "{text}");
    }
}
