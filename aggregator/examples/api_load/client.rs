//! One connection to the server over TLS, of one version of HTTP, and the time to the last byte of an answer.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, pem::PemObject as _};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Http1,
    Http2,
}

/// A kept connection.
pub struct Connection {
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    base: String,
}

/// An answer that was read to its end and dropped.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub took: Duration,
    pub bytes: usize,
}

impl Connection {
    pub fn new(certificate: &Path, port: u16, protocol: Protocol) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(certificate).expect("the server wrote it")).expect("a root");
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("the provider has them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_only();
        let connector = match protocol {
            Protocol::Http1 => builder.enable_http1().build(),
            Protocol::Http2 => builder.enable_http2().build(),
        };
        // The windows of Go's client, which kube-apiserver asks with: 4 MiB a stream, 1 GiB a connection.
        let client = Client::builder(TokioExecutor::new())
            .http2_only(protocol == Protocol::Http2)
            .http2_initial_stream_window_size(4 << 20)
            .http2_initial_connection_window_size(1 << 30)
            .build(connector);
        Self { client, base: format!("https://localhost:{port}") }
    }

    /// Asks, and reads with `pause` after each frame.
    pub async fn ask(&self, path: &str, accept: &str, pause: Duration) -> Answer {
        let request = Request::builder()
            .uri(format!("{}{path}", self.base))
            .header(header::ACCEPT, accept)
            .body(Empty::new())
            .expect("a request");
        let began = Instant::now();
        let response = self.client.request(request).await.expect("the server answers");
        assert_eq!(response.status(), 200, "{path}");
        let mut body = response.into_body();
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.expect("the answer is whole").data_ref().map_or(0, Bytes::len);
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
        }
        Answer { took: began.elapsed(), bytes }
    }
}
