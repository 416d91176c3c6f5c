//! Tokens and what their reviews answer.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use waggle_aggregator::ingest::{Review, ReviewError, TokenReviewer};

/// Answers from a table of tokens.
#[derive(Default)]
pub struct Tokens {
    reviews: HashMap<String, Review>,
    flaky: AtomicUsize,
}

/// The first three reviews of tokens that begin so fail.
const FLAKY: &str = "flaky-";

/// Tokens that begin so are reviewed slowly: longer than a clock may be off.
const SLOW: &str = "slow-";

impl Tokens {
    /// `token-n1`, `token-n2`, and `more`.
    pub fn new(more: impl IntoIterator<Item = (&'static str, Review)>) -> Self {
        let mut reviews: HashMap<String, Review> =
            ["n1", "n2"].map(|node| (format!("token-{node}"), agent_review(node))).into();
        reviews.extend(more.into_iter().map(|(token, review)| (token.to_owned(), review)));
        Self { reviews, flaky: AtomicUsize::new(0) }
    }
}

impl TokenReviewer for Tokens {
    fn review<'a>(&'a self, token: &'a str, audience: &'a str) -> BoxFuture<'a, Result<Review, ReviewError>> {
        assert_eq!(audience, "waggle.aggregator");
        let review = self.reviews.get(token).cloned().unwrap_or_default();
        Box::pin(async move {
            if token.starts_with(SLOW) {
                tokio::time::sleep(Duration::from_secs(6)).await;
            }
            if token.starts_with(FLAKY) && self.flaky.fetch_add(1, Ordering::Relaxed) < 3 {
                return Err(ReviewError::Timeout);
            }
            Ok(review)
        })
    }
}

/// A token that says when it expires, as a service account's does.
pub fn expiring(after: Duration) -> &'static str {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    let at = std::time::SystemTime::now() + after;
    let seconds = at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let payload = URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{seconds}}}"));
    Box::leak(format!("e30.{payload}.signature").into_boxed_str())
}

/// What a TokenReview says of the agent pod on `node`.
pub fn agent_review(node: &str) -> Review {
    let extra =
        [("pod-name", format!("agent-{node}")), ("pod-uid", agent_uid(node)), ("node-name", node.into())];
    let key = |name: &str| format!("authentication.kubernetes.io/{name}");
    let extra: BTreeMap<_, _> = extra.into_iter().map(|(name, value)| (key(name), vec![value])).collect();
    Review {
        authenticated: true,
        error: String::new(),
        audiences: vec!["waggle.aggregator".into()],
        username: "system:serviceaccount:waggle-system:waggle-agent".into(),
        extra,
    }
}

pub fn agent_uid(node: &str) -> String {
    format!("uid-of-agent-{node}")
}
