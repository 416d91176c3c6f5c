//! One verified connection to one aggregator: TCP, TLS 1.3, HTTP/2. Each connection reads the CA bundle and the token again;
//! verification cannot be turned off.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore, client::Resumption, version::TLS13};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint, Uri},
};

const TIMEOUT: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// No connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The CA bundle or the token cannot be read.
    #[error("cannot read {path}: {source}; is the volume mounted?")]
    File {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The CA bundle has no usable certificate, and none was read before.
    #[error("cannot use {path} as CA bundle: {why}")]
    Bundle {
        /// Which file.
        path: String,
        /// Why.
        why: String,
    },
    /// The token is not text that fits in a header.
    #[error("cannot use {0} as token: it is empty or not ASCII text")]
    Token(String),
    /// TLS cannot be set up at all.
    #[error("cannot set up TLS 1.3: {0}")]
    Tls(#[from] rustls::Error),
    /// TCP or the handshake failed.
    #[error("cannot connect to {address}: {}", chain(.source))]
    Transport {
        /// Where to.
        address: SocketAddr,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// The text of an error and of all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

/// Makes connections.
#[derive(Debug)]
pub struct Connector {
    ca: PathBuf,
    token: PathBuf,
    name: ServerName<'static>,
    /// The last bundle that could be used.
    good: Mutex<Option<Good>>,
}

/// A bundle and what was made of it: a file that did not change is not parsed again, however often a connect fails.
#[derive(Debug)]
struct Good {
    pem: Vec<u8>,
    config: Arc<ClientConfig>,
}

impl Connector {
    /// With the CA bundle and the token in these files, to servers that prove this name.
    pub fn new(ca: PathBuf, token: PathBuf, name: ServerName<'static>) -> Self {
        Self { ca, token, name, good: Mutex::new(None) }
    }

    /// The `authorization` metadata, from the token file as it is now.
    pub async fn authorization(&self) -> Result<MetadataValue<Ascii>, ConnectError> {
        let path = || self.token.display().to_string();
        let token = tokio::fs::read_to_string(&self.token)
            .await
            .map_err(|source| ConnectError::File { path: path(), source })?;
        let token = token.trim();
        let mut value: MetadataValue<Ascii> =
            format!("Bearer {token}").parse().map_err(|_| ConnectError::Token(path()))?;
        if token.is_empty() {
            return Err(ConnectError::Token(path()));
        }
        value.set_sensitive(true);
        Ok(value)
    }

    /// Connects.
    pub async fn connect(&self, address: SocketAddr) -> Result<Channel, ConnectError> {
        let tls = TlsConnector::from(self.roots().await?);
        let name = self.name.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (tls, name) = (tls.clone(), name.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                Ok::<_, io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
            }
        });
        // With this scheme tonic leaves TLS to the connector. The authority is the name in the server's certificate.
        let endpoint = Endpoint::from_shared(format!("http://{}", self.name.to_str()))
            .map_err(|source| ConnectError::Transport { address, source })?
            .connect_timeout(TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        endpoint
            .connect_with_connector(connector)
            .await
            .map_err(|source| ConnectError::Transport { address, source })
    }

    /// TLS settings with the CA bundle as it is now; with the last good one where it cannot be used now.
    async fn roots(&self) -> Result<Arc<ClientConfig>, ConnectError> {
        let path = || self.ca.display().to_string();
        let read = tokio::fs::read(&self.ca).await;
        let mut good = self.good.lock();
        let parsed = match (read, &*good) {
            (Ok(pem), Some(good)) if good.pem == pem => return Ok(Arc::clone(&good.config)),
            (Ok(pem), _) => parse(&pem, path).map(|config| Good { pem, config }),
            (Err(source), _) => Err(ConnectError::File { path: path(), source }),
        };
        match (parsed, &*good) {
            (Ok(parsed), _) => Ok(Arc::clone(&good.insert(parsed).config)),
            (Err(error), None) => Err(error),
            (Err(error), Some(good)) => {
                tracing::warn!(%error, "the CA bundle cannot be used now, the last good one stays");
                Ok(Arc::clone(&good.config))
            }
        }
    }
}

fn parse(pem: &[u8], path: impl Fn() -> String) -> Result<Arc<ClientConfig>, ConnectError> {
    let unusable = |why: String| ConnectError::Bundle { path: path(), why };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(unusable("it has no certificate".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(name: &str) -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        params.self_signed(&key).unwrap().pem()
    }

    #[tokio::test]
    async fn the_bundle_follows_its_file_and_outlives_what_cannot_be_used() {
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.crt");
        let name = ServerName::try_from("waggle-ingest.waggle-system.svc").unwrap();
        let connector = Connector::new(ca.clone(), directory.path().join("token"), name);
        assert!(matches!(connector.roots().await, Err(ConnectError::File { .. })));
        std::fs::write(&ca, "").unwrap();
        assert!(matches!(connector.roots().await, Err(ConnectError::Bundle { .. })));
        let (first, second) = (bundle("first"), bundle("second"));
        std::fs::write(&ca, &first).unwrap();
        let roots = connector.roots().await.unwrap();
        assert!(
            Arc::ptr_eq(&roots, &connector.roots().await.unwrap()),
            "what did not change is not parsed again"
        );
        std::fs::write(&ca, format!("{first}{second}")).unwrap();
        let both = connector.roots().await.unwrap();
        assert!(!Arc::ptr_eq(&roots, &both), "read anew for each connection");
        for torn in ["", "nonsense", &first[..200]] {
            std::fs::write(&ca, torn).unwrap();
            assert!(Arc::ptr_eq(&both, &connector.roots().await.unwrap()), "{torn:?}");
        }
        std::fs::remove_file(&ca).unwrap();
        assert!(Arc::ptr_eq(&both, &connector.roots().await.unwrap()));
        std::fs::write(&ca, &second).unwrap();
        assert!(!Arc::ptr_eq(&both, &connector.roots().await.unwrap()));
    }
}
