//! The API port's sockets: accept, handshake, HTTP/1.1 and HTTP/2 with the limits that kube-apiserver needs, drain. Who
//! calls and what is answered is never decided here.

use std::{
    convert::Infallible,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Api, Body, Gate, pipeline::Unproven};
use crate::{auth::PeerCertificates, telemetry::Seldom};

/// A user in a thousand groups sends a thousand headers: Go servers take 1 MiB of them.
const HEADERS: u32 = 1 << 20;
const HTTP1_HEADERS: usize = 1024;

/// What a caller may take of time and room before it proved anything.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once; kube-apiserver needs a few, direct clients one each. More wait in the listener's backlog.
    pub connections: usize,
    /// Handshakes at once.
    pub handshakes: usize,
    /// Time for a handshake, with the wait for its turn.
    pub handshake: Duration,
    /// Time for the headers of an HTTP/1.1 request, counted from the end of the answer before: an idle connection ends too.
    pub headers: Duration,
    /// Time that a connection may be without a request.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            handshakes: 128,
            handshake: Duration::from_secs(10),
            headers: Duration::from_secs(32),
            idle: Duration::from_secs(90),
        }
    }
}

/// What all connections share.
struct Port<G> {
    api: Arc<Api<G>>,
    acceptor: TlsAcceptor,
    limits: Limits,
    handshakes: Semaphore,
    notices: Seldom,
    stop: CancellationToken,
}

/// Serves `api` on `listener` until `stop`, then finishes what is in flight for at most `drain`.
pub async fn serve<G: Gate>(
    api: Arc<Api<G>>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    limits: Limits,
    stop: CancellationToken,
    drain: Duration,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let handshakes = Semaphore::new(limits.handshakes);
    let (acceptor, notices) = (TlsAcceptor::from(tls), Seldom::default());
    let port = Arc::new(Port { api, acceptor, limits, handshakes, notices, stop: stop.clone() });
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let port = Arc::clone(&port);
        connections.spawn(async move {
            port.connection(stream).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!("connections to the API port were still busy after {drain:?} and are cut");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, _)) => Some((stream, place)),
        Err(error) => {
            // Out of descriptors, or the peer went away: neither is cured by trying at once.
            tracing::warn!(%error, "cannot accept a connection on the API port");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

impl<G: Gate> Port<G> {
    async fn connection(&self, stream: TcpStream) {
        // Small answers must not wait for an acknowledgement; an error here means that the peer is gone.
        let _ = stream.set_nodelay(true);
        let stream = tokio::select! {
            () = self.stop.cancelled() => return,
            stream = self.handshake(stream) => stream,
        };
        let Some(stream) = stream else { return };
        let peer = peer_certificates(&stream);
        let use_of = Arc::new(Use::begin());
        let service = service_fn(|request: Request<Incoming>| {
            let (api, peer, use_of) = (Arc::clone(&self.api), peer.clone(), Arc::clone(&use_of));
            async move { Ok::<_, Infallible>(answer(&api, peer, &use_of, request).await) }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.headers)
            .max_headers(HTTP1_HEADERS)
            .max_buf_size(1 << 20);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(HEADERS)
            .max_concurrent_streams(250)
            .max_pending_accept_reset_streams(20)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut leaving = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = self.stop.cancelled(), if !leaving => {}
                () = use_of.part.notified(), if !leaving => {}
                () = use_of.idle(self.limits.idle), if !leaving => {}
            }
            // What was begun is answered to its end; over HTTP/2 the peer is told to send no more (GOAWAY).
            leaving = true;
            connection.as_mut().graceful_shutdown();
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the API port ended early");
        }
    }

    async fn handshake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let shaken = async {
            let _turn = self.handshakes.acquire().await.ok()?;
            Some(self.acceptor.accept(stream).await)
        };
        let (kind, error) = match tokio::time::timeout(self.limits.handshake, shaken).await {
            Ok(Some(Ok(stream))) => return Some(stream),
            Ok(Some(Err(error))) => ("failed", error.to_string()),
            Ok(None) => return None,
            Err(_) => ("timeout", format!("not done within {:?}", self.limits.handshake)),
        };
        self.api.metrics.handshakes_failed.inc();
        if self.notices.may_say(kind, Instant::now()) {
            tracing::warn!(
                error,
                "TLS handshake on the API port failed; said once a minute, counted in the metrics"
            );
        }
        None
    }
}

async fn answer<G: Gate>(
    api: &Api<G>,
    peer: PeerCertificates,
    use_of: &Use,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let _busy = use_of.busy();
    let version = request.version();
    request.extensions_mut().insert(peer);
    let mut response = api.answer(request).await;
    // A stranger may have one answer, not a connection full of streams (upstream: UnauthenticatedHTTP2DOSMitigation).
    if response.extensions_mut().remove::<Unproven>().is_some() && version == Version::HTTP_2 {
        use_of.part.notify_one();
    }
    response
}

/// How a connection is used.
struct Use {
    requests: AtomicUsize,
    /// When the newest request was taken or answered.
    last: Mutex<tokio::time::Instant>,
    /// Somebody without a proven identity was answered.
    part: Notify,
}

impl Use {
    fn begin() -> Self {
        let last = Mutex::new(tokio::time::Instant::now());
        Self { requests: AtomicUsize::new(0), last, part: Notify::new() }
    }

    fn busy(&self) -> Busy<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Returns when nothing was asked for that long.
    async fn idle(&self, longest: Duration) {
        loop {
            let end = *self.last.lock() + longest;
            tokio::time::sleep_until(end).await;
            let busy = self.requests.load(Ordering::Relaxed) > 0;
            let mut last = self.last.lock();
            if busy {
                *last = tokio::time::Instant::now();
            } else if *last + longest <= tokio::time::Instant::now() {
                return;
            }
        }
    }
}

/// A request that is being answered.
struct Busy<'a>(&'a Use);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        *self.0.last.lock() = tokio::time::Instant::now();
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

fn peer_certificates(stream: &TlsStream<TcpStream>) -> PeerCertificates {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    PeerCertificates::new(chain.iter().map(CertificateDer::clone).map(CertificateDer::into_owned).collect())
}
