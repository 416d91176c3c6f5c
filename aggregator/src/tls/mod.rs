//! TLS of the API port: which certificates it serves with, and how it asks for those of its peers. Judging a peer's
//! certificate is never done here: the handshake proves possession of the key, `auth` decides what that is worth.

pub mod load;
mod verify;

use std::{path::Path, sync::Arc};

use rustls::{ServerConfig, server::NoServerSessionStorage};

pub use load::LoadError;
pub use verify::RequestOnly;

/// The API port's TLS from PEM files: TLS 1.2 and 1.3, `h2` and `http/1.1`, a client certificate is asked for and every one
/// is let through.
///
/// Sessions are never resumed: a session of an old connection would carry its certificate past a change of the CA, since
/// the verifier is not called for it. Both switches are needed, one for each version of TLS.
pub fn api_config(certificate_file: &Path, key_file: &Path) -> Result<Arc<ServerConfig>, LoadError> {
    let (chain, key) = load::pair(certificate_file, key_file)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Arc::new(RequestOnly::new(&provider));
    let unusable = |source| LoadError::Pair {
        certificate: certificate_file.to_owned(),
        key: key_file.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}
