//! The agent's own metrics and checks, served over plain HTTP (`/metrics`, `/livez`, `/readyz`). Nothing about pods: that
//! goes to the aggregators only.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    collect::{Costs, Field, Fields, Refusal, page_size},
    report,
};

mod serve;

pub use serve::{Endpoint, serve};

/// Snapshots may be this much later than planned before the check fails.
const LATE: Duration = Duration::from_secs(10);

type Labelled<const N: usize> = Family<[(&'static str, String); N], Gauge>;

/// What the sampling thread and the endpoint share.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    interval: Duration,
    newest: Mutex<Option<Instant>>,
    streams: Mutex<Option<report::Publisher>>,
    /// Why no collector can run on this node.
    unsupported: Mutex<Option<Refusal>>,
    reported_fields: Mutex<Option<Fields>>,
    connections: AtomicUsize,
    collector: Labelled<1>,
    refusals: Labelled<1>,
    fields: Labelled<2>,
    snapshot_seconds: Histogram,
    flush_seconds: Histogram,
    walk_seconds: Histogram,
    identify_seconds: Histogram,
    failed: Counter,
    cgroups: Gauge,
    seen: Gauge,
    unlisted: Gauge,
    unreadable: Gauge,
    dying: Gauge,
    cpu_seconds: Counter<f64, AtomicU64>,
    resident: Gauge,
    /// Counters of the streams.
    pub report: report::Metrics,
}

fn times() -> Histogram {
    Histogram::new([0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0])
}

impl Telemetry {
    /// For an agent that takes a snapshot once in `interval`.
    pub fn new(interval: Duration) -> Arc<Self> {
        let telemetry = Self {
            registry: Registry::default(),
            interval,
            newest: Mutex::default(),
            streams: Mutex::default(),
            unsupported: Mutex::default(),
            reported_fields: Mutex::default(),
            connections: AtomicUsize::new(0),
            collector: Family::default(),
            refusals: Family::default(),
            fields: Family::default(),
            snapshot_seconds: times(),
            flush_seconds: times(),
            walk_seconds: times(),
            identify_seconds: times(),
            failed: Counter::default(),
            cgroups: Gauge::default(),
            seen: Gauge::default(),
            unlisted: Gauge::default(),
            unreadable: Gauge::default(),
            dying: Gauge::default(),
            cpu_seconds: Counter::default(),
            resident: Gauge::default(),
            report: report::Metrics::default(),
        };
        Arc::new(telemetry.registered())
    }

    fn registered(mut self) -> Self {
        let registry = self.registry.sub_registry_with_prefix("waggle_agent");
        registry.register("collector", "1 for the collector in use", self.collector.clone());
        registry.register(
            "collector_refusals",
            "1 for each reason why a better collector is not in use, or not for every field",
            self.refusals.clone(),
        );
        registry.register("fields", "1 for the source of each field: bpf or file", self.fields.clone());
        registry.register("snapshot_seconds", "Time to take one snapshot", self.snapshot_seconds.clone());
        registry.register(
            "flush_seconds",
            "Time to flush the kernel's per-CPU counters before a walk",
            self.flush_seconds.clone(),
        );
        registry.register(
            "walk_seconds",
            "Time of one walk, all of it under the kernel's cgroup_mutex, or of reading all files",
            self.walk_seconds.clone(),
        );
        registry.register(
            "identify_seconds",
            "Time to match cgroups with pods and containers",
            self.identify_seconds.clone(),
        );
        registry.register("walks_failed", "Snapshots that could not be taken", self.failed.clone());
        registry.register(
            "cgroups",
            "Pod and container cgroups of the newest snapshot",
            self.cgroups.clone(),
        );
        registry.register("cgroups_seen", "Cgroups visited for the newest snapshot", self.seen.clone());
        registry.register(
            "cgroups_unlisted",
            "Cgroups of the newest walk that no directory listing has shown",
            self.unlisted.clone(),
        );
        registry.register(
            "cgroups_unreadable",
            "Cgroups, directories and files that could not be read for the newest snapshot",
            self.unreadable.clone(),
        );
        registry.register(
            "cgroups_dying",
            "Removed cgroups below kubepods that the kernel still holds",
            self.dying.clone(),
        );
        registry.register("cpu_seconds", "CPU time of the agent's process", self.cpu_seconds.clone());
        registry.register("resident_bytes", "Resident memory of the agent's process", self.resident.clone());
        self.report.register(&mut self.registry);
        self
    }

    /// A collector is in use, and these reasons rule out a better one. `none`: no collector can run.
    pub fn collector(&self, name: &str, refusals: &[Refusal]) {
        self.collector.clear();
        self.refusals.clear();
        self.collector.get_or_create(&[("name", name.to_owned())]).set(1);
        for refusal in refusals {
            self.refusals.get_or_create(&[("reason", refusal.reason.to_string())]).set(1);
        }
        *self.unsupported.lock() = refusals.first().filter(|_| name == "none").cloned();
    }

    /// The fields that the walk provides; files provide the others.
    pub fn fields(&self, walked: Fields) {
        if self.reported_fields.lock().replace(walked) == Some(walked) {
            return;
        }
        self.fields.clear();
        for field in Field::ALL {
            let source = if walked.contains(field) { "bpf" } else { "file" };
            let labels = [("field", field.name().to_owned()), ("source", source.to_owned())];
            self.fields.get_or_create(&labels).set(1);
        }
    }

    /// Snapshots go to this publisher's streams from now on.
    pub fn streams(&self, publisher: report::Publisher) {
        *self.streams.lock() = Some(publisher);
    }

    /// A snapshot was taken from `start` to `end` at these costs.
    pub fn sampled(&self, start: Instant, end: Instant, costs: &Costs) {
        let Costs { flush, walk, identify, seen, identified, unlisted, faulted, unreadable, dying } = *costs;
        self.snapshot_seconds.observe(end.saturating_duration_since(start).as_secs_f64());
        self.flush_seconds.observe(flush.as_secs_f64());
        self.walk_seconds.observe(walk.as_secs_f64());
        self.identify_seconds.observe(identify.as_secs_f64());
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.cgroups.set(count(identified));
        self.seen.set(count(seen));
        self.unlisted.set(count(unlisted));
        self.unreadable.set(count(unreadable.saturating_add(faulted)));
        self.dying.set(i64::try_from(dying).unwrap_or(i64::MAX));
        *self.newest.lock() = Some(end);
    }

    /// A snapshot could not be taken.
    pub fn dropped(&self) {
        self.failed.inc();
    }

    /// Snapshots are taken in time. Before the first one there is nothing that a restart could repair.
    fn live(&self, now: Instant) -> Vec<(&'static str, Result<(), String>)> {
        let allowed = self.interval * 3 + LATE;
        let timely = self.newest.lock().is_none_or(|newest| now.saturating_duration_since(newest) <= allowed);
        vec![("ping", Ok(())), ("collection-timely", timely.then_some(()).ok_or_else(String::new))]
    }

    fn ready(&self) -> Vec<(&'static str, Result<(), String>)> {
        let connected = self.streams.lock().as_ref().is_some_and(|streams| streams.live_streams() > 0);
        let collecting = match &*self.unsupported.lock() {
            Some(refusal) => Err(refusal.to_string()),
            None => self.newest.lock().map(drop).ok_or_else(String::new),
        };
        vec![
            ("collector-ready", collecting),
            ("stream-connected", connected.then_some(()).ok_or_else(String::new)),
        ]
    }

    /// The process's own figures, as of now.
    fn measure_process(&self) {
        let time = clock_gettime(ClockId::ProcessCPUTime);
        let seconds = time.tv_sec as f64 + time.tv_nsec as f64 / 1e9;
        self.cpu_seconds.inc_by((seconds - self.cpu_seconds.get()).max(0.0));
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages = statm.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok());
        if let Some(bytes) = pages.and_then(|pages| i64::try_from(pages.saturating_mul(page_size())).ok()) {
            self.resident.set(bytes);
        }
    }
}

#[cfg(test)]
mod tests;
