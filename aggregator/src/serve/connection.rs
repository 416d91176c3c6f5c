//! One connection from its handshake to its end.

use std::{convert::Infallible, pin::pin, sync::Arc};

use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls_pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::{Application, Http, LastResponse, Shared, usage::Usage};

const HTTP1_HEADERS: usize = 1024;

impl<A: Application> Shared<A> {
    pub(super) async fn connection(self: Arc<Self>, stream: TcpStream) {
        // Small messages must not wait for an acknowledgement; an error here means that the peer is gone.
        let _ = stream.set_nodelay(true);
        let stream = tokio::select! {
            () = self.stop.cancelled() => return,
            stream = self.handshake(stream) => stream,
        };
        let Some(stream) = stream else { return };
        let peer = self.application.peer(chain(&stream));
        let usage = Arc::new(Usage::begin());
        let service = service_fn(|request: Request<Incoming>| {
            let (shared, peer, usage) = (Arc::clone(&self), peer.clone(), Arc::clone(&usage));
            async move { Ok::<_, Infallible>(shared.answer(&peer, &usage, request).await) }
        });
        let builder = builder(&self.limits.http, self.limits.head);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
        let mut leaving = false;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = self.stop.cancelled(), if !leaving => {}
                () = usage.last_response.notified(), if !leaving => {}
                () = usage.idle(self.limits.idle), if !leaving => {}
            }
            // Requests in flight are answered; over HTTP/2 a GOAWAY tells the peer to send no more.
            leaving = true;
            connection.as_mut().graceful_shutdown();
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to the {} port ended early", self.port);
        }
    }

    async fn answer(&self, peer: &A::Peer, usage: &Usage, request: Request<Incoming>) -> Response<A::Body> {
        let _in_flight = usage.request();
        let version = request.version();
        let mut response = self.application.answer(peer, request).await;
        if response.extensions_mut().remove::<LastResponse>().is_some() && version == Version::HTTP_2 {
            usage.last_response.notify_one();
        }
        response
    }
}

fn builder(http: &Http, head: std::time::Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_headers(HTTP1_HEADERS)
        .max_buf_size(usize::try_from(http.headers).unwrap_or(usize::MAX));
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(http.headers)
        .max_concurrent_streams(http.streams)
        .max_pending_accept_reset_streams(20)
        .keep_alive_interval(http.ping)
        .keep_alive_timeout(http.ping_timeout);
    if http.http1 { builder } else { builder.http2_only() }
}

fn chain(stream: &TlsStream<TcpStream>) -> Vec<CertificateDer<'static>> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    chain.iter().map(CertificateDer::clone).map(CertificateDer::into_owned).collect()
}
