//! What the agent says about itself: its own metrics and checks, over plain HTTP (`/metrics`, `/livez`, `/readyz`).
//! Nothing about pods: that goes to the aggregators only.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use tokio::net::TcpListener;

use crate::report;

/// Walks may be this much later than planned before the check fails.
const LATE: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 16;

type Labelled = Family<[(&'static str, String); 1], Gauge>;

/// What the sampling thread and the endpoint share.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    interval: Duration,
    newest: Mutex<Option<Instant>>,
    streams: Mutex<Option<report::Publisher>>,
    connections: AtomicUsize,
    collector: Labelled,
    refusals: Labelled,
    walk_seconds: Histogram,
    failed: Counter,
    cgroups: Gauge,
    /// Counters of the streams.
    pub report: report::Metrics,
}

impl Telemetry {
    /// For an agent that walks once in `interval`.
    pub fn new(interval: Duration) -> Arc<Self> {
        let telemetry = Self {
            registry: Registry::default(),
            interval,
            newest: Mutex::default(),
            streams: Mutex::default(),
            connections: AtomicUsize::new(0),
            collector: Family::default(),
            refusals: Family::default(),
            walk_seconds: Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0]),
            failed: Counter::default(),
            cgroups: Gauge::default(),
            report: report::Metrics::default(),
        };
        Arc::new(telemetry.registered())
    }

    fn registered(mut self) -> Self {
        let registry = self.registry.sub_registry_with_prefix("waggle_agent");
        registry.register("collector", "1 for the collector in use", self.collector.clone());
        registry.register(
            "collector_refusals",
            "1 for each reason against a better one",
            self.refusals.clone(),
        );
        registry.register("walk_seconds", "Time that one walk takes", self.walk_seconds.clone());
        registry.register("walks_failed", "Walks that gave no snapshot", self.failed.clone());
        registry.register("cgroups", "Pod and container cgroups of the newest walk", self.cgroups.clone());
        self.report.register(&mut self.registry);
        self
    }

    /// A collector is in use, and these reasons speak against a better one.
    pub fn collector(&self, name: &str, refusals: &[String]) {
        self.collector.clear();
        self.refusals.clear();
        self.collector.get_or_create(&[("name", name.to_owned())]).set(1);
        for refusal in refusals {
            self.refusals.get_or_create(&[("reason", refusal.clone())]).set(1);
        }
    }

    /// Snapshots go to this publisher's streams from now on.
    pub fn streams(&self, publisher: report::Publisher) {
        *self.streams.lock() = Some(publisher);
    }

    /// A walk succeeded, ended at `now` and saw so many cgroups.
    pub fn walked(&self, now: Instant, took: Duration, cgroups: usize) {
        self.walk_seconds.observe(took.as_secs_f64());
        self.cgroups.set(i64::try_from(cgroups).unwrap_or(i64::MAX));
        *self.newest.lock() = Some(now);
    }

    /// A walk failed.
    pub fn failed(&self) {
        self.failed.inc();
    }

    fn answer(&self, method: &Method, path: &str, verbose: bool, now: Instant) -> Response<Full<Bytes>> {
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered here\n");
        }
        match path {
            "/metrics" => self.metrics(),
            "/livez" => checks("livez", &self.live(now), verbose),
            "/readyz" => checks("readyz", &[self.live(now).as_slice(), &self.ready()].concat(), verbose),
            _ => text(StatusCode::NOT_FOUND, "/metrics, /livez and /readyz are here\n"),
        }
    }

    /// Walks come in time. Before the first one there is nothing that a restart could repair.
    fn live(&self, now: Instant) -> Vec<(&'static str, bool)> {
        let allowed = self.interval * 3 + LATE;
        let timely = self.newest.lock().is_none_or(|newest| now.saturating_duration_since(newest) <= allowed);
        vec![("ping", true), ("collection-timely", timely)]
    }

    fn ready(&self) -> Vec<(&'static str, bool)> {
        let connected = self.streams.lock().as_ref().is_some_and(|streams| streams.live_streams() > 0);
        vec![("collector-ready", self.newest.lock().is_some()), ("stream-connected", connected)]
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        let mut body = String::new();
        if encode(&mut body, &self.registry).is_err() {
            return text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n");
        }
        let mut response = Response::new(Full::new(Bytes::from(body)));
        let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    }
}

fn checks(name: &str, checks: &[(&str, bool)], verbose: bool) -> Response<Full<Bytes>> {
    let passed = checks.iter().all(|(_, ok)| *ok);
    let status = if passed { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    if passed && !verbose {
        return text(status, "ok");
    }
    let mut body = String::new();
    for (check, ok) in checks {
        let line = if *ok { format!("[+]{check} ok\n") } else { format!("[-]{check} failed\n") };
        body.push_str(&line);
    }
    body.extend([name, " check ", if passed { "passed" } else { "failed" }, "\n"]);
    text(status, &body)
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// Answers on `listener` for as long as it is polled.
pub async fn serve(telemetry: Arc<Telemetry>, listener: TcpListener) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if telemetry.connections.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS {
            telemetry.connections.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let telemetry = Arc::clone(&telemetry);
        tokio::spawn(async move {
            let answering = Arc::clone(&telemetry);
            let service = service_fn(move |request: Request<Incoming>| {
                let verbose = request.uri().query().is_some_and(|query| query.split('&').any(is_verbose));
                let answer =
                    answering.answer(request.method(), request.uri().path(), verbose, Instant::now());
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(tcp), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the agent's own endpoint ended");
            }
            telemetry.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

fn is_verbose(parameter: &str) -> bool {
    parameter == "verbose" || parameter.starts_with("verbose=")
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn get(telemetry: &Telemetry, path: &str, now: Instant) -> (u16, String) {
        let response = telemetry.answer(&Method::GET, path, true, now);
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn checks_follow_the_walks() {
        let telemetry = Telemetry::new(Duration::from_secs(1));
        let start = Instant::now();
        let fine = "[+]ping ok\n[+]collection-timely ok\nlivez check passed\n";
        assert_eq!(get(&telemetry, "/livez", start).await, (200, fine.to_owned()));
        let unready = "[+]ping ok\n[+]collection-timely ok\n[-]collector-ready failed\n\
                       [-]stream-connected failed\nreadyz check failed\n";
        assert_eq!(get(&telemetry, "/readyz", start).await, (500, unready.to_owned()));
        telemetry.walked(start, Duration::from_millis(1), 7);
        assert_eq!(get(&telemetry, "/livez", start + Duration::from_secs(13)).await.0, 200);
        let late = "[+]ping ok\n[-]collection-timely failed\nlivez check failed\n";
        assert_eq!(get(&telemetry, "/livez", start + Duration::from_secs(14)).await, (500, late.to_owned()));
    }

    #[tokio::test]
    async fn metrics_name_the_collector_and_its_refusals() {
        let telemetry = Telemetry::new(Duration::from_secs(1));
        telemetry.collector("cgroupfs", &["no-cgroup-iter".to_owned()]);
        telemetry.walked(Instant::now(), Duration::from_millis(1), 7);
        let (status, body) = get(&telemetry, "/metrics", Instant::now()).await;
        assert_eq!(status, 200);
        for line in [
            "waggle_agent_collector{name=\"cgroupfs\"} 1",
            "waggle_agent_collector_refusals{reason=\"no-cgroup-iter\"} 1",
            "waggle_agent_cgroups 7",
            "waggle_agent_report_streams 0",
        ] {
            assert!(body.lines().any(|l| l == line), "{line} is not in\n{body}");
        }
        assert_eq!(get(&telemetry, "/else", Instant::now()).await.0, 404);
    }
}
