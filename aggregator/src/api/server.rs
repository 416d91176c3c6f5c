//! The API port's sockets: accept, handshake, HTTP/1.1 and HTTP/2 with the limits that kube-apiserver needs, drain.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{
        conn::auto,
        graceful::{GracefulShutdown, Watcher},
    },
};
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use super::{Api, Gate};
use crate::auth::PeerCertificates;

/// Connections at once; kube-apiserver needs a few, direct clients one each.
const CONNECTIONS: usize = 4096;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A user in a thousand groups sends a thousand headers: Go servers take 1 MiB of them.
const HEADERS: u32 = 1 << 20;

/// Serves `api` on `listener` until `stop`, then finishes what is in flight for at most `drain`.
pub async fn serve<G: Gate>(
    api: Arc<Api<G>>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    stop: CancellationToken,
    drain: Duration,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((stream, place)) = accepted else { continue };
        let connection = connection(Arc::clone(&api), acceptor.clone(), stream, graceful.watcher());
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
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

async fn connection<G: Gate>(api: Arc<Api<G>>, acceptor: TlsAcceptor, stream: TcpStream, watcher: Watcher) {
    // Small answers must not wait for an acknowledgement; an error here means that the peer is gone.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            api.metrics.handshakes_failed.inc();
            tracing::debug!(%error, "TLS handshake on the API port failed");
            return;
        }
        Err(_) => {
            api.metrics.handshakes_failed.inc();
            return;
        }
    };
    let peer = peer_certificates(&stream);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (api, peer) = (Arc::clone(&api), peer.clone());
        async move {
            request.extensions_mut().insert(peer);
            Ok::<_, Infallible>(api.answer(request).await)
        }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(32))
        .max_headers(1024)
        .max_buf_size(1 << 20);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEADERS)
        .max_concurrent_streams(250)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection to the API port ended early");
    }
}

fn peer_certificates(stream: &TlsStream<TcpStream>) -> PeerCertificates {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    PeerCertificates(chain.iter().map(CertificateDer::clone).map(CertificateDer::into_owned).collect())
}
