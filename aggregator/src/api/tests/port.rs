//! The API port's sockets with small limits: what holds a place, and for how long.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_util::sync::CancellationToken;
use waggle_stand_in::Authority;

use super::*;
use crate::{api::server, serve::Limits};

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(20);

struct Port {
    address: SocketAddr,
    connector: TlsConnector,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Port {
    async fn start(limits: Limits) -> Self {
        let authority = Authority::new("ca").unwrap();
        let (chain, key) = authority.serving(&["127.0.0.1"]).unwrap().to_rustls().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut serving = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        serving.alpn_protocols = vec![b"h2".to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let mut calling = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        calling.alpn_protocols = vec![b"h2".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let settings = Settings { timeout: SHORT * 3, ..Settings::default() };
        let api = Arc::new(api_with(Decision::Allow, settings));
        let stop = CancellationToken::new();
        let serving =
            tokio::spawn(server::serve(api, listener, Arc::new(serving), limits, stop.clone(), LONG));
        Self { address, connector: TlsConnector::from(Arc::new(calling)), stop, serving }
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.connector.connect(self.address.ip().into(), stream).await.unwrap()
    }

    async fn open(&self) -> (SendRequest<Empty<Bytes>>, JoinHandle<Result<(), hyper::Error>>) {
        let stream = TokioIo::new(self.connect().await);
        let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        (sender, tokio::spawn(connection))
    }
}

fn ask_as(port: &Port, user: &str) -> Request<Empty<Bytes>> {
    let uri = format!("https://{}/apis", port.address);
    Request::get(uri).header("x-user", user).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_connection_too_many_waits_for_a_place() {
    let port = Port::start(Limits { connections: 2, ..Limits::api() }).await;
    let (first, _second) = (port.connect().await, port.connect().await);
    let mut third = Box::pin(port.connect());
    assert!(timeout(SHORT, &mut third).await.is_err(), "there are two places");
    drop(first);
    timeout(LONG, third).await.expect("the place that became free");
}

#[tokio::test]
async fn a_silent_peer_keeps_a_turn_no_longer_than_a_handshake_may_take() {
    let port = Port::start(Limits { handshakes: 1, handshake: SHORT * 2, ..Limits::api() }).await;
    let silent = TcpStream::connect(port.address).await.unwrap();
    tokio::time::sleep(SHORT).await;
    let began = Instant::now();
    timeout(LONG, port.connect()).await.expect("the turn after the silent one");
    assert!(began.elapsed() >= SHORT / 2, "there is one turn: {:?}", began.elapsed());
    drop(silent);
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let port = Port::start(Limits { idle: SHORT, ..Limits::api() }).await;
    let (_idle, idle_ended) = port.open().await;
    let (mut busy, busy_ended) = port.open().await;
    let slow =
        busy.send_request(ask_as(&port, "slow")).await.expect("an answer, not the end of the connection");
    assert_eq!(slow.status(), StatusCode::GATEWAY_TIMEOUT, "three times the idle time later");
    assert!(idle_ended.is_finished(), "nothing was asked");
    // Nobody was proven within that time: a stranger's connection ends with his answer.
    timeout(SHORT / 2, busy_ended).await.expect("parted with").unwrap().unwrap();
    let (mut used, used_ended) = port.open().await;
    assert_eq!(used.send_request(ask_as(&port, "bob")).await.unwrap().status(), StatusCode::OK);
    assert!(!used_ended.is_finished(), "it was just used");
    timeout(LONG, used_ended).await.expect("idle now").unwrap().unwrap();
}

#[tokio::test]
async fn at_the_end_what_was_begun_is_answered() {
    let port = Port::start(Limits::api()).await;
    let (_idle, idle_ended) = port.open().await;
    let (mut busy, _) = port.open().await;
    let slow = tokio::spawn(busy.send_request(ask_as(&port, "slow")));
    tokio::time::sleep(SHORT).await;
    port.stop.cancel();
    timeout(SHORT, idle_ended).await.expect("an idle connection ends at once").unwrap().unwrap();
    assert_eq!(slow.await.unwrap().unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
    timeout(LONG, port.serving).await.expect("nothing is left to wait for").unwrap();
}
