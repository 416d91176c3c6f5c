//! The aggregator as it ships, on loopback, and callers over real TLS that speak one version of HTTP each. Shared by the tests
//! of the API port; owns no case.
#![allow(dead_code, reason = "every test takes its part")]

pub mod reporting;

use std::{
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use waggle_stand_in::{Authority, Identity, StandIn};

pub const NODES: &str = "/apis/metrics.k8s.io/v1beta1/nodes";
/// What the front proxy sends for somebody who may do everything.
pub const MASTER: [(&str, &str); 2] = [("x-remote-user", "m"), ("x-remote-group", "system:masters")];
/// Serving certificates from files in the working directory.
pub const FILES: [&str; 8] = [
    "--api-cert-file",
    "tls.crt",
    "--api-key-file",
    "tls.key",
    "--ingest-cert-file",
    "tls.crt",
    "--ingest-key-file",
    "tls.key",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub const BOTH: [Self; 2] = [Self::Http1, Self::Http2];
}

/// A running aggregator; it is killed when this is dropped.
pub struct Aggregator {
    pub api: SocketAddr,
    pub ingest: SocketAddr,
    /// The CA of its serving certificate.
    pub roots: RootCertStore,
    log: Arc<Mutex<Vec<String>>>,
    process: Child,
    directory: Option<tempfile::TempDir>,
}

impl Aggregator {
    /// With the stand-in as API server and a certificate for 127.0.0.1; waits until it lets the front proxy in.
    pub async fn start(stand_in: &StandIn) -> Self {
        let aggregator = Self::start_with(stand_in, &[]).await;
        aggregator.knows_the_front_proxy(stand_in).await;
        aggregator
    }

    /// The same with more flags, and as soon as it listens.
    pub async fn start_with(stand_in: &StandIn, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ca = Authority::new("waggle-ca").unwrap();
        let serving = ca.serving(&["127.0.0.1"]).unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("kubeconfig", &stand_in.aggregator_kubeconfig().unwrap());
        write("tls.crt", &serving.certificate_pem);
        write("tls.key", &serving.key_pem);
        let mut aggregator = Self::launch(directory.path(), &[&FILES, flags].concat()).await;
        aggregator.roots.add(ca.der()).unwrap();
        aggregator.directory = Some(directory);
        aggregator
    }

    /// Runs the binary in `directory`, where a file `kubeconfig` must be, and waits until it listens. Its certificates are the
    /// flags' affair: see [`FILES`].
    pub async fn launch(directory: &Path, flags: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_waggle-aggregator"))
            .current_dir(directory)
            .args(["--kubeconfig", "kubeconfig", "--api-bind", "127.0.0.1:0", "--ingest-bind", "127.0.0.1:0"])
            .args(flags)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let listening = loop {
            let Some(line) = lines.next_line().await.unwrap() else {
                panic!("the aggregator ended before it listened:\n{}", log.lock().join("\n"));
            };
            log.lock().push(line.clone());
            if line.contains("api_address=") {
                break line;
            }
        };
        // Read to the end: a full pipe would stop the process.
        let more = Arc::clone(&log);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                more.lock().push(line);
            }
        });
        let address = |key: &str| {
            let (_, rest) = listening.split_once(key).unwrap();
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        let (api, ingest) = (address("api_address="), address("ingest_address="));
        Self { api, ingest, roots: RootCertStore::empty(), log, process, directory: None }
    }

    /// Waits until the authentication configuration is in use.
    pub async fn knows_the_front_proxy(&self, stand_in: &StandIn) {
        let proxy = self.caller(Some(stand_in.front_proxy_client()), Protocol::Http2);
        until("the authentication configuration", async || {
            proxy.get(NODES, &MASTER).await.status == StatusCode::OK
        })
        .await;
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        self.log.lock().join("\n")
    }

    /// SIGTERM, and the status that it ends with.
    pub async fn terminate(mut self) -> ExitStatus {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        tokio::time::timeout(Duration::from_secs(15), self.process.wait()).await.unwrap().unwrap()
    }

    /// TLS as a client of the API port has it.
    pub fn tls(&self, identity: Option<&Identity>) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone());
        match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.to_rustls().unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }

    /// Somebody who calls, over as many connections as it takes.
    pub fn caller(&self, identity: Option<&Identity>, protocol: Protocol) -> Caller {
        let connector = HttpsConnectorBuilder::new().with_tls_config(self.tls(identity)).https_only();
        let connector = match protocol {
            Protocol::Http1 => connector.enable_http1().build(),
            Protocol::Http2 => connector.enable_http2().build(),
        };
        let client =
            Client::builder(TokioExecutor::new()).http2_only(protocol == Protocol::Http2).build(connector);
        Caller { client, address: self.api }
    }

    /// One connection, which is not replaced when it ends.
    pub async fn connect(&self, identity: Option<&Identity>, protocol: Protocol) -> Connection {
        let stream = self.handshake(self.tls(identity), protocol).await.unwrap();
        Connection::open(stream, self.api, protocol).await
    }

    /// TLS alone.
    pub async fn handshake(
        &self,
        mut tls: ClientConfig,
        protocol: Protocol,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        tls.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        let stream = TcpStream::connect(self.api).await?;
        TlsConnector::from(Arc::new(tls)).connect(ServerName::from(self.api.ip()), stream).await
    }

    /// The value of the first line of `/metrics` that begins so; 0 where there is none yet.
    pub async fn metric(&self, stand_in: &StandIn, line: &str) -> u64 {
        let proxy = self.caller(Some(stand_in.front_proxy_client()), Protocol::Http2);
        let answer = proxy.get("/metrics", &MASTER).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        let value = answer.body.lines().find(|known| known.starts_with(line));
        value.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
    /// The body as it came.
    pub bytes: Bytes,
}

