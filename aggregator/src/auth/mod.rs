//! Who asks, and may they: front proxy → client certificate → bearer token → anonymous, then authorization. Owns
//! every decision about identity; what is done with it belongs to `api`. No credential is ever logged or kept.

mod authenticate;
mod authorize;
mod bundle;
mod cache;
mod config;
mod metrics;
mod peer;
mod rate;
mod request_header;
mod review;
mod selectors;
mod token;
mod x509;

use std::collections::BTreeMap;

pub use authenticate::{ANONYMOUS, Authenticator, Judgement, Opinion, Proven, decide, judge, strip};
pub use authorize::Authorizer;
pub use bundle::{Bundle, BundleError, Untrusted};
pub use config::{AuthConfig, ConfigError, Overlap, RequestHeader, Snapshot};
pub use metrics::Metrics;
pub use peer::PeerCertificates;
pub use selectors::{Operator, Requirement, Selectors};
pub use token::{NoRandom, TokenReviewer, bearer};

/// An authenticated (or anonymous) user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Hash)]
pub struct User {
    /// Name.
    pub name: String,
    /// UID; empty when unknown.
    pub uid: String,
    /// Groups, in order.
    pub groups: Vec<String>,
    /// Extra attributes; keys lower case.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request wants to do, as a SubjectAccessReview asks it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// A resource of `metrics.k8s.io`.
    Resource {
        /// `get`, `list`, `watch`, …
        verb: String,
        /// API group.
        group: String,
        /// API version as asked.
        version: String,
        /// Namespace; empty for cluster scope or all namespaces.
        namespace: String,
        /// Resource.
        resource: String,
        /// Subresource; empty for none.
        subresource: String,
        /// Name; empty for lists.
        name: String,
    },
    /// Any other path.
    NonResource {
        /// Lower-cased method.
        verb: String,
        /// The path.
        path: String,
    },
}

/// The answer of the authorizer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// 403, with the reason that the reviewer gave (may be empty).
    Deny {
        /// The review's reason.
        reason: String,
    },
    /// 500: the review could not be made.
    Failed {
        /// Why.
        cause: String,
    },
}

/// No credential that was presented could be accepted: 401.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unauthorized")]
pub struct Unauthorized;

#[cfg(test)]
mod tests;
