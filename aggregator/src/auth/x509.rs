//! The user whom a client certificate names (`pkg/authentication/request/x509/x509.go`). Pure; verifying is `bundle`'s.

use std::{collections::BTreeMap, fmt::Write};

use rustls_pki_types::CertificateDer;
use x509_parser::{
    oid_registry::{Oid, asn1_rs::oid},
    prelude::{FromDer, X509Certificate},
};

use super::User;

/// The subject attribute of Kubernetes that holds a UID (KEP-5032).
const UID: Oid<'static> = oid!(1.3.6.1.4.1.57683.2);

/// A subject that names no user in a way that could be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the certificate's subject cannot be read")]
pub struct BadSubject;

/// The common name; empty when there is none.
pub fn common_name(leaf: &CertificateDer<'_>) -> Result<String, BadSubject> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| BadSubject)?;
    let names: Result<Vec<&str>, _> = certificate
        .subject()
        .iter_common_name()
        .map(x509_parser::x509::AttributeTypeAndValue::as_str)
        .collect();
    Ok(names.map_err(|_| BadSubject)?.last().copied().unwrap_or_default().to_owned())
}

/// From when to when a certificate is valid, in seconds since the epoch, both included.
pub fn validity(certificate: &CertificateDer<'_>) -> Result<(i64, i64), BadSubject> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| BadSubject)?;
    let validity = certificate.validity();
    Ok((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The user of a verified certificate: `None` without a common name.
pub fn user(leaf: &CertificateDer<'_>) -> Result<Option<User>, BadSubject> {
    let name = common_name(leaf)?;
    if name.is_empty() {
        return Ok(None);
    }
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| BadSubject)?;
    let subject = certificate.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().map(str::to_owned).map_err(|_| BadSubject)
    };
    let groups = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
    let mut uids = subject.iter_by_oid(&UID).map(text);
    let uid = uids.next().transpose()?.unwrap_or_default();
    if uids.next().is_some() {
        return Err(BadSubject);
    }
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, leaf);
    let mut credential = "X509SHA256=".to_owned();
    for byte in digest.as_ref() {
        // Writing to a String cannot fail.
        let _ = write!(credential, "{byte:02x}");
    }
    let extra = BTreeMap::from([("authentication.kubernetes.io/credential-id".to_owned(), vec![credential])]);
    Ok(Some(User { name, uid, groups, extra }))
}
