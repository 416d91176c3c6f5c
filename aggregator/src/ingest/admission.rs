//! Who may report, and for which node: one TokenReview per stream, then the inventory (`authentication.md`, B3). Fails
//! closed: whatever cannot be asked or found is a refusal.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use tokio::sync::{Semaphore, broadcast::error::RecvError};
use tonic::metadata::MetadataMap;

use super::{
    fault::Refusal,
    review::{Review, TokenReviewer},
};
use crate::inventory::{Inventory, Node, Pod};

const MAX_TOKEN: usize = 16 * 1024;
/// Reviews in flight, and those that may wait behind them.
const REVIEWS: usize = 64;
const WAITING: usize = 256;
/// How long the inventory may lag behind a review.
const INVENTORY_LAG: Duration = Duration::from_secs(5);

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const NODE_UID: &str = "authentication.kubernetes.io/node-uid";
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// The stream's identity.
#[derive(Debug, Clone)]
pub struct Admitted {
    /// The agent's pod.
    pub pod: Arc<Pod>,
    /// The node that it reports for.
    pub node: Arc<Node>,
    /// The token's own expiry claim, where it could be read.
    pub expires: Option<SystemTime>,
}

/// Whether Pods and Nodes were listed once: before that a pod that is not found is no stranger.
pub type Listed = Box<dyn Fn() -> bool + Send + Sync>;

/// Admits streams.
pub struct Admission {
    reviewer: Arc<dyn TokenReviewer>,
    audience: String,
    namespace: String,
    service_account: String,
    listed: Listed,
    in_flight: Semaphore,
    queue: Semaphore,
}

/// What a token says about who carries it.
struct Claims<'a> {
    pod_name: &'a str,
    pod_uid: &'a str,
    node_name: &'a str,
    node_uid: Option<&'a str>,
}

impl Admission {
    /// For tokens of `namespace/service_account` with `audience`.
    pub fn new(
        reviewer: Arc<dyn TokenReviewer>,
        audience: String,
        namespace: String,
        service_account: String,
        listed: Listed,
    ) -> Self {
        Self {
            reviewer,
            audience,
            namespace,
            service_account,
            listed,
            in_flight: Semaphore::new(REVIEWS),
            queue: Semaphore::new(REVIEWS + WAITING),
        }
    }

    /// Admits the stream that carries this metadata, or says why not.
    pub async fn admit(&self, metadata: &MetadataMap, inventory: &Inventory) -> Result<Admitted, Refusal> {
        let token = bearer(metadata)?;
        let review = self.review(token).await?;
        let claims = self.judge(&review)?;
        let (pod, node) = self.find(&claims, inventory).await?;
        tracing::debug!(
            node = %node.name, pod = %pod.name, credential = ?one(&review, CREDENTIAL_ID), "agent admitted"
        );
        Ok(Admitted { pod, node, expires: expiry(token) })
    }

    async fn review(&self, token: &str) -> Result<Review, Refusal> {
        let _place = self.queue.try_acquire().map_err(|_| Refusal::QueueFull)?;
        let _permit = self.in_flight.acquire().await.map_err(|_| Refusal::QueueFull)?;
        self.reviewer.review(token, &self.audience).await.map_err(|error| {
            tracing::warn!(%error, "an agent's token could not be reviewed");
            Refusal::ReviewUnavailable
        })
    }

    fn judge<'a>(&self, review: &'a Review) -> Result<Claims<'a>, Refusal> {
        if !review.authenticated || !review.error.is_empty() {
            return Err(Refusal::TokenRejected);
        }
        if !review.audiences.contains(&self.audience) {
            return Err(Refusal::Audience);
        }
        if review.username != format!("system:serviceaccount:{}:{}", self.namespace, self.service_account) {
            return Err(Refusal::ServiceAccount);
        }
        Ok(Claims {
            pod_name: one(review, POD_NAME).ok_or(Refusal::Claims)?,
            pod_uid: one(review, POD_UID).ok_or(Refusal::Claims)?,
            node_name: one(review, NODE_NAME).ok_or(Refusal::Claims)?,
            node_uid: one(review, NODE_UID),
        })
    }

    /// The claims' pod and node in the inventory, which may lag behind the review.
    async fn find(
        &self,
        claims: &Claims<'_>,
        inventory: &Inventory,
    ) -> Result<(Arc<Pod>, Arc<Node>), Refusal> {
        let mut changes = inventory.changes();
        let deadline = tokio::time::Instant::now() + INVENTORY_LAG;
        loop {
            let refusal = match self.look_up(claims, inventory) {
                Ok(found) => return Ok(found),
                Err(refusal) => refusal,
            };
            match tokio::time::timeout_at(deadline, changes.recv()).await {
                Ok(Ok(_) | Err(RecvError::Lagged(_))) => {}
                Ok(Err(RecvError::Closed)) | Err(_) if (self.listed)() => return Err(refusal),
                Ok(Err(RecvError::Closed)) | Err(_) => return Err(Refusal::NotListed),
            }
        }
    }

    fn look_up(&self, claims: &Claims<'_>, inventory: &Inventory) -> Result<(Arc<Pod>, Arc<Node>), Refusal> {
        let pod = inventory
            .pod(&self.namespace, claims.pod_name)
            .filter(|pod| {
                *pod.uid == *claims.pod_uid
                    && *pod.service_account == *self.service_account
                    && *pod.node == *claims.node_name
            })
            .ok_or(Refusal::PodMismatch)?;
        let node = inventory
            .node(claims.node_name)
            .filter(|node| claims.node_uid.is_none_or(|uid| *node.uid == *uid))
            .ok_or(Refusal::NodeMismatch)?;
        Ok((pod, node))
    }
}

