//! Certificates and keys from PEM files, with errors that name the file and what is wrong with it.

use std::path::{Path, PathBuf};

use rustls_pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject},
};

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
        source: rustls::Error,
    },
}

/// Reads a certificate chain (leaf first) and its private key.
pub fn pair(
    certificate_file: &Path,
    key_file: &Path,
) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), LoadError> {
    let content = |what, path: &Path, source| LoadError::Content { what, path: path.to_owned(), source };
    let text = read("certificate", certificate_file)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|source| content("certificate", certificate_file, source))?;
    if chain.is_empty() {
        return Err(content("certificate", certificate_file, pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_slice(&read("key", key_file)?)
        .map_err(|source| content("key", key_file, source))?;
    Ok((chain, key))
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|source| LoadError::Read { what, path: path.to_owned(), source })
}
