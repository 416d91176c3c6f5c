//! Certificates and keys from PEM files, with errors that name the file and what is wrong with it.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

use super::live::{Serving, Unusable};

/// A serving certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read {what} file {path}: {source}")]
    Read {
        /// `certificate` or `key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not PEM, or holds nothing of its kind.
    #[error(
        "cannot use {what} file {path}: {source}; it must hold PEM blocks, as openssl and cert-manager write them"
    )]
    Content {
        /// `certificate` or `key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Each of the files is right, but they do not go together.
    #[error("cannot serve with certificate {certificate} and key {key}: {source}")]
    Pair {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        key: PathBuf,
        /// Why.
        source: Unusable,
    },
}

/// The files of one port: a certificate chain (leaf first) and its private key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Both files as they were read: to be compared before they are parsed.
#[derive(Debug)]
pub struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
    /// SHA-256 of both.
    pub digest: [u8; 32],
}

impl Files {
    /// Reads both files.
    pub async fn read(&self) -> Result<Content, LoadError> {
        let certificate = read("certificate", &self.certificate).await?;
        let key = read("key", &self.key).await?;
        let mut hash = Context::new(&SHA256);
        // The length keeps a byte that moves from one file to the other from going unseen.
        hash.update(&(certificate.len() as u64).to_be_bytes());
        hash.update(&certificate);
        hash.update(&key);
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        Ok(Content { certificate, key, digest })
    }

    /// What was read, ready to be served with.
    pub fn parse(&self, content: &Content) -> Result<Serving, LoadError> {
        let unusable = |what, path: &Path, source| LoadError::Content { what, path: path.to_owned(), source };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&content.certificate)
            .collect::<Result<_, _>>()
            .map_err(|source| unusable("certificate", &self.certificate, source))?;
        if chain.is_empty() {
            return Err(unusable("certificate", &self.certificate, pem::Error::NoItemsFound));
        }
        let key = PrivateKeyDer::from_pem_slice(&content.key)
            .map_err(|source| unusable("key", &self.key, source))?;
        Serving::new(chain, key).map_err(|source| LoadError::Pair {
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            source,
        })
    }
}

async fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, LoadError> {
    tokio::fs::read(path).await.map_err(|source| LoadError::Read { what, path: path.to_owned(), source })
}
