//! get, list and watch of the stored kinds, update and patch of those that an aggregator may change.

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode, header::ACCEPT};
use serde_json::{Value, json};

use crate::{
    answer::{self, Body},
    fault::Fault,
    request::RequestInfo,
    store::{ChangeError, Kind, Store},
    table, watch,
};

/// Answers a request for a stored kind.
pub(crate) fn answer(
    store: &Arc<Store>,
    kind: Kind,
    info: &RequestInfo,
    headers: &http::HeaderMap,
    bookmarks: Duration,
    fault: Option<Fault>,
) -> Response<Body> {
    let filter = match info.filter() {
        Ok(filter) => filter,
        Err(text) => return answer::status(StatusCode::BAD_REQUEST, &text),
    };
    let as_table = kind == Kind::ApiService
        && headers.get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|v| v.contains("as=Table;v=v1;"));
    let namespace = Some(info.namespace.clone()).filter(|namespace| !namespace.is_empty());
    match info.verb.as_str() {
        "get" => match store.get(kind, &info.namespace, &info.name) {
            None => {
                let message = format!("{} {:?} not found", kind.resource(), info.name);
                answer::status(StatusCode::NOT_FOUND, &message)
            }
            Some(object) if as_table => answer::ok(&table::api_services(&[object], store.version())),
            Some(object) => answer::ok(&object),
        },
        "list" => {
            let (mut objects, version) = store.list(kind, namespace.as_deref());
            objects.retain(|object| filter.matches(object));
            if as_table {
                return answer::ok(&table::api_services(&objects, version));
            }
            answer::ok(&json!({
                "kind": format!("{}List", kind.name()), "apiVersion": kind.api_version(),
                "metadata": {"resourceVersion": version.to_string()},
                "items": objects.iter().map(|object| &**object).collect::<Vec<_>>(),
            }))
        }
        "watch" => {
            let from = info.parameter("resourceVersion").parse().ok().filter(|version| *version > 0);
            let initial = info.flag("sendInitialEvents");
            let timeout =
                info.parameter("timeoutSeconds").parse().map_or(Duration::from_mins(30), Duration::from_secs);
            let wanted = watch::Wanted {
                kind,
                namespace,
                filter,
                from: if initial { None } else { from },
                initial_end: initial,
                bookmarks: info.flag("allowWatchBookmarks").then_some(bookmarks),
                timeout,
            };
            let body = watch::body(Arc::clone(store), wanted, fault);
            let mut response = Response::new(body);
            let json = http::HeaderValue::from_static(answer::JSON);
            response.headers_mut().insert(http::header::CONTENT_TYPE, json);
            response
        }
        _ => answer::status(
            StatusCode::METHOD_NOT_ALLOWED,
            "the server does not allow this method on the requested resource",
        ),
    }
}

/// Answers an `update` (PUT) or a `patch` (JSON merge patch) of an object that exists; a resource version in the body is a
/// condition.
pub(crate) fn change(store: &Store, kind: Kind, info: &RequestInfo, body: &[u8]) -> Response<Body> {
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return answer::status(StatusCode::BAD_REQUEST, "the body is not JSON");
    };
    let key = (kind, info.namespace.as_str(), info.name.as_str());
    let changed = store.change(key, |stored| {
        if info.verb == "update" {
            return body.clone();
        }
        let mut object = stored.clone();
        merge(&mut object, &body);
        object
    });
    match changed {
        Ok(object) => answer::ok(&object),
        Err(ChangeError::NotFound) => {
            answer::status(StatusCode::NOT_FOUND, &format!("{} {:?} not found", kind.resource(), info.name))
        }
        Err(ChangeError::Conflict) => {
            let message = format!(
                "Operation cannot be fulfilled on {} {:?}: the object has been modified; please apply your changes to \
                 the latest version and try again",
                kind.resource(),
                info.name
            );
            answer::json(
                StatusCode::CONFLICT,
                &answer::status_object(StatusCode::CONFLICT, "Conflict", &message),
            )
        }
        Err(ChangeError::Invalid(cause)) => answer::status(StatusCode::BAD_REQUEST, &cause),
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            if let Value::Object(target) = target {
                target.remove(key);
            }
        } else {
            merge(&mut target[key], value);
        }
    }
}
