//! TLS handshakes. A peer gets a turn only once its whole `ClientHello` is there, and for a short time: silent and slow peers
//! wait by themselves, without keeping others from their handshake.

use std::{
    io,
    pin::Pin,
    time::{Duration, Instant},
};

use tokio::{net::TcpStream, time::timeout};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    Shared,
    places::{Place, Shown},
};

/// TCP with a limit on how long a write may make no progress.
pub(super) type Tcp = Pin<Box<TimeoutStream<TcpStream>>>;

/// Why there is no TLS connection.
enum Failure {
    Timeout(&'static str, Duration),
    Tls(io::Error),
    NoHttp2,
}

impl<A> Shared<A> {
    pub(super) async fn handshake(&self, stream: TcpStream, place: &Place) -> Option<TlsStream<Tcp>> {
        let (reason, error) = match self.try_handshake(stream, place).await {
            Ok(stream) => return Some(stream),
            Err(Failure::Timeout(reason, limit)) => (reason, format!("not done within {limit:?}")),
            Err(Failure::Tls(error)) => ("failed", error.to_string()),
            Err(Failure::NoHttp2) => ("no-h2", "the peer does not offer h2".to_owned()),
        };
        self.metrics.handshake_failed(reason);
        if self.notices.may_say(reason, Instant::now()) {
            tracing::warn!(
                error,
                reason,
                "TLS handshake failed; logged once a minute, counted in the metrics"
            );
        }
        None
    }

    async fn try_handshake(&self, stream: TcpStream, place: &Place) -> Result<TlsStream<Tcp>, Failure> {
        let limits = &self.limits;
        // Nothing is allocated for TLS before there is something to read.
        timeout(limits.first_byte, stream.readable())
            .await
            .map_err(|_| Failure::Timeout("silent", limits.first_byte))?
            .map_err(Failure::Tls)?;
        let mut stream = Box::pin(TimeoutStream::new(stream));
        stream.as_mut().set_write_timeout_pinned(Some(limits.write));
        let slow = |_| Failure::Timeout("timeout", limits.handshake);
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let hello = timeout(limits.handshake, hello).await.map_err(slow)?.map_err(Failure::Tls)?;
        // A peer that waits here has done its part.
        place.protect();
        let turn = self.handshakes.acquire().await.map_err(|_| Failure::Tls(io::ErrorKind::Other.into()))?;
        let mut finished = Box::pin(hello.into_stream(self.tls.clone()));
        let done = if let Ok(done) = timeout(limits.turn, &mut finished).await {
            done
        } else {
            drop(turn);
            place.expose(Shown::Nothing);
            timeout(limits.handshake, finished).await.map_err(slow)?
        };
        let stream = done.map_err(Failure::Tls)?;
        place.expose(Shown::Handshake);
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if limits.http.http1 || http2 { Ok(stream) } else { Err(Failure::NoHttp2) }
    }
}
