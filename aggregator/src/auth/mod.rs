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

/// How a request reached the API port. Each origin has places and reviews of its own, so that none starves another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Through kube-apiserver.
    FrontProxy,
    /// Directly, from a client that proved who it is.
    Direct,
    /// Directly, from anybody.
    Anonymous,
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

/// Why the user of a request is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// No credential that was presented could be accepted: 401.
    #[error("Unauthorized")]
    Unauthorized,
    /// As many requests as may wait for a TokenReview do: 429.
    #[error("too many tokens are being reviewed")]
    TooManyReviews,
}

#[cfg(test)]
mod tests;
