//! A CA bundle, and what a chain of certificates is worth under it. Pure: the time is passed in.

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

/// All CAs of a PEM bundle: a rotation ships the old and the new one together.
#[derive(Debug, Clone, Default)]
pub struct Bundle {
    anchors: Vec<Anchor>,
}

#[derive(Debug, Clone)]
struct Anchor {
    trust: TrustAnchor<'static>,
    not_before: i64,
    not_after: i64,
}

/// A bundle that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Some text, but no certificate in it.
    #[error(
        "no certificate in {0} bytes; it must hold PEM blocks that begin with -----BEGIN CERTIFICATE-----"
    )]
    NoCertificate(usize),
    /// Not PEM.
    #[error("not PEM: {0}")]
    Pem(String),
    /// A block that is not a certificate.
    #[error("certificate {position} cannot be read: {cause}")]
    Certificate {
        /// Its position, from 1.
        position: usize,
        /// Why.
        cause: String,
    },
}

/// Why a chain is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Signed by nobody in the bundle.
    #[error("signed by an unknown CA")]
    UnknownIssuer,
    /// Outside of its time.
    #[error("expired, or not valid yet")]
    Time,
    /// Not made for clients.
    #[error("not made for client authentication")]
    Usage,
    /// Anything else that is wrong with it.
    #[error("not a valid certificate chain")]
    Invalid,
}

impl Bundle {
    /// From PEM text; an empty text is an empty bundle, which accepts nobody.
    pub fn parse(pem: &str) -> Result<Self, BundleError> {
        let mut anchors = Vec::new();
        for (position, certificate) in CertificateDer::pem_slice_iter(pem.as_bytes()).enumerate() {
            let certificate = certificate.map_err(|error| BundleError::Pem(error.to_string()))?;
            let bad = |cause: String| BundleError::Certificate { position: position + 1, cause };
            let trust =
                anchor_from_trusted_cert(&certificate).map_err(|error| bad(error.to_string()))?.to_owned();
            let (_, parsed) =
                X509Certificate::from_der(&certificate).map_err(|error| bad(error.to_string()))?;
            let validity = parsed.validity();
            let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
            anchors.push(Anchor { trust, not_before, not_after });
        }
        if anchors.is_empty() && !pem.trim().is_empty() {
            return Err(BundleError::NoCertificate(pem.len()));
        }
        Ok(Self { anchors })
    }

    /// From when to when each CA is valid, in seconds since the epoch.
    pub(super) fn validities(&self) -> impl Iterator<Item = (i64, i64)> {
        self.anchors.iter().map(|anchor| (anchor.not_before, anchor.not_after))
    }

    /// No CA at all.
    pub fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// Whether some public key is in both bundles.
    pub fn shares_key(&self, other: &Self) -> bool {
        let key = |anchor: &Anchor| anchor.trust.subject_public_key_info.clone();
        self.anchors.iter().any(|mine| other.anchors.iter().any(|theirs| key(mine) == key(theirs)))
    }

    /// Verifies a client's chain, leaf first. webpki does not look at the time of an anchor, Go does, so do we.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Untrusted> {
        let (leaf, intermediates) = chain.split_first().ok_or(Untrusted::Invalid)?;
        let seconds = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        let valid = |anchor: &&Anchor| (anchor.not_before..=anchor.not_after).contains(&seconds);
        let anchors: Vec<_> = self.anchors.iter().filter(valid).map(|anchor| anchor.trust.clone()).collect();
        let leaf = EndEntityCert::try_from(leaf).map_err(|_| Untrusted::Invalid)?;
        let usage = KeyUsage::client_auth();
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, intermediates, now, usage, None, None)
            .map(|_| ())
            .map_err(|error| match error {
                webpki::Error::UnknownIssuer => Untrusted::UnknownIssuer,
                webpki::Error::CertExpired { .. } | webpki::Error::CertNotValidYet { .. } => Untrusted::Time,
                webpki::Error::RequiredEkuNotFoundContext(_) => Untrusted::Usage,
                _ => Untrusted::Invalid,
            })
    }
}
