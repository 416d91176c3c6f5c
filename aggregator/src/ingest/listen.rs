//! The agents' gRPC service as the application of a port, and the port's TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use rustls::{ServerConfig, server::ResolvesServerCert, version::TLS13};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use waggle_proto::ingest::ingest_server::IngestServer;

use super::{IngestState, MAX_MESSAGE, session::Service};
use crate::serve::{Application, LastResponse, Limits, Port, Proven};

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

/// A token of 16 KiB, and room for the rest.
const HEADERS: u32 = 24 << 10;

/// Serves agents on `listener` until `stop`, then ends their streams and closes what is still open after `drain`.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    state: IngestState,
    limits: Limits,
    stop: CancellationToken,
    drain: Duration,
) {
    let metrics = state.shared.metrics.connections.clone();
    let service = IngestServer::new(Service::new(state, stop.clone())).max_decoding_message_size(MAX_MESSAGE);
    Port { name: "agent", listener, tls, limits, metrics, stop }.serve(Agents(service), drain).await;
}

struct Agents(IngestServer<Service>);

impl Application for Agents {
    type Peer = SocketAddr;
    type Body = tonic::body::Body;

    fn peer(&self, address: SocketAddr, _: Vec<CertificateDer<'static>>) -> SocketAddr {
        address
    }

    fn header_limit(&self, _: &SocketAddr) -> u32 {
        HEADERS
    }

    async fn answer(&self, peer: &SocketAddr, mut request: Request<Incoming>) -> Response<tonic::body::Body> {
        // The log of a stream names its peer.
        request.extensions_mut().insert(*peer);
        let Ok(mut response) = self.0.clone().oneshot(request).await;
        // A status in the head means that no stream was opened: the agent was not admitted.
        if response.headers().contains_key(tonic::Status::GRPC_STATUS) {
            response.extensions_mut().insert(LastResponse);
        } else {
            response.extensions_mut().insert(Proven);
        }
        response
    }
}