impl Answer {
    async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Self, hyper::Error> {
        let (head, body) = response.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let body = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Self { status: head.status, headers: head.headers, body, bytes })
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

pub struct Caller {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    address: SocketAddr,
}

impl Caller {
    pub async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        self.send(&Method::GET, path, headers).await
    }

    pub async fn send(&self, method: &Method, path: &str, headers: &[(&str, &str)]) -> Answer {
        for _ in 0..3 {
            match self.client.request(request(self.address, method, path, headers)).await {
                Ok(response) => return Answer::read(response).await.unwrap(),
                // Strangers are parted with over HTTP/2: what came too late on the old connection was not looked at.
                Err(error) if format!("{error:?}").contains("GoAway") => {}
                Err(error) => panic!("{path}: {error:?}"),
            }
        }
        panic!("{path}: three connections were given up");
    }
}

fn request(
    address: SocketAddr,
    method: &Method,
    path: &str,
    headers: &[(&str, &str)],
) -> Request<Empty<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("https://{address}{path}"));
    for (name, value) in headers {
        request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    request.body(Empty::new()).unwrap()
}

enum Sender {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

/// One connection.
pub struct Connection {
    sender: Sender,
    address: SocketAddr,
    ended: JoinHandle<Result<(), hyper::Error>>,
}

impl Connection {
    pub async fn open(stream: TlsStream<TcpStream>, address: SocketAddr, protocol: Protocol) -> Self {
        let io = TokioIo::new(stream);
        let (sender, ended) = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await.unwrap();
                (Sender::Http1(sender), tokio::spawn(connection))
            }
            Protocol::Http2 => {
                let executor = TokioExecutor::new();
                let (sender, connection) =
                    http2::Builder::new(executor).max_header_list_size(1 << 20).handshake(io).await.unwrap();
                (Sender::Http2(sender), tokio::spawn(connection))
            }
        };
        Self { sender, address, ended }
    }

    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        self.send(&Method::GET, path, headers).await
    }

    pub async fn send(
        &mut self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Answer, hyper::Error> {
        let request = request(self.address, method, path, headers);
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                let (mut head, body) = request.into_parts();
                head.headers.insert("host", HeaderValue::from_str(&self.address.to_string()).unwrap());
                head.uri = path.parse().unwrap();
                sender.send_request(Request::from_parts(head, body)).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        Answer::read(response).await
    }

    /// Whether the other side ends the connection within `patience`.
    pub async fn ends_within(&mut self, patience: Duration) -> bool {
        tokio::time::timeout(patience, &mut self.ended).await.is_ok()
    }
}

/// Waits for at most 20 s until `holds`.
pub async fn until(what: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(Duration::from_secs(20), what, holds).await;
}

/// Waits for at most that long until `holds`.
pub async fn until_within(longest: Duration, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(longest, wait).await.is_ok(), "never came within {longest:?}: {what}");
}
