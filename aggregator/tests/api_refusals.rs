//! Who is refused at the API port, over real TLS and both versions of HTTP, by the real binary: each with its code, its
//! text and its counter, and nothing else disturbed.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::RootCertStore;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};
use waggle_stand_in::{Authority, Fault, Identity, Rule, StandIn, TokenSpec};

const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
const FORBIDDEN: &str = r#"nodes.metrics.k8s.io is forbidden: User "system:anonymous" cannot list resource "nodes" in API group "metrics.k8s.io" at the cluster scope"#;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Protocol {
    Http1,
    Http2,
}

struct Aggregator {
    address: SocketAddr,
    roots: RootCertStore,
    _process: Child,
    _files: tempfile::TempDir,
}

impl Aggregator {
    async fn start(stand_in: &StandIn) -> Self {
        let files = tempfile::tempdir().unwrap();
        let ca = Authority::new("waggle-ca").unwrap();
        let serving = ca.serving(&["127.0.0.1"]).unwrap();
        let write = |name: &str, text: &str| std::fs::write(files.path().join(name), text).unwrap();
        write("kubeconfig", &stand_in.aggregator_kubeconfig().unwrap());
        write("tls.crt", &serving.certificate_pem);
        write("tls.key", &serving.key_pem);
        let mut process = Command::new(env!("CARGO_BIN_EXE_waggle-aggregator"))
            .current_dir(files.path())
            .args(["--kubeconfig", "kubeconfig", "--api-bind", "127.0.0.1:0", "--ingest-bind", "127.0.0.1:0"])
            .args(["--api-cert-file", "tls.crt", "--api-key-file", "tls.key"])
            .args(["--ingest-cert-file", "tls.crt", "--ingest-key-file", "tls.key"])
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next_line().await.unwrap().unwrap();
            if let Some((_, rest)) = line.split_once(" api_address=") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        // Read to the end: a full pipe would stop the process.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let mut roots = RootCertStore::empty();
        roots.add(ca.der()).unwrap();
        let aggregator = Self { address, roots, _process: process, _files: files };
        let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), Protocol::Http2);
        let loaded = async {
            while proxy.get(NODES, &[("x-remote-user", "a"), ("x-remote-group", "system:masters")]).await.0
                != StatusCode::OK
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), loaded).await.unwrap();
        aggregator
    }

    fn caller(&self, identity: Option<&Identity>, protocol: Protocol) -> Caller {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone());
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.to_rustls().unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only();
        let connector = match protocol {
            Protocol::Http1 => connector.enable_http1().build(),
            Protocol::Http2 => connector.enable_http2().build(),
        };
        let client =
            Client::builder(TokioExecutor::new()).http2_only(protocol == Protocol::Http2).build(connector);
        Caller { client, address: self.address }
    }
}

struct Caller {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    address: SocketAddr,
}

impl Caller {
    async fn get(&self, path: &str, headers: &[(&str, &str)]) -> (StatusCode, String) {
        let mut request = Request::get(format!("https://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let response = self.client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        let code = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (code, String::from_utf8(body.to_vec()).unwrap())
    }
}

/// The value of a counter with this label, 0 when it never counted.
async fn counted(caller: &Caller, family: &str, label: &str) -> u64 {
    let masters = [("x-remote-user", "m"), ("x-remote-group", "system:masters")];
    let (code, text) = caller.get("/metrics", &masters).await;
    assert_eq!(code, StatusCode::OK, "{text}");
    let line =
        text.lines().find(|line| line.starts_with(&format!("{family}_total{{")) && line.contains(label));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

fn agent_token(stand_in: &StandIn, audiences: &[&str]) -> String {
    stand_in
        .issue_token(&TokenSpec {
            namespace: "waggle-system".to_owned(),
            service_account: "waggle-agent".to_owned(),
            pod: None,
            node: None,
            audiences: audiences.iter().map(|audience| (*audience).to_owned()).collect(),
            ttl: Duration::from_mins(10),
        })
        .unwrap()
}

fn unauthorized() -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "Unauthorized", "reason": "Unauthorized", "code": 401,
    })
}

/// What is presented (certificate, headers), and the reason it is counted under.
type Case<'a> = (&'a str, Option<&'a Identity>, &'a [(&'a str, &'a str)], &'a str);

