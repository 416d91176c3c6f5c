//! TLS handshakes.

use std::time::Instant;

use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::Shared;

impl<A> Shared<A> {
    pub(super) async fn handshake(&self, stream: TcpStream) -> Option<TlsStream<TcpStream>> {
        let limit = self.limits.handshake;
        let handshake = async {
            let _turn = self.handshakes.acquire().await.ok()?;
            Some(self.acceptor.accept(stream).await)
        };
        let (reason, error) = match tokio::time::timeout(limit, handshake).await {
            Ok(Some(Ok(stream))) => {
                if self.limits.http.http1 || stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                    return Some(stream);
                }
                ("no-h2", "the peer does not offer h2".to_owned())
            }
            Ok(Some(Err(error))) => ("failed", error.to_string()),
            Ok(None) => return None,
            Err(_) => ("timeout", format!("not done within {limit:?}")),
        };
        self.metrics.handshake_failed(reason);
        if self.notices.may_say(reason, Instant::now()) {
            tracing::warn!(error, "TLS handshake failed; logged once a minute, counted in the metrics");
        }
        None
    }
}
