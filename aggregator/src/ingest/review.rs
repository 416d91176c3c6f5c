//! Asks the API server whose token it is. One call per stream, nothing cached.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::{Api, Client, api::PostParams};

const TIMEOUT: Duration = Duration::from_secs(10);

/// What a TokenReview answers (`status` of `authentication.k8s.io/v1`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Review {
    /// `status.authenticated`.
    pub authenticated: bool,
    /// `status.error`; empty when there is none.
    pub error: String,
    /// `status.audiences`: those of the ones asked for that the token is valid for.
    pub audiences: Vec<String>,
    /// `status.user.username`.
    pub username: String,
    /// `status.user.extra`.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// A review could not be made: nobody is admitted.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The API server refused or could not be reached.
    #[error("cannot create a TokenReview: {0}; is system:auth-delegator bound to this service account?")]
    Request(#[source] Box<kube::Error>),
    /// It did not answer in time.
    #[error("cannot create a TokenReview: no answer within {} s", TIMEOUT.as_secs())]
    Timeout,
    /// It answered without a status.
    #[error("cannot use a TokenReview: the answer has no status")]
    NoStatus,
}

/// Reviews tokens. The real one is [`KubeReviewer`].
pub trait TokenReviewer: Send + Sync + 'static {
    /// Reviews `token` for `audience`.
    fn review<'a>(&'a self, token: &'a str, audience: &'a str) -> BoxFuture<'a, Result<Review, ReviewError>>;
}

/// Creates TokenReviews at the API server.
#[derive(Clone)]
pub struct KubeReviewer {
    api: Api<TokenReview>,
}

impl KubeReviewer {
    /// Through this client, whose identity needs `system:auth-delegator`.
    pub fn new(client: Client) -> Self {
        Self { api: Api::all(client) }
    }
}

impl TokenReviewer for KubeReviewer {
    fn review<'a>(&'a self, token: &'a str, audience: &'a str) -> BoxFuture<'a, Result<Review, ReviewError>> {
        Box::pin(async move {
            let spec =
                TokenReviewSpec { audiences: Some(vec![audience.to_owned()]), token: Some(token.to_owned()) };
            let ask = TokenReview { spec, ..TokenReview::default() };
            let answer = tokio::time::timeout(TIMEOUT, self.api.create(&PostParams::default(), &ask))
                .await
                .map_err(|_| ReviewError::Timeout)?
                .map_err(|error| ReviewError::Request(Box::new(error)))?;
            let status = answer.status.ok_or(ReviewError::NoStatus)?;
            let user = status.user.unwrap_or_default();
            Ok(Review {
                authenticated: status.authenticated.unwrap_or_default(),
                error: status.error.unwrap_or_default(),
                audiences: status.audiences.unwrap_or_default(),
                username: user.username.unwrap_or_default(),
                extra: user.extra.unwrap_or_default(),
            })
        })
    }
}
