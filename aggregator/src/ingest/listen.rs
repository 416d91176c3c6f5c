//! The rim of the agent port: TCP, TLS 1.3, HTTP/2. Handshakes are limited separately from admitted streams, so that
//! a storm of reconnects cannot starve the streams that are up.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use rustls::{ServerConfig, server::ResolvesServerCert, version::TLS13};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::interceptor::InterceptedService;
use waggle_proto::ingest::ingest_server::IngestServer;

use super::{IngestState, MAX_MESSAGE, Metrics, session::Service};

const HANDSHAKES: usize = 128;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// An agent needs one stream; a second one overlaps it during a reconnect.
const STREAMS_PER_CONNECTION: u32 = 8;

/// The TLS settings of the agent port could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS 1.3 for the agent port: {0}")]
pub struct TlsError(#[from] rustls::Error);

/// TLS 1.3 only, ALPN `h2`, no client certificates asked for, no resumption.
pub fn tls_config(certificate: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Serves agents on `listener` until `shutdown`, then ends their streams and returns when all are gone.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    state: IngestState,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let acceptor = TlsAcceptor::from(tls);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let connections = TaskTracker::new();
    loop {
        let permit = tokio::select! {
            () = shutdown.cancelled() => break,
            permit = Arc::clone(&handshakes).acquire_owned() => permit.map_err(io::Error::other)?,
        };
        let (tcp, peer) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors, or a peer that left while it queued: neither is a reason to stop.
                    tracing::warn!(%error, "cannot accept an agent's connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (acceptor, state, shutdown) = (acceptor.clone(), state.clone(), shutdown.clone());
        connections.spawn(async move {
            let stream = handshake(&acceptor, tcp, &state.shared.metrics).await;
            drop(permit);
            if let Some(stream) = stream {
                connection(stream, peer, state, shutdown).await;
            }
        });
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

async fn handshake(
    acceptor: &TlsAcceptor,
    tcp: TcpStream,
    metrics: &Metrics,
) -> Option<TlsStream<TcpStream>> {
    let reason = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(tcp)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => return Some(stream),
        Ok(Ok(_)) => "no-h2",
        Ok(Err(error)) => {
            tracing::debug!(%error, "an agent's TLS handshake failed");
            "failed"
        }
        Err(_) => "timeout",
    };
    Metrics::count(&metrics.handshakes, reason);
    None
}

async fn connection(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    state: IngestState,
    shutdown: CancellationToken,
) {
    if let Err(error) = stream.get_ref().0.set_nodelay(true) {
        tracing::debug!(%error, "cannot switch off Nagle's algorithm");
    }
    let service =
        IngestServer::new(Service::new(state, shutdown.clone())).max_decoding_message_size(MAX_MESSAGE);
    // The log of a stream names its peer.
    let service = InterceptedService::new(service, move |mut request: tonic::Request<()>| {
        request.extensions_mut().insert(peer);
        Ok(request)
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an agent's connection ended");
    }
}
