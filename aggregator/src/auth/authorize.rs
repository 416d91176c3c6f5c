//! May this user do that: `system:masters`, always-allowed paths, then SubjectAccessReview with a short cache.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;
use tokio::time::{Instant, sleep};

use super::{
    Attributes, Decision, Metrics, Origin, User,
    cache::{Cache, Fetched},
    rate::Rate,
    selectors::Selectors,
};
use crate::client::review;

const MASTERS: &str = "system:masters";
/// Exact matches only.
const ALWAYS: [&str; 3] = ["/healthz", "/livez", "/readyz"];
const ENTRIES: u64 = 8192;
const KEPT: Duration = Duration::from_secs(10);
/// The longest wait for a turn.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions whose caller-controlled part is this long are not kept (`plugin/pkg/authorizer/webhook/webhook.go`).
const LONGEST_KEPT: usize = 10_000;

/// The question, hashed: a user in a thousand groups would fill the cache with them.
type Question = [u8; 32];

/// Asks the API server about access.
pub struct Authorizer {
    client: Client,
    cache: Cache<Question, Decision>,
    rates: Rates,
    metrics: Metrics,
}

/// How often the API server is asked, for each origin by itself.
struct Rates {
    front_proxy: Arc<Rate>,
    direct: Arc<Rate>,
    anonymous: Arc<Rate>,
}

impl Rates {
    fn of(&self, origin: Origin) -> &Arc<Rate> {
        match origin {
            Origin::FrontProxy => &self.front_proxy,
            Origin::Direct => &self.direct,
            Origin::Anonymous => &self.anonymous,
        }
    }
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

impl Authorizer {
    /// `client` is the one for reviews.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        let rate = || Arc::new(Rate::new());
        let rates = Rates { front_proxy: rate(), direct: rate(), anonymous: rate() };
        Self { client, cache: Cache::new(ENTRIES), rates, metrics }
    }

    /// Whether the user may. Asked without the selectors first, so that one answer serves all lists of a user; only a
    /// denial is asked about again with them, for users who may see no more than they select.
    pub async fn authorize(
        &self,
        origin: Origin,
        user: &User,
        attributes: &Attributes,
        selectors: &Selectors,
    ) -> Decision {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allow;
        }
        if matches!(attributes, Attributes::NonResource { path, .. } if ALWAYS.contains(&path.as_str())) {
            return Decision::Allow;
        }
        match self.review(origin, user, attributes, &Selectors::default()).await {
            Decision::Deny { .. } if !selectors.is_empty() => {
                self.review(origin, user, attributes, selectors).await
            }
            decision => decision,
        }
    }

    async fn review(
        &self,
        origin: Origin,
        user: &User,
        attributes: &Attributes,
        selectors: &Selectors,
    ) -> Decision {
        let spec = spec(user, attributes, selectors);
        let keep = size(attributes) < LONGEST_KEPT;
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let body = match serde_json::to_vec(&review) {
            Ok(body) => body,
            Err(error) => return Decision::Failed { cause: error.to_string() },
        };
        // The origin is part of the question: other origins must not share a review that waits behind those of strangers.
        let mut hash = Context::new(&SHA256);
        hash.update(&[origin as u8]);
        hash.update(&body);
        let mut key = [0; 32];
        key.copy_from_slice(hash.finish().as_ref());
        let fetch = || {
            let (client, rate, metrics) =
                (self.client.clone(), Arc::clone(self.rates.of(origin)), self.metrics.clone());
            async move { ask(client, rate, metrics, body, keep).await }
        };
        self.cache.get(key, fetch).await
    }
}

async fn ask(
    client: Client,
    rate: Arc<Rate>,
    metrics: Metrics,
    body: Vec<u8>,
    keep: bool,
) -> Fetched<Decision> {
    let count = |result: &'static str| metrics.access_reviews.get_or_create(&[("result", result)]).inc();
    let answer = async {
        let wait = rate.take(Instant::now(), PATIENCE).ok_or("too many reviews of access are to be made")?;
        sleep(wait).await;
        review::post::<SubjectAccessReview>(&client, review::ACCESS, body).await
    };
    let status = match answer.await {
        Ok(answer) => answer.status.unwrap_or_default(),
        Err(cause) => {
            count("failed");
            tracing::warn!(cause, "cannot review access");
            return (Decision::Failed { cause }, None);
        }
    };
    let keep = keep.then_some(KEPT);
    let reason = status.reason.unwrap_or_default();
    match (status.allowed, status.denied.unwrap_or_default()) {
        (true, true) => {
            count("failed");
            let cause = "subject access review returned both allow and deny response".to_owned();
            (Decision::Failed { cause }, None)
        }
        (true, false) => {
            count("allowed");
            (Decision::Allow, keep)
        }
        (false, _) => {
            count("denied");
            (Decision::Deny { reason }, keep)
        }
    }
}

fn spec(user: &User, attributes: &Attributes, selectors: &Selectors) -> SubjectAccessReviewSpec {
    // An absent field and an empty one are the same to the API server.
    let text = |value: &String| Some(value.clone()).filter(|value| !value.is_empty());
    let mut spec = SubjectAccessReviewSpec {
        user: text(&user.name),
        uid: text(&user.uid),
        groups: Some(user.groups.clone()),
        extra: Some(user.extra.clone()).filter(|extra: &BTreeMap<_, _>| !extra.is_empty()),
        ..SubjectAccessReviewSpec::default()
    };
    match attributes {
        Attributes::Resource { verb, group, version, namespace, resource, subresource, name } => {
            spec.resource_attributes = Some(ResourceAttributes {
                verb: text(verb),
                group: text(group),
                version: text(version),
                namespace: text(namespace),
                resource: text(resource),
                subresource: text(subresource),
                name: text(name),
                field_selector: selectors.field_attributes(),
                label_selector: selectors.label_attributes(),
            });
        }
        Attributes::NonResource { verb, path } => {
            spec.non_resource_attributes = Some(NonResourceAttributes { verb: text(verb), path: text(path) });
        }
    }
    spec
}

/// Bytes of what the caller chose.
fn size(attributes: &Attributes) -> usize {
    match attributes {
        Attributes::Resource { verb, group, version, namespace, resource, subresource, name } => {
            [verb, group, version, namespace, resource, subresource, name].iter().map(|text| text.len()).sum()
        }
        Attributes::NonResource { verb, path } => verb.len() + path.len(),
    }
}
