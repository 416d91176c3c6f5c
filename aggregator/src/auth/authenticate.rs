//! The union of all authenticators: front proxy, client certificate, bearer token; anonymous only for those who presented
//! nothing. Judging certificates and headers is pure; only the token needs the API server.

use std::time::Instant;

use http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use kube::Client;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{
    Metrics, PeerCertificates, Unauthenticated, User,
    config::{AuthConfig, Snapshot},
    request_header,
    token::{self, NoRandom, TokenReviewer, TooManyReviews},
    x509,
};
use crate::telemetry::Seldom;

const AUTHENTICATED: &str = "system:authenticated";
/// Whoever presented nothing.
pub const ANONYMOUS: &str = "system:anonymous";
const UNAUTHENTICATED: &str = "system:unauthenticated";

/// What one authenticator says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opinion<T> {
    /// Yes.
    Accepted(T),
    /// Nothing was presented that concerns it.
    None,
    /// What was presented is not good, for this reason.
    Refused(&'static str),
}

/// What a chain of certificates is worth under one snapshot, whatever a request's headers say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// Whether the peer is the front proxy.
    pub front_proxy: Opinion<()>,
    /// Whom the certificate itself names.
    pub certificate: Opinion<User>,
}

/// Judges a chain, leaf first.
pub fn judge(chain: &[CertificateDer<'_>], snapshot: &Snapshot, now: UnixTime) -> Judgement {
    let Some(leaf) = chain.first() else {
        return Judgement { front_proxy: Opinion::None, certificate: Opinion::None };
    };
    if snapshot.generation == 0 {
        // Nothing says yet whose certificates count. Anonymous would be a wrong answer to the front proxy, and a 403 to
        // its users: an error is one that they try again after.
        let unknown = Opinion::Refused("configuration-not-loaded");
        return Judgement { front_proxy: unknown, certificate: Opinion::None };
    }
    let front_proxy = match &snapshot.request_header {
        None => Opinion::None,
        Some(rules) if rules.ca.verify(chain, now).is_err() => Opinion::Refused("front-proxy-certificate"),
        Some(rules) => match x509::common_name(leaf) {
            Ok(name) if rules.allowed_names.is_empty() || rules.allowed_names.contains(&name) => {
                Opinion::Accepted(())
            }
            _ => Opinion::Refused("front-proxy-name"),
        },
    };
    let certificate = match &snapshot.client_ca {
        None => Opinion::None,
        Some(ca) if ca.verify(chain, now).is_err() => Opinion::Refused("client-certificate"),
        Some(_) => match x509::user(leaf) {
            Ok(Some(user)) => Opinion::Accepted(user),
            Ok(None) => Opinion::None,
            Err(_) => Opinion::Refused("client-certificate-subject"),
        },
    };
    Judgement { front_proxy, certificate }
}

/// How a request proved itself without a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proven {
    /// By the front proxy's certificate and headers.
    FrontProxy(User),
    /// By its own certificate.
    Certificate(User),
    /// Not at all; with what was wrong with what it presented (empty: it presented nothing).
    Not(Vec<&'static str>),
}

/// The first two steps of the union: the front proxy's headers count only for the front proxy.
pub fn decide(judgement: &Judgement, headers: &HeaderMap, snapshot: &Snapshot) -> Proven {
    let mut refused = Vec::new();
    match (&judgement.front_proxy, &snapshot.request_header) {
        (Opinion::Accepted(()), Some(rules)) => {
            if let Some(user) = request_header::user(headers, rules) {
                return Proven::FrontProxy(authenticated(user));
            }
        }
        (Opinion::Refused(reason), _) => refused.push(*reason),
        _ => {}
    }
    match &judgement.certificate {
        Opinion::Accepted(user) => return Proven::Certificate(authenticated(user.clone())),
        Opinion::Refused(reason) => refused.push(*reason),
        Opinion::None => {}
    }
    Proven::Not(refused)
}

/// Adds the group of everybody who proved who he is.
fn authenticated(mut user: User) -> User {
    let marked = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
    if user.name != ANONYMOUS && !user.groups.iter().any(marked) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    user
}

/// Removes every header that carries a credential or claims an identity: nothing behind authentication may see one.
pub fn strip(headers: &mut HeaderMap, snapshot: &Snapshot) {
    let claims = |name: &HeaderName| {
        name == AUTHORIZATION
            || name.as_str().starts_with("x-remote-")
            || name.as_str().starts_with("impersonate-")
            || snapshot.request_header.as_ref().is_some_and(|rules| request_header::claims(name, rules))
    };
    let names: Vec<HeaderName> = headers.keys().filter(|name| claims(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

/// Authenticates requests.
pub struct Authenticator {
    config: AuthConfig,
    tokens: TokenReviewer,
    metrics: Metrics,
    notices: Seldom,
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Authenticator {
    /// `client` is the one for reviews.
    pub fn new(client: Client, config: AuthConfig, metrics: Metrics) -> Result<Self, NoRandom> {
        let tokens = TokenReviewer::new(client, metrics.clone())?;
        Ok(Self { config, tokens, metrics, notices: Seldom::default() })
    }

    /// Who sent this request; identity belongs to the request, never to its connection. The headers are only read here,
    /// call [`Self::strip`] before they go on.
    pub async fn authenticate(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<User, Unauthenticated> {
        let count = |how: &'static str| self.metrics.requests.get_or_create(&[("by", how)]).inc();
        let snapshot = self.config.snapshot();
        let judged = peer.judged(&snapshot, UnixTime::now());
        let refused = match decide(&judged.judgement, headers, &snapshot) {
            Proven::FrontProxy(user) => {
                count("front-proxy");
                return Ok(user);
            }
            Proven::Certificate(user) => {
                count("certificate");
                return Ok(user);
            }
            Proven::Not(refused) => refused,
        };
        let token = token::bearer(headers);
        if let Some(token) = token {
            let reviewed = self.tokens.review(token).await.map_err(|TooManyReviews| {
                self.refuse("too-many-reviews");
                Unauthenticated::TooManyReviews
            })?;
            if let Some(user) = reviewed {
                count("token");
                return Ok(authenticated((*user).clone()));
            }
            self.refuse("token");
        }
        for reason in refused.iter().copied() {
            self.refuse(reason);
        }
        if token.is_some() || !refused.is_empty() {
            count("rejected");
            return Err(Unauthenticated::Unauthorized);
        }
        count("anonymous");
        let groups = vec![UNAUTHENTICATED.to_owned()];
        Ok(User { name: ANONYMOUS.to_owned(), groups, ..User::default() })
    }

    fn refuse(&self, reason: &'static str) {
        self.metrics.refuse(reason);
        if self.notices.may_say(reason, Instant::now()) {
            tracing::warn!(
                reason,
                "refusing credentials at the API port; said once a minute, counted in the metrics"
            );
        }
    }

    /// Whether the peer's certificate is the front proxy's.
    pub fn is_front_proxy(&self, peer: &PeerCertificates) -> bool {
        let judged = peer.judged(&self.config.snapshot(), UnixTime::now());
        judged.judgement.front_proxy == Opinion::Accepted(())
    }

    /// Removes credentials and claims of identity.
    pub fn strip(&self, headers: &mut HeaderMap) {
        strip(headers, &self.config.snapshot());
    }
}
