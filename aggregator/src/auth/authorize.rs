//! May this user do that: `system:masters`, always-allowed paths, then SubjectAccessReview with a short cache.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::authorization::v1::{
    NonResourceAttributes, ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::Client;

use super::{
    Attributes, Decision, Metrics, User,
    cache::{Cache, Fetched},
    review,
};

const MASTERS: &str = "system:masters";
/// Exact matches only.
const ALWAYS: [&str; 3] = ["/healthz", "/livez", "/readyz"];
const ENTRIES: usize = 8192;
const KEPT: Duration = Duration::from_secs(10);
/// Questions whose caller-controlled part is this long are not kept (`plugin/pkg/authorizer/webhook/webhook.go`).
const LONGEST_KEPT: usize = 10_000;

type Question = Arc<(User, Attributes)>;

/// Asks the API server about access.
pub struct Authorizer {
    client: Client,
    cache: Cache<Question, Decision>,
    metrics: Metrics,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorizer").finish_non_exhaustive()
    }
}

impl Authorizer {
    /// `client` is the one for reviews.
    pub fn new(client: Client, metrics: Metrics) -> Self {
        Self { client, cache: Cache::new(ENTRIES), metrics }
    }

    /// Whether the user may. The question has no selectors in it, so that one answer serves all lists of a user.
    pub async fn authorize(&self, user: &User, attributes: &Attributes) -> Decision {
        if user.groups.iter().any(|group| group == MASTERS) {
            return Decision::Allow;
        }
        if matches!(attributes, Attributes::NonResource { path, .. } if ALWAYS.contains(&path.as_str())) {
            return Decision::Allow;
        }
        let question = Arc::new((user.clone(), attributes.clone()));
        let fetch = || ask(self.client.clone(), self.metrics.clone(), Arc::clone(&question));
        self.cache.get(Arc::clone(&question), fetch).await
    }
}

async fn ask(client: Client, metrics: Metrics, question: Question) -> Fetched<Decision> {
    let count = |result: &'static str| metrics.access_reviews.get_or_create(&[("result", result)]).inc();
    let (user, attributes) = &*question;
    let review = SubjectAccessReview { spec: spec(user, attributes), ..SubjectAccessReview::default() };
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let status = match review::post::<_, SubjectAccessReview>(&client, path, &review).await {
        Ok(answer) => answer.status.unwrap_or_default(),
        Err(cause) => {
            count("failed");
            tracing::warn!(cause, "cannot review access");
            return (Decision::Failed { cause }, None);
        }
    };
    let keep = (size(attributes) < LONGEST_KEPT).then_some(KEPT);
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

fn spec(user: &User, attributes: &Attributes) -> SubjectAccessReviewSpec {
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
                ..ResourceAttributes::default()
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
