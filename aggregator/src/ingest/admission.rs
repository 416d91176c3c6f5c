//! Who may report, and for which node: one TokenReview per stream, then the inventory (`authentication.md`, B3). Fails
//! closed: whatever cannot be asked or found is a refusal.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;

use super::{
    fault::Refusal,
    review::{Review, TokenReviewer},
    waiters::Waiters,
};
use crate::inventory::{Inventory, Node, Pod, Synced};

const MAX_TOKEN: usize = 16 * 1024;
/// Reviews in flight, and those that may wait behind them.
const REVIEWS: usize = 64;
const WAITING: usize = 256;
/// How long an admission waits until Pods and Nodes were listed. Agents wait for 20 s; a review may take 10 s of them,
/// the lag of the inventory the rest.
const LISTS: Duration = Duration::from_secs(5);
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

/// Admits streams.
pub struct Admission {
    reviewer: Arc<dyn TokenReviewer>,
    audience: String,
    namespace: String,
    service_account: String,
    /// Whether Pods and Nodes were listed once: before that a pod that is not found is no stranger.
    listed: Synced,
    waiters: Waiters,
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
        listed: Synced,
    ) -> Self {
        Self {
            reviewer,
            audience,
            namespace,
            service_account,
            listed,
            waiters: Waiters::default(),
            in_flight: Semaphore::new(REVIEWS),
            queue: Semaphore::new(REVIEWS + WAITING),
        }
    }

    /// Admits the stream that carries this metadata, or says why not. Records in the current span which `pod` and `node`
    /// its token names.
    pub async fn admit(&self, metadata: &MetadataMap, inventory: &Inventory) -> Result<Admitted, Refusal> {
        let token = bearer(metadata)?;
        let review = self.review(token).await?;
        let span = tracing::Span::current();
        span.record("pod", one(&review, POD_NAME)).record("node", one(&review, NODE_NAME));
        let claims = self.judge(&review)?;
        let (pod, node) = self.find(&claims, inventory).await?;
        tracing::debug!(credential = ?one(&review, CREDENTIAL_ID), "agent admitted");
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

    /// The waiting admissions that claim this node look again.
    pub(super) fn inventory_changed(&self, node: &str) {
        self.waiters.notify(node);
    }

    /// All waiting admissions look again.
    pub(super) fn inventory_replaced(&self) {
        self.waiters.notify_all();
    }

    /// The claims' pod and node in the inventory, which may lag behind the review.
    async fn find(
        &self,
        claims: &Claims<'_>,
        inventory: &Inventory,
    ) -> Result<(Arc<Pod>, Arc<Node>), Refusal> {
        let mut listed = self.listed.clone();
        tokio::time::timeout(LISTS, listed.wait()).await.map_err(|_| Refusal::NotListed)?;
        let waiter = self.waiters.wait_for(claims.node_name);
        let deadline = tokio::time::Instant::now() + INVENTORY_LAG;
        loop {
            let changed = waiter.changed();
            match self.look_up(claims, inventory) {
                Ok(found) => return Ok(found),
                Err(refusal) => tokio::time::timeout_at(deadline, changed).await.map_err(|_| refusal)?,
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
mod tests;
