//! The API port's sockets with small limits: what holds a place, and for how long.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
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

pub(super) struct Port {
    pub(super) address: SocketAddr,
    pub(super) connector: TlsConnector,
    pub(super) stop: CancellationToken,
    pub(super) serving: JoinHandle<()>,
}

impl Port {
    async fn start(limits: Limits) -> Self {
        let settings = Settings { timeout: SHORT * 3, ..Settings::default() };
        Self::serve(api_with(Decision::Allow, settings), limits, b"h2", LONG).await
    }

    /// Serves `api` over one protocol.
    pub(super) async fn serve(api: Api<Told>, limits: Limits, protocol: &[u8], drain: Duration) -> Self {
        let authority = Authority::new("ca").unwrap();
        let (chain, key) = authority.serving(&["127.0.0.1"]).unwrap().to_rustls().unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut serving = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        serving.alpn_protocols = vec![protocol.to_vec()];
        let mut roots = RootCertStore::empty();
        roots.add(authority.der()).unwrap();
        let mut calling = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        calling.alpn_protocols = vec![protocol.to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server::serve(
            Arc::new(api),
            listener,
            Arc::new(serving),
            limits,
            stop.clone(),
            drain,
        ));
        Self { address, connector: TlsConnector::from(Arc::new(calling)), stop, serving }
    }

    pub(super) async fn connect(&self) -> TlsStream<TcpStream> {
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
async fn a_proven_connection_keeps_its_place() {
    let port = Port::start(Limits { connections: 2, ..Limits::api() }).await;
    let mut proven = Vec::new();
    for _ in 0..2 {
        let (mut sender, ended) = port.open().await;
        assert_eq!(sender.send_request(ask_as(&port, "bob")).await.unwrap().status(), StatusCode::OK);
        proven.push((sender, ended));
    }
    let mut third = Box::pin(port.connect());
    assert!(timeout(SHORT, &mut third).await.is_err(), "there are two places");
    drop(proven.pop());
    timeout(LONG, third).await.expect("the place that became free");
    assert!(!proven[0].1.is_finished());
}

#[tokio::test]
async fn silent_tls_connections_make_room_for_a_new_one() {
    let port = Port::start(Limits { unproven: 64, first_request: LONG, ..Limits::api() }).await;
    let mut silent = Vec::new();
    for _ in 0..64 {
        silent.push(port.connect().await);
    }
    let (mut sender, _) = timeout(SHORT * 2, port.open()).await.expect("served at once");
    let answer =
        timeout(SHORT * 2, sender.send_request(ask_as(&port, "bob"))).await.expect("answered at once");
    assert_eq!(answer.unwrap().status(), StatusCode::OK);
    let ended = timeout(SHORT, silent[0].read_to_end(&mut Vec::new())).await;
    ended.expect("the oldest makes room").ok();
}

#[tokio::test]
async fn who_begins_a_handshake_and_stops_keeps_no_turn() {
    let limits = Limits { handshakes: 1, turn: SHORT / 5, handshake: LONG, ..Limits::api() };
    let port = Port::start(limits).await;
    let mut stuck = Vec::new();
    for _ in 0..3 {
        let stream = TcpStream::connect(port.address).await.unwrap();
        let mut handshake = Box::pin(port.connector.connect(port.address.ip().into(), stream));
        // A whole ClientHello, and nothing behind it.
        assert!(futures_util::poll!(&mut handshake).is_pending());
        stuck.push(handshake);
    }
    // Half of a ClientHello gets no turn at all.
    let mut half = TcpStream::connect(port.address).await.unwrap();
    half.write_all(&[22, 3, 1, 1, 0, 1]).await.unwrap();
    timeout(SHORT * 2, port.connect()).await.expect("after three turns");
}

#[tokio::test]
async fn an_idle_connection_ends_and_a_busy_one_does_not() {
    let port = Port::start(Limits { idle: SHORT, first_request: SHORT, ..Limits::api() }).await;
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
