//! The whole way of a request: real kubectl → stand-in → a server behind an APIService, over TLS on both legs. The server
//! is a few fixed answers that remember who asked.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, process::Output, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use parking_lot::Mutex;
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use waggle_stand_in::{Authority, Rule, StandIn};

type Seen = Arc<Mutex<Vec<(String, HeaderMap)>>>;

/// Serves `metrics.k8s.io/v1beta1`; only the front proxy's CA gets in.
async fn metrics_server(front_proxy: &Authority, ca: &Authority) -> (SocketAddr, Seen) {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(front_proxy.der()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (chain, key) = ca.serving(&["waggle.waggle-system.svc"]).unwrap().to_rustls().unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, log) = (acceptor.clone(), Arc::clone(&log));
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request: Request<Incoming>| {
                    log.lock().push((request.uri().path().to_owned(), request.headers().clone()));
                    let response = answer(request.uri().path());
                    async move { Ok::<_, std::convert::Infallible>(response) }
                });
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (address, seen)
}

fn answer(path: &str) -> Response<Full<Bytes>> {
    let metadata = |name: &str| json!({"name": name, "creationTimestamp": null});
    let body = match path {
        "/apis/metrics.k8s.io/v1beta1" => json!({
            "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "metrics.k8s.io/v1beta1",
            "resources": [{"name": "nodes", "singularName": "", "namespaced": false, "kind": "NodeMetrics", "verbs": ["get", "list"]}],
        }),
        "/apis/metrics.k8s.io/v1beta1/nodes" => json!({
            "kind": "NodeMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "metadata": {},
            "items": [{
                "metadata": metadata("node-a"), "timestamp": "2026-01-01T00:00:00Z", "window": "15s",
                "usage": {"cpu": "250m", "memory": "512Mi"},
            }],
        }),
        _ => {
            let mut missing = Response::new(Full::default());
            *missing.status_mut() = http::StatusCode::NOT_FOUND;
            return missing;
        }
    };
    let mut response = Response::new(Full::new(body.to_string().into()));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("application/json"));
    response
}

async fn kubectl(kubeconfig: &str, args: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig).unwrap();
    let mut command = tokio::process::Command::new("kubectl");
    command.arg("--kubeconfig").arg(&file).arg("--cache-dir").arg(directory.path()).args(args);
    command.output().await.unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn available(stand_in: &StandIn) {
    let wait = async {
        while !stand_in.is_available("v1beta1.metrics.k8s.io") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
}

fn node(name: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name}, "status": {
        "capacity": {"cpu": "2", "memory": "1Gi"}, "allocatable": {"cpu": "2", "memory": "1Gi"},
    }})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_top_goes_through_the_front_proxy() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let ca = Authority::new("waggle-ca").unwrap();
    let (address, seen) = metrics_server(stand_in.front_proxy_ca(), &ca).await;
    stand_in.apply(node("node-a")).unwrap();
    stand_in.register("metrics.k8s.io", "v1beta1", ("waggle-system", "waggle"), ca.pem()).unwrap();
    let admin = stand_in.admin_kubeconfig().unwrap();

    let before = stdout(&kubectl(&admin, &["get", "apiservice", "v1beta1.metrics.k8s.io"]).await);
    assert!(before.contains("False (ServiceNotFound)"), "{before}");

    stand_in.backend("waggle-system", "waggle", address);
    available(&stand_in).await;
    let table = stdout(&kubectl(&admin, &["get", "apiservice", "v1beta1.metrics.k8s.io"]).await);
    let words: Vec<&str> = table.split_whitespace().collect();
    assert_eq!(words[..4], ["NAME", "SERVICE", "AVAILABLE", "AGE"]);
    assert_eq!(words[4..7], ["v1beta1.metrics.k8s.io", "waggle-system/waggle", "True"]);

    let top = stdout(&kubectl(&admin, &["top", "nodes"]).await);
    let words: Vec<&str> = top.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words, ["node-a", "250m", "12%", "512Mi", "50%"]);

    let resources = stdout(&kubectl(&admin, &["api-resources", "-o", "name"]).await);
    assert!(resources.contains("nodes.metrics.k8s.io"), "{resources}");

    stand_in.allow(Rule::resources("viewers", &["list"], "metrics.k8s.io", &["nodes"]));
    let groups = vec!["viewers".to_owned(), "others".to_owned(), "üben".to_owned()];
    let token = stand_in.issue_user_token("jürgen", &groups).unwrap();
    let raw = ["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"];
    seen.lock().clear();
    stdout(&kubectl(&stand_in.token_kubeconfig(&token), &raw).await);
    let asked = seen.lock().clone();
    let headers = &asked.iter().find(|(path, _)| path.ends_with("/nodes")).unwrap().1;
    assert_eq!(headers["x-remote-user"].as_bytes(), "jürgen".as_bytes());
    let groups: Vec<&[u8]> =
        headers.get_all("x-remote-group").iter().map(http::HeaderValue::as_bytes).collect();
    assert_eq!(groups, [&b"viewers"[..], b"others", "üben".as_bytes(), b"system:authenticated"]);
    assert!(!headers.contains_key("authorization"));

    let outsider = stand_in.kubeconfig("bob", &[]).unwrap();
    let refused = kubectl(&outsider, &raw).await;
    assert!(!refused.status.success());
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("Forbidden") && text.contains("bob"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_with_a_certificate_of_another_ca_is_not_available() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let (ca, other) = (Authority::new("waggle-ca").unwrap(), Authority::new("another-ca").unwrap());
    let (address, _) = metrics_server(stand_in.front_proxy_ca(), &other).await;
    stand_in.backend("waggle-system", "waggle", address);
    stand_in.register("metrics.k8s.io", "v1beta1", ("waggle-system", "waggle"), ca.pem()).unwrap();
    let admin = stand_in.admin_kubeconfig().unwrap();
    let reason =
        || async { stdout(&kubectl(&admin, &["get", "apiservice", "v1beta1.metrics.k8s.io"]).await) };
    tokio::time::timeout(Duration::from_secs(10), async {
        while !reason().await.contains("False (FailedDiscoveryCheck)") {}
    })
    .await
    .unwrap();
    let refused = kubectl(&admin, &["get", "--raw", "/apis/metrics.k8s.io/v1beta1/nodes"]).await;
    assert!(String::from_utf8_lossy(&refused.stderr).contains("(ServiceUnavailable)"), "{refused:?}");
}
