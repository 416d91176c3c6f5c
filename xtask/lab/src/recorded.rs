//! What metrics-server answers where nothing runs, request by request: the recording that Waggle's answers are compared with by
//! `aggregator/tests/contract/recorded.rs`.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    control_plane::{ControlPlane, Options, Places},
    metrics_server::{self, MetricsServer},
    port,
};

const GROUP: &str = "/apis/metrics.k8s.io";
/// Headers that say nothing of the API: they differ between two answers to one request, or follow from the body.
const PASSING: [&str; 5] = [
    "date",
    "audit-id",
    "content-length",
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
];
/// Headers whose values change from one recording to the next: only that they are there is written.
const CHANGING: [&str; 3] = ["etag", "last-modified", "process-start-time-unix"];
/// Bodies that are longer are left out: they are compared elsewhere, or depend on the build.
const LONGEST: usize = 1024;
const START: Duration = Duration::from_mins(1);

/// A request and its answer.
#[derive(Serialize)]
struct Recorded {
    method: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    accept: Option<&'static str>,
    status: u16,
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// Starts a control plane and metrics-server, asks, and writes one JSON object per line.
pub async fn record(into: &Path) -> Result<()> {
    let places = Places::from_environment()?;
    let plane = ControlPlane::start(&places, &Options::named("recorded")).await?;
    let address = port::free()?;
    let mut server = MetricsServer::start_at(&metrics_server::program()?, &plane, address).await?;
    server.listens(address, START).await?;
    // A denial from before the roles were there is remembered for 10 s.
    let begun = Instant::now();
    while !server.serves(0).await {
        ensure!(begun.elapsed() < START, "metrics-server never answers");
        sleep(Duration::from_millis(500)).await;
    }
    let mut lines = String::new();
    let requests = requests();
    for (method, path, accept) in &requests {
        let mut request = http::Request::builder().method(*method).uri(path.as_str());
        if let Some(accept) = accept {
            request = request.header(http::header::ACCEPT, *accept);
        }
        let answer = server.client.send(request.body(Body::empty())?).await;
        let answer = answer.with_context(|| format!("{method} {path} {accept:?}"))?;
        let (head, body) = answer.into_parts();
        let bytes = body.collect().await.with_context(|| format!("{method} {path}"))?.to_bytes();
        let headers = head.headers.iter().filter(|(name, _)| !PASSING.contains(&name.as_str()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let recorded = Recorded {
            method,
            path: path.clone(),
            accept: *accept,
            status: head.status.as_u16(),
            headers: headers
                .map(|(name, value)| {
                    let changes = CHANGING.contains(&name.as_str());
                    (name.to_string(), if changes { "*".to_owned() } else { text(value.as_bytes()) })
                })
                .collect(),
            body: (bytes.len() <= LONGEST).then(|| String::from_utf8(bytes.to_vec()).ok()).flatten(),
        };
        lines.push_str(&serde_json::to_string(&recorded)?);
        lines.push('\n');
    }
    fs::write(into, lines).with_context(|| format!("cannot write {}", into.display()))?;
    println!("{} answers of metrics-server are in {}", requests.len(), into.display());
    Ok(())
}

type Request = (&'static str, String, Option<&'static str>);

/// Each path with each type, with each method, and lists with each parameter.
fn requests() -> Vec<Request> {
    let resources = [
        "/nodes",
        "/pods",
        "/namespaces/default/pods",
        "/nodes/none",
        "/namespaces/default/pods/none",
        "/namespaces/default/nodes",
        "/pods/none",
        "/nodes/none/status",
        "/namespaces",
        "/namespaces/default",
        "/unknown",
        "",
    ];
    let resources = resources.map(|path| format!("{GROUP}/v1beta1{path}"));
    let others = [
        "/",
        "/apis",
        "/apis/",
        GROUP,
        "/apis/metrics.k8s.io/v2/nodes",
        "/apis/unknown.io",
        "/api",
        "/version",
        "/version/",
        "/healthz",
        "/healthz/ping",
        "/healthz/none",
        "/livez",
        "/livez/ping",
        "/livez/metric-collection-timely",
        "/readyz/ping",
        "/openapi/v2",
        "/openapi/v3",
        "/metrics",
        "/statusz",
        "/flagz",
        "/logs",
        "/debug/flags/v",
        "/favicon.ico",
        "/index.html",
    ];
    let others = others.map(str::to_owned);
    let paths: Vec<&String> = resources.iter().chain(&others).collect();
    let mut requests: Vec<Request> = Vec::new();
    for path in &paths {
        requests.extend(ACCEPTS.map(|accept| ("GET", (*path).clone(), accept)));
        requests.extend(METHODS.map(|method| (method, (*path).clone(), None)));
    }
    for list in &resources[..3] {
        requests.extend(PARAMETERS.map(|parameters| ("GET", format!("{list}?{parameters}"), None)));
    }
    for parameters in
        ["timeout=1s", "timeout=x", "timeout=-1s", "timeout=0", "pretty=true", "labelSelector=x"]
    {
        requests.push(("GET", format!("{GROUP}/v1beta1/nodes/none?{parameters}"), None));
    }
    for parameters in ["verbose", "exclude=ping", "exclude=none", "verbose&exclude=ping"] {
        requests.extend(["/healthz", "/livez"].map(|path| ("GET", format!("{path}?{parameters}"), None)));
    }
    requests
}

const METHODS: [&str; 6] = ["HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const ACCEPTS: [Option<&str>; 14] = [
    None,
    Some("application/json"),
    Some("application/yaml"),
    Some("application/vnd.kubernetes.protobuf"),
    Some("application/vnd.kubernetes.protobuf, application/json"),
    Some("application/json;as=Table;g=meta.k8s.io;v=v1"),
    Some("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"),
    Some("application/json;as=APIGroupDiscoveryList;g=apidiscovery.k8s.io;v=v2"),
    Some("application/*"),
    Some("*/*"),
    Some("text/html"),
    Some("text/plain"),
    Some("application/cbor"),
    Some("text/html, application/json;q=0.5"),
];
const PARAMETERS: [&str; 30] = [
    "labelSelector=a%3Db",
    "labelSelector=a%20in%20(b,c)",
    "labelSelector=!a",
    "labelSelector=a%3D%3D%3D",
    "labelSelector=a%20in",
    "labelSelector=%3D",
    "fieldSelector=metadata.name%3Da",
    "fieldSelector=metadata.name!%3Da",
    "fieldSelector=metadata.namespace%3Ddefault",
    "fieldSelector=spec.nodeName%3Da",
    "fieldSelector=status.phase%3DRunning",
    "fieldSelector=a",
    "limit=1",
    "limit=-1",
    "limit=x",
    "continue=x",
    "resourceVersion=0",
    "resourceVersion=x",
    "resourceVersion=0&resourceVersionMatch=NotOlderThan",
    "resourceVersionMatch=Exact",
    "timeoutSeconds=1",
    "timeoutSeconds=x",
    "timeout=1s",
    "timeout=x",
    "timeout=-1s",
    "pretty=true",
    "pretty=false",
    "watch=true",
    "watch=x",
    "sendInitialEvents=true",
];
