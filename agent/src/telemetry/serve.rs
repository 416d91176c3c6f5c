//! The endpoint: `/metrics`, `/livez` and `/readyz`, `GET` and `HEAD`, a bounded number of connections.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::text::encode;
use tokio::net::TcpListener;

use super::Telemetry;
use crate::privilege::Unprivileged;

const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECTIONS: usize = 16;

impl Telemetry {
    pub(super) fn answer(
        &self,
        method: &Method,
        path: &str,
        verbose: bool,
        now: Instant,
    ) -> Response<Full<Bytes>> {
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

    fn metrics(&self) -> Response<Full<Bytes>> {
        self.measure_process();
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

fn checks(name: &str, checks: &[(&str, Result<(), String>)], verbose: bool) -> Response<Full<Bytes>> {
    let passed = checks.iter().all(|(_, result)| result.is_ok());
    let status = if passed { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
    if passed && !verbose {
        return text(status, "ok");
    }
    let mut body = String::new();
    for (check, result) in checks {
        let line = match result {
            Ok(()) => format!("[+]{check} ok\n"),
            Err(why) if why.is_empty() => format!("[-]{check} failed\n"),
            Err(why) => format!("[-]{check} failed: {why}\n"),
        };
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

/// The port of the endpoint.
#[derive(Debug)]
pub struct Endpoint(TcpListener);

impl Endpoint {
    /// Listens.
    pub async fn bind(address: SocketAddr, _: Unprivileged) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Answers at `endpoint` for as long as it is polled.
pub async fn serve(telemetry: Arc<Telemetry>, endpoint: Endpoint) {
    loop {
        let Ok((tcp, _)) = endpoint.0.accept().await else {
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
