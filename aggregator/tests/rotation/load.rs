//! The load: open-loop, so that a slow answer does not make it lighter. A tenth of all requests has a connection of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::{net::TcpStream, task::JoinHandle, time::MissedTickBehavior};
use tokio_rustls::{TlsConnector, client::TlsStream};
use waggle_stand_in::Identity;

use crate::common::NODES;

/// Requests a second.
const RATE: u64 = 200;
/// Connections that stay open.
const OPEN: usize = 4;
/// One of this many requests opens a connection.
const FRESH: u64 = 10;

/// Who calls: a client certificate, and the headers that it sends.
#[derive(Clone)]
pub struct Peer {
    pub identity: Identity,
    pub headers: Vec<(&'static str, &'static str)>,
}

/// Where to, under which name, and trusting what at present.
#[derive(Clone)]
pub struct Server {
    pub address: std::net::SocketAddr,
    pub name: ServerName<'static>,
    /// PEM, asked for again for each connection.
    pub bundle: Arc<dyn Fn() -> String + Send + Sync>,
}

impl Server {
    pub fn tls(&self, peer: Option<&Peer>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter((self.bundle)().as_bytes()) {
            roots.add(certificate.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match peer {
            None => config.with_no_client_auth(),
            Some(peer) => {
                let (chain, key) = peer.identity.to_rustls().unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    pub async fn connect(&self, tls: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        TlsConnector::from(tls).connect(self.name.clone(), stream).await
    }

    /// The certificate that it serves with to somebody who trusts the bundle.
    pub async fn certificate(&self) -> std::io::Result<CertificateDer<'static>> {
        let stream = self.connect(Arc::new(self.tls(None))).await?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned())
    }

    /// A connection that stays open.
    pub async fn open(&self, peer: &Peer) -> Result<SendRequest<Empty<Bytes>>, String> {
        let stream = self.connect(Arc::new(self.tls(Some(peer)))).await.map_err(|error| error.to_string())?;
        speak(stream).await
    }
}

pub async fn speak(stream: TlsStream<TcpStream>) -> Result<SendRequest<Empty<Bytes>>, String> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request; the status of its answer once that was read to its end.
pub async fn ask(mut sender: SendRequest<Empty<Bytes>>, peer: &Peer) -> Result<StatusCode, String> {
    let mut request = Request::get(format!("https://waggle{NODES}"));
    for (name, value) in &peer.headers {
        request = request.header(*name, *value);
    }
    let answer = async {
        sender.ready().await?;
        let response = sender.send_request(request.body(Empty::new()).unwrap()).await?;
        let status = response.status();
        response.into_body().collect().await.map(|_| status)
    };
    let answer = tokio::time::timeout(Duration::from_secs(30), answer).await;
    answer.map_err(|_| "no answer in 30 s".to_owned())?.map_err(|error: hyper::Error| format!("{error:?}"))
}

/// The machine cannot bear two loads at once; the tests that make one wait for each other.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Waits until `holds`, for at most a minute: beside a load everything takes its time.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_mins(1), wait).await.is_ok(), "never came: {what}");
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    begun: Instant,
    task: JoinHandle<()>,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

struct Shared {
    server: Server,
    peer: Mutex<(u64, Peer)>,
    sent: AtomicU64,
    answered: AtomicU64,
    fresh: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Begins as soon as no other one runs.
    pub async fn start(server: Server, peer: Peer) -> Self {
        let turn = TURN.lock().await;
        let shared = Arc::new(Shared {
            server,
            peer: Mutex::new((0, peer)),
            sent: AtomicU64::new(0),
            answered: AtomicU64::new(0),
            fresh: AtomicU64::new(0),
            failures: Mutex::new(Vec::new()),
        });
        let task = tokio::spawn(run(Arc::clone(&shared)));
        Self { shared, begun: Instant::now(), task, _turn: turn }
    }

    /// All requests from now on are this peer's: its connections are opened, those of the one before are let go. Returns
    /// when everything that was sent before is answered.
    pub async fn become_peer(&self, peer: Peer) {
        let before = {
            let mut current = self.shared.peer.lock();
            *current = (current.0 + 1, peer);
            self.shared.sent.load(Ordering::SeqCst)
        };
        // One more may be on its way with the peer as it was.
        while self.shared.answered.load(Ordering::SeqCst) <= before && self.shared.failures.lock().is_empty()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    /// Ends it: every request that was sent must have been answered with 200, and 200 of them each second.
    pub async fn end(self) {
        self.task.abort();
        // An abort is not the end yet: what the task still sends counts too. Its error says that it was aborted.
        let _ = self.task.await;
        let Shared { sent, answered, fresh, failures, .. } = &*self.shared;
        let seconds = self.begun.elapsed().as_secs_f64();
        let sent = sent.load(Ordering::SeqCst);
        let all = async {
            while answered.load(Ordering::SeqCst) < sent && failures.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        // What is still missing then is reported below.
        let _ = tokio::time::timeout(Duration::from_secs(40), all).await;
        let failures = failures.lock();
        let (answered, fresh) = (answered.load(Ordering::SeqCst), fresh.load(Ordering::SeqCst));
        assert!(failures.is_empty(), "{} of {sent} failed: {:?}", failures.len(), &failures[..1]);
        assert_eq!(answered, sent, "not all were answered");
        let wanted = (seconds - 1.0) * RATE as f64;
        assert!(sent as f64 >= wanted, "{sent} requests in {seconds:.1} s are not the load that was meant");
        assert!(fresh >= sent / FRESH - 1, "only {fresh} of {sent} requests had a connection of their own");
        println!("{sent} requests in {seconds:.1} s, {fresh} through fresh connections, none failed");
    }
}

async fn run(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / u32::try_from(RATE).unwrap());
    // What the machine could not send in time is sent after it.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut open: Vec<SendRequest<Empty<Bytes>>> = Vec::new();
    let mut opened_for = u64::MAX;
    for number in 0_u64.. {
        ticks.tick().await;
        let (generation, peer) = shared.peer.lock().clone();
        if opened_for != generation {
            open.clear();
            for _ in 0..OPEN {
                match shared.server.open(&peer).await {
                    Ok(sender) => open.push(sender),
                    Err(error) => return shared.failures.lock().push(format!("connect: {error}")),
                }
            }
            opened_for = generation;
        }
        let own = number % FRESH == 0;
        let sender = (!own).then(|| open[usize::try_from(number).unwrap() % OPEN].clone());
        let shared = Arc::clone(&shared);
        shared.sent.fetch_add(1, Ordering::SeqCst);
        // Not a part of this task: what was sent is waited for after the load ended.
        tokio::spawn(async move {
            let answer = async {
                let sender = match sender {
                    Some(sender) => sender,
                    None => shared.server.open(&peer).await.map_err(|error| format!("fresh: {error}"))?,
                };
                ask(sender, &peer).await
            };
            match answer.await {
                Ok(StatusCode::OK) => {
                    shared.answered.fetch_add(1, Ordering::SeqCst);
                    shared.fresh.fetch_add(u64::from(own), Ordering::SeqCst);
                }
                Ok(status) => shared.failures.lock().push(format!("{number}: {status}")),
                Err(error) => shared.failures.lock().push(format!("{number}: {error}")),
            }
        });
    }
}
