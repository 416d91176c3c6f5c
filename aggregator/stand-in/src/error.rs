//! What can go wrong while the stand-in is set up. Requests never fail this way: they are answered.

use std::net::SocketAddr;

/// The stand-in could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// A certificate or key that was made cannot be read back.
    #[error("cannot read a certificate")]
    Pem(#[from] rustls_pki_types::pem::Error),
    /// rustls does not take the certificates.
    #[error("cannot configure TLS")]
    Tls(#[from] rustls::Error),
    /// The client verifier cannot be built.
    #[error("cannot build the client certificate verifier")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// No random numbers.
    #[error("cannot get random numbers")]
    Random,
    /// More organizations than a certificate made here can hold.
    #[error("certificate for {common_name} has {count} organizations, at most 2 fit: issue a token instead")]
    TooManyOrganizations {
        /// The user.
        common_name: String,
        /// How many were asked for.
        count: usize,
    },
    /// An object that cannot be stored.
    #[error("cannot store object: {0}")]
    Object(String),
}
