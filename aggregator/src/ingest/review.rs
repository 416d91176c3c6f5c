//! Asks the API server whose token it is. One call per stream, nothing cached.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Client;

use crate::client::review;

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
    Request(String),
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
    client: Client,
}

impl KubeReviewer {
    /// Through this client, whose identity needs `system:auth-delegator`.
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl TokenReviewer for KubeReviewer {
    fn review<'a>(&'a self, token: &'a str, audience: &'a str) -> BoxFuture<'a, Result<Review, ReviewError>> {
        Box::pin(async move {
            let spec =
                TokenReviewSpec { audiences: Some(vec![audience.to_owned()]), token: Some(token.to_owned()) };
            let ask = TokenReview { spec, ..TokenReview::default() };
            let body = serde_json::to_vec(&ask).map_err(|error| ReviewError::Request(error.to_string()))?;
            let answer = review::post::<TokenReview>(&self.client, review::TOKENS, body);
            let answer = tokio::time::timeout(TIMEOUT, answer)
                .await
                .map_err(|_| ReviewError::Timeout)?
                .map_err(ReviewError::Request)?;
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

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Log {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_shows_no_token() {
        // The API server repeats the request in its answer; this one breaks off behind it.
        let echo = |request: Request<Body>| async {
            let mut body = request.into_body().collect_bytes().await?.to_vec();
            body.pop();
            Ok::<_, kube::Error>(Response::builder().status(201).body(Body::from(body)).unwrap())
        };
        let reviewer = KubeReviewer::new(Client::new(tower::service_fn(echo), "default"));
        let log = Log::default();
        let subscriber =
            tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
        let _recorded = tracing::subscriber::set_default(subscriber.finish());
        let error = reviewer.review("a-secret-token", "waggle.aggregator").await.unwrap_err();
        tracing::warn!(%error, ?error, "as admission logs it");
        let log = String::from_utf8(log.0.lock().clone()).unwrap();
        assert!(log.contains("as admission logs it"), "{log}");
        assert!(!log.contains("secret"), "{log}");
    }
}
