//! One connection from its handshake to its end.

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use http::{Request, Response, Version};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls_pki_types::CertificateDer;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until},
};
use tokio_rustls::server::TlsStream;

use super::{
    Application, LastResponse, Proven, Shared,
    handshake::Tcp,
    long_uri::LongUri,
    places::Place,
    reading::{ReadLimits, Streams, Watch, Watched},
    usage::{Due, Usage},
};

const HTTP1_HEADERS: usize = 1024;
/// For a connection without a deadline of its own: its requests have theirs.
const FAR: Duration = Duration::from_hours(24);

impl<A: Application> Shared<A> {
    pub(super) async fn connection(self: Arc<Self>, stream: TcpStream, address: SocketAddr, place: Place) {
        // Small messages must not wait for an acknowledgement; an error here means that the peer is gone.
        let _ = stream.set_nodelay(true);
        let stream = tokio::select! {
            () = self.stop.cancelled() => return,
            () = place.evicted() => return,
            stream = self.handshake(stream, &place) => stream,
        };
        let Some(stream) = stream else { return };
        let watch = Arc::new(Watch::default());
        // Boxed: what a connection needs behind its handshake is much larger than what it needs before.
        let serving = Box::pin(Arc::clone(&watch).over(self.serve(stream, address, place)));
        tokio::select! {
            biased;
            () = serving => {}
            reason = watch.overdue() => self.metrics.response_cut(reason),
        }
    }

    async fn serve(self: &Arc<Self>, stream: TlsStream<Tcp>, address: SocketAddr, place: Place) {
        let peer = self.application.peer(address, chain(&stream));
        let builder = self.builder(self.application.header_limit(&peer));
        let usage = Arc::new(Usage::begin(place));
        let service = service_fn(|request: Request<Incoming>| {
            let (shared, peer, usage) = (Arc::clone(self), peer.clone(), Arc::clone(&usage));
            async move { Ok::<_, Infallible>(shared.answer(&peer, &usage, request).await) }
        });
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let io = TokioIo::new(LongUri::new(stream, http2));
        let mut connection = pin!(builder.serve_connection(io, service));
        let mut leaving = None;
        loop {
            let due = usage.due(&self.limits, leaving);
            let (at, due) = due.map_or((Instant::now() + FAR, None), |(at, due)| (at, Some(due)));
            let leave = tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    return;
                }
                () = usage.place.evicted() => return,
                () = self.stop.cancelled(), if leaving.is_none() => true,
                () = usage.changed.notified() => usage.had_last_response(),
                () = sleep_until(at) => match due {
                    Some(Due::Silent) => return self.metrics.connection_closed("silent"),
                    Some(Due::Lingering) => return self.metrics.connection_closed("lingering"),
                    Some(Due::Idle) => true,
                    None => false,
                },
            };
            if leave && leaving.is_none() {
                // Requests in flight are answered; over HTTP/2 a GOAWAY tells the peer to send no more.
                leaving = Some(Instant::now());
                connection.as_mut().graceful_shutdown();
            }
        }
    }

    async fn answer(
        &self,
        peer: &A::Peer,
        usage: &Arc<Usage>,
        request: Request<Incoming>,
    ) -> Response<Watched<A::Body>> {
        let in_flight = usage.request();
        let version = request.version();
        let mut response = self.application.answer(peer, request).await;
        let extensions = response.extensions_mut();
        if extensions.remove::<Proven>().is_some() {
            usage.place.prove();
        }
        if extensions.remove::<LastResponse>().is_some() && version == Version::HTTP_2 {
            usage.last_response();
        }
        let limits = extensions.remove::<ReadLimits>();
        response.map(|body| Watched::new(body, limits, in_flight))
    }

    fn builder(&self, headers: u32) -> auto::Builder<Streams> {
        let http = &self.limits.http;
        let mut builder = auto::Builder::new(Streams { metrics: self.metrics.clone() });
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_headers(HTTP1_HEADERS)
            .max_buf_size(usize::try_from(headers).unwrap_or(usize::MAX));
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(headers)
            .max_concurrent_streams(http.streams)
            .max_pending_accept_reset_streams(20)
            .initial_stream_window_size(http.window)
            .initial_connection_window_size(http.window)
            .keep_alive_interval(http.ping)
            .keep_alive_timeout(http.ping_timeout);
        if http.http1 { builder } else { builder.http2_only() }
    }
}

fn chain(stream: &TlsStream<Tcp>) -> Vec<CertificateDer<'static>> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    chain.iter().map(CertificateDer::clone).map(CertificateDer::into_owned).collect()
}