fn bearer(metadata: &MetadataMap) -> Result<&str, Refusal> {
    let value = metadata.get("authorization").ok_or(Refusal::TokenMissing)?;
    if value.as_bytes().len() > MAX_TOKEN {
        return Err(Refusal::TokenTooLarge);
    }
    let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).map(str::trim);
    token.filter(|token| !token.is_empty()).ok_or(Refusal::TokenMissing)
}

/// The value of an extra field that has exactly one, not empty.
fn one<'a>(review: &'a Review, key: &str) -> Option<&'a str> {
    match review.extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value),
        _ => None,
    }
}

/// The `exp` claim of a JWT. The token was reviewed; this only says when to review the next one.
fn expiry(token: &str) -> Option<SystemTime> {
    #[derive(Deserialize)]
    struct Payload {
        exp: u64,
    }
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    let Payload { exp } = serde_json::from_slice(&payload).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(exp))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn the_expiry_is_read_from_the_payload() {
        let payload = URL_SAFE_NO_PAD.encode(r#"{"aud":["x"],"exp":1700000000}"#);
        let at = expiry(&format!("e30.{payload}.sig"));
        assert_eq!(at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000)));
        for opaque in ["", "opaque", "a.b.c", "e30.e30.sig"] {
            assert_eq!(expiry(opaque), None, "{opaque}");
        }
    }

    /// Answers never.
    struct Silent;

    impl TokenReviewer for Silent {
        fn review<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
        ) -> futures_util::future::BoxFuture<'a, Result<Review, super::super::review::ReviewError>> {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test]
    async fn a_storm_waits_in_a_queue_that_ends() {
        let admission =
            Admission::new(Arc::new(Silent), "a".into(), "n".into(), "s".into(), Box::new(|| true));
        let inventory = Inventory::default();
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", "Bearer x".parse().unwrap());
        let mut storm: Vec<_> =
            (0..REVIEWS + WAITING).map(|_| Box::pin(admission.admit(&metadata, &inventory))).collect();
        for (position, one) in storm.iter_mut().enumerate() {
            assert!(futures_util::poll!(one.as_mut()).is_pending(), "{position}");
        }
        assert_eq!(admission.in_flight.available_permits(), 0, "the first ones are being reviewed");
        let refusal = admission.admit(&metadata, &inventory).await.unwrap_err();
        assert_eq!(refusal, Refusal::QueueFull);
        let status = refusal.status();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.metadata().contains_key("grpc-retry-pushback-ms"));
        // Whoever leaves makes room.
        storm.pop();
        assert!(futures_util::poll!(Box::pin(admission.admit(&metadata, &inventory))).is_pending());
    }

    /// Finds every token good.
    struct Good;

    impl TokenReviewer for Good {
        fn review<'a>(
            &'a self,
            _: &'a str,
            audience: &'a str,
        ) -> futures_util::future::BoxFuture<'a, Result<Review, super::super::review::ReviewError>> {
            let claims = [(POD_NAME, "p"), (POD_UID, "u"), (NODE_NAME, "n")];
            let extra = claims.map(|(key, value)| (key.to_owned(), vec![value.to_owned()]));
            let review = Review {
                authenticated: true,
                audiences: vec![audience.to_owned()],
                username: "system:serviceaccount:n:s".to_owned(),
                extra: extra.into(),
                ..Review::default()
            };
            Box::pin(async { Ok(review) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_a_stranger_before_pods_were_listed() {
        for (listed, refusal, code) in [
            (false, Refusal::NotListed, Code::Unavailable),
            (true, Refusal::PodMismatch, Code::PermissionDenied),
        ] {
            let listed = Box::new(move || listed);
            let admission = Admission::new(Arc::new(Good), "a".into(), "n".into(), "s".into(), listed);
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", "Bearer x".parse().unwrap());
            let refused = admission.admit(&metadata, &Inventory::default()).await.unwrap_err();
            assert_eq!((refused, refused.status().code()), (refusal, code));
        }
    }

    #[test]
    fn a_token_is_taken_from_a_bearer_header_only() {
        let with = |value: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().unwrap());
            bearer(&metadata).map(str::to_owned)
        };
        assert_eq!(with("Bearer abc"), Ok("abc".to_owned()));
        assert_eq!(with("Basic abc"), Err(Refusal::TokenMissing));
        assert_eq!(with("Bearer "), Err(Refusal::TokenMissing));
        assert_eq!(with(&format!("Bearer {}", "x".repeat(MAX_TOKEN))), Err(Refusal::TokenTooLarge));
        assert_eq!(bearer(&MetadataMap::new()), Err(Refusal::TokenMissing));
    }
}
