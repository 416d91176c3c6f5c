//! The certificate that a port serves with: replaced in one step while connections stay open. Whoever makes certificates
//! (`files`, `ca`) puts them here; the handshake takes them from here and waits for nobody.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use rustls::{
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A chain with its key, and the time in which its leaf is valid.
#[derive(Debug)]
pub struct Serving {
    key: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// A chain and a key that cannot be served with.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// They do not go together, or the key is of a kind that rustls does not know.
    #[error(transparent)]
    Key(#[from] rustls::Error),
    /// The leaf's validity cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
}

impl Serving {
    /// From a chain, leaf first, and its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self, Unusable> {
        let leaf = chain.first().ok_or_else(|| Unusable::Certificate("there is none".to_owned()))?;
        let (not_before, not_after) = validity(leaf).map_err(Unusable::Certificate)?;
        let key = Arc::new(CertifiedKey::from_der(chain, key, &provider())?);
        Ok(Self { key, not_before, not_after })
    }

    /// The chain, leaf first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.key.cert
    }

    /// From when on the leaf is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second in which the leaf is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

/// What a port serves with at present. Clones see the same; before the first [`Live::replace`] every handshake fails.
#[derive(Debug, Clone, Default)]
pub struct Live {
    current: Arc<ArcSwapOption<Serving>>,
}

impl Live {
    /// Serves every handshake from now on with this.
    pub fn replace(&self, serving: Serving) {
        self.current.store(Some(Arc::new(serving)));
    }

    /// What is served with; `None` before the first.
    pub fn current(&self) -> Option<Arc<Serving>> {
        self.current.load_full()
    }

    /// Whether there is a certificate and `now` lies inside its validity.
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.current
            .load()
            .as_ref()
            .is_some_and(|serving| (serving.not_before..=serving.not_after).contains(&now))
    }
}

impl ResolvesServerCert for Live {
    /// The same for every name: kube-apiserver, agents and people dial by names and addresses that need not be known here.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.current.load().as_ref().map(|serving| Arc::clone(&serving.key))
    }
}

/// From when to when a certificate is valid.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let at = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
    let validity = parsed.validity();
    Ok((at(validity.not_before.timestamp())?, at(validity.not_after.timestamp())?))
}

pub(super) fn provider() -> CryptoProvider {
    rustls::crypto::aws_lc_rs::default_provider()
}
