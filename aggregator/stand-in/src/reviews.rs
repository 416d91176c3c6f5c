//! TokenReview and SubjectAccessReview.

use std::collections::BTreeMap;

use http::{Response, StatusCode};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    answer::{self, Body},
    caller::Caller,
    policy::{Object, Policy, Wish},
    store::Store,
    token::{Tokens, Verdict},
};

/// Answers a TokenReview.
pub(crate) fn token(body: &[u8], tokens: &Tokens, store: &Store) -> Response<Body> {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Spec {
        token: String,
        audiences: Vec<String>,
    }
    let Some((mut review, spec)) = parse::<Spec>(body) else {
        return answer::status(StatusCode::BAD_REQUEST, "the body is not a TokenReview");
    };
    if spec.token.is_empty() {
        return answer::status(
            StatusCode::BAD_REQUEST,
            "token is required for TokenReview in authentication",
        );
    }
    review["status"] = match tokens.review(&spec.token, &spec.audiences, store) {
        Verdict::Bad(error) => json!({"user": {}, "error": error}),
        Verdict::Good(caller, audiences) => {
            let mut user = json!({"username": caller.name, "groups": caller.groups});
            if !caller.uid.is_empty() {
                user["uid"] = json!(caller.uid);
            }
            if !caller.extra.is_empty() {
                user["extra"] = json!(caller.extra);
            }
            json!({"authenticated": true, "user": user, "audiences": audiences})
        }
    };
    answer::json(StatusCode::CREATED, &review)
}

/// Answers a SubjectAccessReview.
pub(crate) fn access(body: &[u8], policy: &Policy, seen: &Mutex<Vec<Value>>) -> Response<Body> {
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct Spec {
        user: String,
        uid: String,
        groups: Vec<String>,
        extra: BTreeMap<String, Vec<String>>,
        resource_attributes: Option<ResourceAttributes>,
        non_resource_attributes: Option<NonResourceAttributes>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default, rename_all = "camelCase")]
    struct ResourceAttributes {
        verb: String,
        group: String,
        resource: String,
        subresource: String,
        namespace: String,
        name: String,
        field_selector: Selector,
        label_selector: Selector,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Selector {
        requirements: Vec<Requirement>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Requirement {
        key: String,
        operator: String,
        values: Vec<String>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct NonResourceAttributes {
        path: String,
        verb: String,
    }
    let Some((mut review, spec)) = parse::<Spec>(body) else {
        return answer::status(StatusCode::BAD_REQUEST, "the body is not a SubjectAccessReview");
    };
    seen.lock().push(review["spec"].clone());
    let caller = Caller { name: spec.user, uid: spec.uid, groups: spec.groups, extra: spec.extra };
    let reason = match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(r), None) => {
            let resource = match r.subresource.as_str() {
                "" => r.resource.clone(),
                subresource => format!("{}/{subresource}", r.resource),
            };
            let object = Object::Resource {
                group: &r.group,
                resource: &resource,
                namespace: &r.namespace,
                name: &r.name,
            };
            let all = r.field_selector.requirements.iter().chain(&r.label_selector.requirements);
            let selected: Vec<_> = all
                .filter(|one| one.operator == "In")
                .filter_map(|one| {
                    Some((one.key.clone(), <&[String; 1]>::try_from(&*one.values).ok()?[0].clone()))
                })
                .collect();
            policy.allows(&caller, &Wish { verb: &r.verb, object, selected: &selected })
        }
        (None, Some(path)) => policy
            .allows(&caller, &Wish { verb: &path.verb, object: Object::Path(&path.path), selected: &[] }),
        _ => {
            let text = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            return answer::status(StatusCode::UNPROCESSABLE_ENTITY, text);
        }
    };
    review["status"] = match reason {
        Some(reason) => json!({"allowed": true, "reason": reason}),
        None => json!({"allowed": false}),
    };
    answer::json(StatusCode::CREATED, &review)
}

/// The review as it came, and its spec.
fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Option<(Value, T)> {
    let review: Value = serde_json::from_slice(body).ok()?;
    let spec = serde_json::from_value(review.get("spec")?.clone()).ok()?;
    review.is_object().then_some((review, spec))
}
