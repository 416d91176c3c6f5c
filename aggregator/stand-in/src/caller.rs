//! Who calls the stand-in: by client certificate of the cluster CA or by token, else anonymous.

use std::collections::BTreeMap;

use http::{HeaderMap, header::AUTHORIZATION};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    store::Store,
    token::{Tokens, Verdict},
};

/// An authenticated or anonymous user of the stand-in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) groups: Vec<String>,
    pub(crate) extra: BTreeMap<String, Vec<String>>,
}

impl Caller {
    pub(crate) fn new(name: &str, groups: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// The same with the group of everybody who proved who he is.
    pub(crate) fn authenticated(mut self) -> Self {
        self.groups.push("system:authenticated".to_owned());
        self
    }

    pub(crate) fn is_master(&self) -> bool {
        self.groups.iter().any(|group| group == "system:masters")
    }
}

/// Who sent this request; `None` for a credential that cannot be accepted. The certificate was verified by the
/// handshake.
pub(crate) fn identify(
    certificate: Option<&CertificateDer<'_>>,
    headers: &HeaderMap,
    tokens: &Tokens,
    store: &Store,
) -> Option<Caller> {
    if let Some(certificate) = certificate {
        return of_certificate(certificate).map(Caller::authenticated);
    }
    let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    match bearer.and_then(|value| value.strip_prefix("Bearer ")) {
        Some(token) => match tokens.review(token, &[], store) {
            Verdict::Good(caller, _) => Some(caller),
            Verdict::Bad(_) => None,
        },
        None => Some(Caller::new("system:anonymous", &["system:unauthenticated"])),
    }
}

fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Caller> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|o| o.as_str().ok().map(str::to_owned)).collect();
    Some(Caller { name, groups, ..Caller::default() })
}
