//! The API as the application of a port.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use http::{Request, Response};
use hyper::body::Incoming;
use rustls::ServerConfig;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Api, Body, Gate};
use crate::{
    auth::PeerCertificates,
    serve::{Application, Limits, Port},
};

/// What Go servers take; a user in a thousand groups sends a thousand headers.
const FRONT_PROXY_HEADERS: u32 = 1 << 20;
/// For everybody else: it is read before anything is known about the peer.
const HEADERS: u32 = 64 << 10;

/// Serves `api` on `listener` until `stop`, then finishes the requests in flight for at most `drain`.
pub async fn serve<G: Gate>(
    api: Arc<Api<G>>,
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    limits: Limits,
    stop: CancellationToken,
    drain: Duration,
) {
    let metrics = api.metrics.connections.clone();
    Port { name: "API", listener, tls, limits, metrics, stop }.serve(Server(api), drain).await;
}

struct Server<G>(Arc<Api<G>>);

impl<G: Gate> Application for Server<G> {
    type Peer = PeerCertificates;
    type Body = Body;

    fn peer(&self, _: SocketAddr, chain: Vec<CertificateDer<'static>>) -> PeerCertificates {
        PeerCertificates::new(chain)
    }

    /// Groups and extra attributes come as a header each: only the front proxy needs room for all of a crowded user's.
    fn header_limit(&self, peer: &PeerCertificates) -> u32 {
        if self.0.gate.is_front_proxy(peer) { FRONT_PROXY_HEADERS } else { HEADERS }
    }

    async fn answer(&self, peer: &PeerCertificates, mut request: Request<Incoming>) -> Response<Body> {
        request.extensions_mut().insert(peer.clone());
        self.0.answer(request).await
    }
}
