//! One certificate authority: making it, reading it back, signing with it. Pure but for the random numbers of new keys;
//! the time is passed in.

use std::{fmt, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::tls::live::{Serving, Unusable, validity};

/// What clocks may be apart: certificates are valid this long before they are made.
const SKEW: Duration = Duration::from_mins(5);
/// The last second that certificates can name: the end of the year 9999.
const LAST_SECOND: u64 = 253_402_300_799;

/// SHA-256 of a CA's certificate.
pub type Fingerprint = [u8; 32];

/// A certificate cannot be made or signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The signing itself.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was made cannot be served with.
    #[error("cannot use the certificate that was just made: {0}")]
    Use(#[from] Unusable),
    /// What was made cannot be read.
    #[error("cannot read the certificate that was just made: {0}")]
    Read(String),
}

/// A CA's certificate, without its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaCertificate {
    der: CertificateDer<'static>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl CaCertificate {
    fn new(der: CertificateDer<'static>) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|error| error.to_string())?;
        if !parsed.is_ca() {
            return Err("it is not the certificate of a CA".to_owned());
        }
        let (not_before, not_after) = validity(&der)?;
        Ok(Self { der, not_before, not_after })
    }

    /// All certificates of a PEM text; an error names the position of what is wrong, from 1.
    pub fn read_all(pem: &[u8]) -> Result<Vec<Self>, String> {
        let mut all = Vec::new();
        for (position, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let at = |cause: String| format!("certificate {}: {cause}", position + 1);
            let der = der.map_err(|error| at(error.to_string()))?;
            all.push(Self::new(der).map_err(at)?);
        }
        Ok(all)
    }

    /// PEM as openssl writes it: the same bytes for the same certificate, always.
    pub fn pem(&self) -> String {
        let text = STANDARD.encode(&self.der);
        let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(64));
            pem.push_str(line);
            pem.push('\n');
            rest = more;
        }
        pem.push_str("-----END CERTIFICATE-----\n");
        pem
    }

    /// Says which certificate this is.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest(&SHA256, &self.der).as_ref());
        fingerprint
    }

    /// From when on it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second in which it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

/// A CA with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    certificate: CaCertificate,
    key_pem: String,
}

impl fmt::Debug for Authority {
    /// Without the key.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Authority").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new one: P-256, for leaves only, valid for `life`. Its name says which key it has: two CAs of one name would
    /// leave it to chance which one a verifier tries.
    pub fn make(now: Timestamp, life: Duration) -> Result<Self, SignError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        limit(&mut params, now, life);
        let tag = digest(&SHA256, key.public_key_raw());
        let tag = tag.as_ref().iter().take(4).fold(String::new(), |tag, byte| format!("{tag}{byte:02x}"));
        params.distinguished_name = name(&format!("waggle-ca-{tag}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        let certificate = CaCertificate::new(certificate.der().clone()).map_err(SignError::Read)?;
        Ok(Self { certificate, key_pem: key.serialize_pem() })
    }

    /// Reads a certificate and its key back; both must be PEM, and go together.
    pub fn read(certificate: &[u8], key: &[u8]) -> Result<Self, String> {
        let mut certificates = CaCertificate::read_all(certificate)?;
        let Some(certificate) = certificates.pop().filter(|_| certificates.is_empty()) else {
            return Err("there must be one certificate".to_owned());
        };
        let key_pem = std::str::from_utf8(key).map_err(|_| "the key is not text".to_owned())?.to_owned();
        let key = KeyPair::from_pem(&key_pem).map_err(|error| format!("the key cannot be read: {error}"))?;
        let (_, parsed) = X509Certificate::from_der(&certificate.der).map_err(|error| error.to_string())?;
        if parsed.public_key().raw != key.subject_public_key_info() {
            return Err("the key is not that of the certificate".to_owned());
        }
        Ok(Self { certificate, key_pem })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// Its private key: PKCS #8, PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// A serving certificate with a new key for these DNS names, valid for `life`, but not beyond the CA itself.
    pub fn sign(&self, names: &[String], now: Timestamp, life: Duration) -> Result<Serving, SignError> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate.der, KeyPair::from_pem(&self.key_pem)?)?;
        let left = Duration::try_from(self.certificate.not_after.duration_since(now)).unwrap_or_default();
        let mut params = CertificateParams::new(names.to_vec())?;
        limit(&mut params, now, life.min(left));
        params.distinguished_name = name("waggle-aggregator");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &issuer)?;
        let key = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|error| SignError::Read(error.to_owned()))?;
        Ok(Serving::new(vec![leaf.der().clone()], key)?)
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Valid from a little before `now` on, for `life`.
fn limit(params: &mut CertificateParams, now: Timestamp, life: Duration) {
    let now = u64::try_from(now.as_second()).unwrap_or(0);
    let end = now.saturating_add(life.as_secs()).min(LAST_SECOND);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(SKEW.as_secs()));
    params.not_after = epoch + Duration::from_secs(end);
}
