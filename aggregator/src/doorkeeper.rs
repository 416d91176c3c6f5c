//! The API port's gate: authentication and authorization by `auth`.

use http::HeaderMap;

use crate::{
    api::Gate,
    auth::{
        Attributes, Authenticator, Authorizer, Decision, Origin, PeerCertificates, Selectors,
        Unauthenticated, User,
    },
};

/// Both questions of the API port, asked of `auth`.
pub(crate) struct Doorkeeper {
    pub(crate) authenticator: Authenticator,
    pub(crate) authorizer: Authorizer,
}

impl Gate for Doorkeeper {
    fn is_front_proxy(&self, peer: &PeerCertificates) -> bool {
        self.authenticator.is_front_proxy(peer)
    }

    async fn authenticate(
        &self,
        peer: &PeerCertificates,
        headers: &HeaderMap,
    ) -> Result<User, Unauthenticated> {
        self.authenticator.authenticate(peer, headers).await
    }

    async fn authorize(
        &self,
        origin: Origin,
        user: &User,
        attributes: &Attributes,
        selectors: &Selectors,
    ) -> Decision {
        self.authorizer.authorize(origin, user, attributes, selectors).await
    }

    fn strip(&self, headers: &mut HeaderMap) {
        self.authenticator.strip(headers);
    }
}
