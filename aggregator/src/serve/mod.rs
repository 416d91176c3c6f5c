//! The sockets of both ports: accept, TLS handshake, HTTP, the limits on all of these, and the drain. Each port brings its
//! own [`Limits`] and its own `Application`. Who calls and what is answered is never decided here.

mod connection;
mod handshake;
mod limits;
mod long_uri;
mod metrics;
mod places;
mod reading;
mod usage;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::telemetry::Seldom;

pub use limits::{Http, Limits};
pub use metrics::Metrics;
use places::{Place, Places};
pub(crate) use reading::ReadLimits;

/// What answers the requests of a port.
pub(crate) trait Application: Send + Sync + 'static {
    /// What is kept about a peer for all requests of its connection.
    type Peer: Clone + Send + Sync + 'static;
    /// Bodies of responses.
    type Body: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + Unpin
        + 'static;

    /// A peer by its address and the certificates that it presented, leaf first; none where it presented none.
    fn peer(&self, address: SocketAddr, chain: Vec<CertificateDer<'static>>) -> Self::Peer;

    /// Bytes of all header fields that a request of this peer may have.
    fn header_limit(&self, peer: &Self::Peer) -> u32;

    /// Answers one request.
    fn answer(
        &self,
        peer: &Self::Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Response extension: over HTTP/2 the connection takes no further request. Removed before the response is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastResponse;

/// Response extension: the peer proved who it is, and its connection is not closed to make room for others. Removed before
/// the response is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Proven;

/// A bound port.
pub(crate) struct Port {
    /// In logs.
    pub(crate) name: &'static str,
    pub(crate) listener: TcpListener,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    /// Begins the drain.
    pub(crate) stop: CancellationToken,
}

/// What all connections of a port share.
struct Shared<A> {
    application: A,
    tls: Arc<ServerConfig>,
    limits: Limits,
    handshakes: Semaphore,
    metrics: Metrics,
    notices: Seldom,
    stop: CancellationToken,
}

impl Port {
    /// Serves until `stop`, then finishes the requests in flight for at most `drain` and closes every connection.
    pub(crate) async fn serve<A: Application>(self, application: A, drain: Duration) {
        let Self { name, listener, tls, limits, metrics, stop } = self;
        let places = Places::new(&limits, metrics.clone());
        let handshakes = Semaphore::new(limits.handshakes);
        let notices = Seldom::default();
        let shared =
            Arc::new(Shared { application, tls, limits, handshakes, metrics, notices, stop: stop.clone() });
        let (connections, abort) = (TaskTracker::new(), CancellationToken::new());
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(name, &listener, &places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let (shared, abort) = (Arc::clone(&shared), abort.clone());
            let connection = async move {
                tokio::select! {
                    () = shared.connection(stream, peer, place) => {}
                    () = abort.cancelled() => {}
                }
            };
            connections.spawn(connection.instrument(tracing::info_span!("connection", port = name, %peer)));
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(drain, connections.wait()).await.is_err() {
            tracing::warn!(port = name, "connections were still busy after {drain:?} and are cut");
            abort.cancel();
            connections.wait().await;
        }
    }
}

/// The next connection, with a place. A connection is accepted first: none makes room before another one comes.
async fn accept(
    port: &'static str,
    listener: &TcpListener,
    places: &Arc<Places>,
) -> Option<(TcpStream, SocketAddr, Place)> {
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, places.take().await)),
        Err(error) => {
            // Out of descriptors, or the peer went away: an immediate retry helps in neither case.
            tracing::warn!(%error, port, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
