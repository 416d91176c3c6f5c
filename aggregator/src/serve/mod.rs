//! The sockets of both ports: accept, TLS handshake, HTTP, the limits on all of these, and the drain. Each port brings its
//! own [`Limits`] and its own [`Application`]. Who calls and what is answered is never decided here.

mod connection;
mod handshake;
mod limits;
mod metrics;
mod usage;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

use crate::telemetry::Seldom;

pub use limits::{Http, Limits};
pub use metrics::Metrics;

/// What answers the requests of a port.
pub(crate) trait Application: Send + Sync + 'static {
    /// What is kept about a peer for all requests of its connection.
    type Peer: Clone + Send + Sync + 'static;
    /// Bodies of responses.
    type Body: http_body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>
        + Send
        + 'static;

    /// A peer that presented these certificates, leaf first; none where it presented none.
    fn peer(&self, chain: Vec<CertificateDer<'static>>) -> Self::Peer;

    /// Answers one request.
    fn answer(
        &self,
        peer: &Self::Peer,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}

/// Response extension: the connection takes no further request. Removed before the response is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastResponse;

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
    port: &'static str,
    application: A,
    acceptor: TlsAcceptor,
    limits: Limits,
    handshakes: Semaphore,
    metrics: Metrics,
    notices: Seldom,
    stop: CancellationToken,
}

impl Port {
    /// Serves until `stop`, then finishes the requests in flight for at most `drain`.
    pub(crate) async fn serve<A: Application>(self, application: A, drain: Duration) {
        let Self { name, listener, tls, limits, metrics, stop } = self;
        let places = Arc::new(Semaphore::new(limits.connections));
        let shared = Arc::new(Shared {
            port: name,
            application,
            acceptor: TlsAcceptor::from(tls),
            handshakes: Semaphore::new(limits.handshakes),
            limits,
            metrics,
            notices: Seldom::default(),
            stop: stop.clone(),
        });
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accept(name, &listener, &places) => accepted,
            };
            let Some((stream, peer, place)) = accepted else { continue };
            let span = tracing::info_span!("connection", port = name, %peer);
            let shared = Arc::clone(&shared);
            let connection = async move {
                shared.connection(stream).await;
                drop(place);
            };
            connections.spawn(connection.instrument(span));
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(drain, connections.wait()).await.is_err() {
            tracing::warn!(port = name, "connections were still busy after {drain:?} and are cut");
        }
    }
}

async fn accept(
    port: &'static str,
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            // Out of descriptors, or the peer went away: an immediate retry helps in neither case.
            tracing::warn!(%error, port, "cannot accept a connection");
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}