async fn every_refusal(protocol: Protocol) {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let nobody: [&str; 0] = [];
    let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), protocol);
    let stranger = Authority::new("another").unwrap().client("front-proxy-client", &nobody).unwrap();
    let misnamed = stand_in.front_proxy_ca().client("somebody-else", &nobody).unwrap();
    let expired = stand_in.front_proxy_ca().expired_client("front-proxy-client", &nobody).unwrap();
    let forged = [("x-remote-user", "root"), ("x-remote-group", "system:masters")];
    let unknown = [("authorization", "Bearer nobody-knows-me")];
    let foreign = format!("Bearer {}", agent_token(&stand_in, &["waggle.aggregator"]));
    let agents = [("authorization", &*foreign)];
    let refused: [Case<'_>; 6] = [
        ("certificate of another CA", Some(&stranger), &forged, "front-proxy-certificate"),
        ("expired certificate", Some(&expired), &forged, "front-proxy-certificate"),
        ("right CA, wrong name", Some(&misnamed), &forged, "front-proxy-name"),
        ("right certificate, no headers", Some(stand_in.front_proxy_client()), &[], "client-certificate"),
        ("unknown token", None, &unknown, "token"),
        ("an agent's token", None, &agents, "token"),
    ];
    for (case, identity, headers, reason) in refused {
        let label = format!("reason=\"{reason}\"");
        let before = counted(&proxy, "waggle_auth_credentials_refused", &label).await;
        let (code, body) = aggregator.caller(identity, protocol).get(NODES, headers).await;
        assert_eq!(code, StatusCode::UNAUTHORIZED, "{case}");
        assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), unauthorized(), "{case}");
        let after = counted(&proxy, "waggle_auth_credentials_refused", &label).await;
        assert_eq!(after, before + 1, "{case}");
    }
    for (case, headers) in [("headers without a certificate", &forged[..]), ("no credentials", &[])] {
        let before = counted(&proxy, "waggle_auth_requests", "by=\"anonymous\"").await;
        let caller = aggregator.caller(None, protocol);
        let (code, body) = caller.get(NODES, headers).await;
        assert_eq!(code, StatusCode::FORBIDDEN, "{case}");
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(body["message"], FORBIDDEN, "{case}");
        assert_eq!(caller.get("/livez", headers).await.0, StatusCode::OK, "{case}");
        let after = counted(&proxy, "waggle_auth_requests", "by=\"anonymous\"").await;
        assert_eq!(after, before + 2, "{case}");
    }
    let impersonating = [forged[0], forged[1], ("impersonate-user", "root")];
    assert_eq!(proxy.get(NODES, &impersonating).await.0, StatusCode::FORBIDDEN);
    assert_eq!(proxy.get(NODES, &forged).await.0, StatusCode::OK, "nothing else is disturbed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_over_http1() {
    every_refusal(Protocol::Http1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_over_http2() {
    every_refusal(Protocol::Http2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn good_credentials_get_in() {
    let stand_in = StandIn::builder().start().await.unwrap();
    stand_in.allow(Rule::resources("group-0999", &["list"], "metrics.k8s.io", &["nodes"]));
    stand_in.allow(Rule::resources("alice", &["list"], "metrics.k8s.io", &["nodes"]));
    let aggregator = Aggregator::start(&stand_in).await;
    let alice = stand_in.issue_client_certificate("alice", &[]).unwrap();
    let stranger = Authority::new("another").unwrap().client::<&str>("alice", &[]).unwrap();
    let token = format!("Bearer {}", stand_in.issue_user_token("alice", &[]).unwrap());
    let names: Vec<String> = (0..1000).map(|number| format!("group-{number:04}")).collect();
    let mut crowd = vec![("x-remote-user", "bob")];
    crowd.extend(names.iter().map(|name| ("x-remote-group", name.as_str())));
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), protocol);
        let (code, body) = proxy.get(NODES, &crowd).await;
        assert_eq!(code, StatusCode::OK, "1,000 groups over {protocol:?}: {body}");
        assert_eq!(proxy.get(NODES, &crowd[..999]).await.0, StatusCode::FORBIDDEN, "without the last group");
        let (code, body) = aggregator.caller(Some(&alice), protocol).get(NODES, &[]).await;
        assert_eq!(code, StatusCode::OK, "client certificate over {protocol:?}: {body}");
        let bearer = [("authorization", &*token)];
        let (code, body) = aggregator.caller(Some(&stranger), protocol).get(NODES, &bearer).await;
        assert_eq!(code, StatusCode::OK, "a bad certificate with a good token over {protocol:?}: {body}");
    }
    assert_eq!(stand_in.requests("tokenreviews"), 1, "one review serves all requests of 10 s");

    let revoked = [("authorization", "Bearer unknown")];
    let caller = aggregator.caller(None, Protocol::Http2);
    for _ in 0..3 {
        assert_eq!(caller.get(NODES, &revoked).await.0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(stand_in.requests("tokenreviews"), 2, "rejections are kept too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_reviewed_is_refused() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let proxy = aggregator.caller(Some(stand_in.front_proxy_client()), Protocol::Http2);
    stand_in.fault("subjectaccessreviews", Fault::Status(403, None), 100);
    let (code, body) = proxy.get(NODES, &[("x-remote-user", "bob")]).await;
    assert_eq!(code, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(body.starts_with(&format!("Internal Server Error: {NODES:?}: ")), "{body}");
    stand_in.fault("tokenreviews", Fault::Status(403, None), 100);
    let token = format!("Bearer {}", stand_in.issue_user_token("alice", &[]).unwrap());
    let (code, _) = aggregator.caller(None, Protocol::Http2).get(NODES, &[("authorization", &*token)]).await;
    assert_eq!(code, StatusCode::UNAUTHORIZED);
    let masters = [("x-remote-user", "m"), ("x-remote-group", "system:masters")];
    assert_eq!(proxy.get(NODES, &masters).await.0, StatusCode::OK, "masters need no review");
}
