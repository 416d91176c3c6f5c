//! The Secret's data: what it holds and in which form. Pure.
//!
//! | key | content |
//! | --- | --- |
//! | `ca.crt`, `ca.key` | the CA that signs: certificate and PKCS #8 key, PEM |
//! | `next.crt`, `next.key` | the CA that will sign, during a rotation |
//! | `next.published` | RFC 3339 time at which the next CA was seen in every place; absent before |
//! | `old.crt` | CAs that sign no more, but whose leaves may still be served: PEM |
//! | `old.until` | RFC 3339 time after which no such leaf is valid |
//! | `rotate` | written by a person, any value: asks for a rotation; taken away once it began |
//!
//! Empty is the state that the manifests ship. Any other combination (half a pair, a key of another certificate, a key that
//! is not in this table) is an error: it may be somebody else's Secret, or one that a newer version wrote, and is never
//! overwritten.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::ByteString;

use super::authority::{Authority, CaCertificate};

/// The data of a Secret.
pub type Data = BTreeMap<String, ByteString>;

const CURRENT: [&str; 2] = ["ca.crt", "ca.key"];
const NEXT: [&str; 2] = ["next.crt", "next.key"];
const PUBLISHED: &str = "next.published";
const OLD: &str = "old.crt";
const UNTIL: &str = "old.until";
const ROTATE: &str = "rotate";

/// A Secret that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentsError {
    /// It has a key that is none of ours.
    #[error("it has a key {0:?}, which is none of Waggle's")]
    Foreign(String),
    /// One of two that belong together is missing.
    #[error("it has {present:?} without {missing:?}")]
    Half {
        /// What is there.
        present: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A value cannot be read.
    #[error("{key:?} cannot be read: {cause}")]
    Value {
        /// The key.
        key: &'static str,
        /// Why.
        cause: String,
    },
}

/// The CA that will sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The CA.
    pub authority: Authority,
    /// Since when it is in every place that readers look at.
    pub published: Option<Timestamp>,
}

/// CAs that sign no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Old {
    /// Their certificates.
    pub certificates: Vec<CaCertificate>,
    /// After this no leaf of theirs is valid.
    pub until: Timestamp,
}

/// What the Secret holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contents {
    /// The CA that signs.
    pub current: Option<Authority>,
    /// The CA that will sign.
    pub next: Option<Next>,
    /// CAs that sign no more.
    pub old: Option<Old>,
    /// Somebody asks for a rotation.
    pub rotate: bool,
}

impl Contents {
    /// Reads a Secret's data.
    pub fn read(data: &Data) -> Result<Self, ContentsError> {
        let known = [CURRENT[0], CURRENT[1], NEXT[0], NEXT[1], PUBLISHED, OLD, UNTIL, ROTATE];
        if let Some(key) = data.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(ContentsError::Foreign(key.clone()));
        }
        let next = authority(data, NEXT)?;
        let published = time(data, PUBLISHED)?;
        if next.is_none() && published.is_some() {
            return Err(ContentsError::Half { present: PUBLISHED, missing: NEXT[0] });
        }
        let old = match (bytes(data, OLD), time(data, UNTIL)?) {
            (None, None) => None,
            (None, Some(_)) => return Err(ContentsError::Half { present: UNTIL, missing: OLD }),
            (Some(_), None) => return Err(ContentsError::Half { present: OLD, missing: UNTIL }),
            (Some(pem), Some(until)) => {
                let certificates = CaCertificate::read_all(pem).map_err(value(OLD))?;
                Some(Old { certificates, until })
            }
        };
        Ok(Self {
            current: authority(data, CURRENT)?,
            next: next.map(|authority| Next { authority, published }),
            old,
            rotate: bytes(data, ROTATE).is_some(),
        })
    }

    /// The data of a Secret that holds this.
    pub fn write(&self) -> Data {
        let mut data = Data::new();
        let mut put = |key: &str, text: String| {
            data.insert(key.to_owned(), ByteString(text.into_bytes()));
        };
        if let Some(current) = &self.current {
            put(CURRENT[0], current.certificate().pem());
            put(CURRENT[1], current.key_pem().to_owned());
        }
        if let Some(next) = &self.next {
            put(NEXT[0], next.authority.certificate().pem());
            put(NEXT[1], next.authority.key_pem().to_owned());
            if let Some(published) = next.published {
                put(PUBLISHED, published.to_string());
            }
        }
        if let Some(old) = &self.old {
            put(OLD, old.certificates.iter().map(CaCertificate::pem).collect());
            put(UNTIL, old.until.to_string());
        }
        if self.rotate {
            put(ROTATE, "true".to_owned());
        }
        data
    }

    /// No CA at all.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.next.is_none() && self.old.is_none()
    }

    /// Every CA that is to be trusted, the one that signs first.
    pub fn trusted(&self) -> Vec<CaCertificate> {
        let current = self.current.iter().map(|current| current.certificate().clone());
        let next = self.next.iter().map(|next| next.authority.certificate().clone());
        let old = self.old.iter().flat_map(|old| old.certificates.iter().cloned());
        current.chain(next).chain(old).collect()
    }
}

/// A PEM text of certificates: the same text for the same set, so that a change of roles alone writes nothing anywhere.
pub fn bundle(certificates: &[CaCertificate]) -> String {
    let mut sorted: Vec<_> = certificates.iter().collect();
    sorted.sort_by_key(|certificate| (certificate.not_before(), certificate.fingerprint()));
    sorted.into_iter().map(CaCertificate::pem).collect()
}

fn value(key: &'static str) -> impl Fn(String) -> ContentsError {
    move |cause| ContentsError::Value { key, cause }
}

/// A value; an empty one counts as absent.
fn bytes<'a>(data: &'a Data, key: &str) -> Option<&'a [u8]> {
    data.get(key).map(|value| value.0.as_slice()).filter(|value| !value.is_empty())
}

fn authority(data: &Data, [certificate, key]: [&'static str; 2]) -> Result<Option<Authority>, ContentsError> {
    match (bytes(data, certificate), bytes(data, key)) {
        (None, None) => Ok(None),
        (Some(_), None) => Err(ContentsError::Half { present: certificate, missing: key }),
        (None, Some(_)) => Err(ContentsError::Half { present: key, missing: certificate }),
        (Some(pem), Some(key)) => Authority::read(pem, key).map(Some).map_err(value(certificate)),
    }
}

fn time(data: &Data, key: &'static str) -> Result<Option<Timestamp>, ContentsError> {
    bytes(data, key)
        .map(|text| {
            let text = std::str::from_utf8(text).map_err(|error| value(key)(error.to_string()))?;
            text.parse().map_err(|error: jiff::Error| value(key)(error.to_string()))
        })
        .transpose()
}
