//! Bearer tokens, judged by TokenReview. Tokens are never kept: the cache knows them by a keyed hash.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::{hmac, rand::SystemRandom};
use http::{HeaderMap, header::AUTHORIZATION};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Client;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

use super::{
    Metrics, User,
    cache::{Cache, Fetched},
    rate::Rate,
};
use crate::client::review;

const LONGEST: usize = 16 * 1024;
const ENTRIES: u64 = 4096;
const IN_FLIGHT: usize = 64;
/// Requests that wait for a review, those in flight included. Each holds the headers of an unknown caller.
const WAITING: usize = 320;
const KEPT: Duration = Duration::from_secs(10);
/// For all tries together.
const PATIENCE: Duration = Duration::from_secs(10);

/// The token of a request; `None` without `Authorization`, with another scheme, or with nothing behind it.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    // A value that is not ASCII cannot be a token: it is taken as one that nobody knows.
    let value = headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap_or("bearer \u{fffd}"))?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.split(' ').next().unwrap_or_default();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Reviews tokens for the API server's own audience: tokens of agents, which have another one, fail here.
pub struct TokenReviewer {
    client: Client,
    key: hmac::Key,
    cache: Cache<[u8; 32], Option<Arc<User>>>,
    gate: Arc<Gate>,
    waiting: Semaphore,
    metrics: Metrics,
}

/// As many requests as may wait for a review do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyReviews;

/// How many reviews there are at once, and how often.
struct Gate {
    places: Semaphore,
    rate: Rate,
}

/// There are no random numbers for the key of the token cache.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("cannot make a key for the token cache: the system gives no random numbers")]
pub struct NoRandom;

impl TokenReviewer {
    /// With an empty cache and a new random key.
    pub fn new(client: Client, metrics: Metrics) -> Result<Self, NoRandom> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandom)?;
        let gate = Arc::new(Gate { places: Semaphore::new(IN_FLIGHT), rate: Rate::new() });
        Ok(Self { client, key, cache: Cache::new(ENTRIES), gate, waiting: Semaphore::new(WAITING), metrics })
    }

    /// The token's user; `None` for a token that is not accepted, also because it could not be reviewed.
    pub async fn review(&self, token: &str) -> Result<Option<Arc<User>>, TooManyReviews> {
        if token.len() > LONGEST {
            self.metrics.refuse("token-too-large");
            return Ok(None);
        }
        let mut key = [0; 32];
        key.copy_from_slice(hmac::sign(&self.key, token.as_bytes()).as_ref());
        if let Some(known) = self.cache.kept(&key).await {
            return Ok(known);
        }
        let _place = self.waiting.try_acquire().map_err(|_| TooManyReviews)?;
        let _counted = Counted::new(&self.metrics.token_reviews_waiting);
        let fetch = || {
            let (client, gate, metrics) = (self.client.clone(), Arc::clone(&self.gate), self.metrics.clone());
            ask(client, gate, metrics, token.to_owned())
        };
        Ok(self.cache.get(key, fetch).await)
    }
}

/// Counts one in a gauge until it is dropped.
struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn ask(client: Client, gate: Arc<Gate>, metrics: Metrics, token: String) -> Fetched<Option<Arc<User>>> {
    let count = |result: &'static str| metrics.token_reviews.get_or_create(&[("result", result)]).inc();
    let spec = TokenReviewSpec { token: Some(token), audiences: None };
    let review = TokenReview { spec, ..TokenReview::default() };
    let answer = timeout(PATIENCE, async {
        let wait = gate.rate.take(Instant::now(), PATIENCE).ok_or("too many tokens are to be reviewed")?;
        sleep(wait).await;
        let _place = gate.places.acquire().await.map_err(|error| error.to_string())?;
        let body = serde_json::to_vec(&review).map_err(|error| error.to_string())?;
        review::post::<TokenReview>(&client, review::TOKENS, body).await
    });
    let status = match answer.await.unwrap_or_else(|_| Err(format!("no answer in {PATIENCE:?}"))) {
        Ok(answer) => answer.status.unwrap_or_default(),
        Err(cause) => {
            count("failed");
            tracing::warn!(cause, "cannot review a token");
            return (None, None);
        }
    };
    let accepted =
        status.authenticated == Some(true) && status.error.as_deref().unwrap_or_default().is_empty();
    let Some(user) = status.user.filter(|_| accepted) else {
        count("rejected");
        return (None, Some(KEPT));
    };
    count("accepted");
    let user = User {
        name: user.username.unwrap_or_default(),
        uid: user.uid.unwrap_or_default(),
        groups: user.groups.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    };
    (Some(Arc::new(user)), Some(KEPT))
}
