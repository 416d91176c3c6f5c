//! Whether the servers behind APIServices answer, and what they serve. Sets the condition Available as kube-aggregator's
//! `remote_available_controller.go` does, with one difference: the check verifies the serving certificate too.

use std::{collections::BTreeMap, time::Duration};

use http::{Request, StatusCode, header::ACCEPT};
use http_body_util::{BodyExt, Empty};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Shared,
    answer::BoxError,
    backend::ApiService,
    caller::Caller,
    discovery::{Version, from_resource_list},
    proxy,
    store::Kind,
};

const PATIENCE: Duration = Duration::from_secs(5);
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

/// Checks all APIServices on every change of one and every `interval`, forever.
pub(crate) async fn run(shared: std::sync::Arc<Shared>, interval: Duration) {
    let mut changes = shared.store.changes();
    loop {
        changes.mark_unchanged();
        let before = shared.store.list(Kind::ApiService, None).0;
        let mut known = BTreeMap::new();
        for service in before.iter().filter_map(|object| ApiService::read(object)) {
            let version = check(&shared, &service).await;
            known.insert(service.name.clone(), version);
        }
        *shared.discovered.lock() = known.into_values().collect();
        let wake = async {
            while changes.changed().await.is_ok() {
                let specs = |objects: &[std::sync::Arc<Value>]| -> Vec<Option<ApiService>> {
                    objects.iter().map(|object| ApiService::read(object)).collect()
                };
                if specs(&shared.store.list(Kind::ApiService, None).0) != specs(&before) {
                    return;
                }
            }
        };
        tokio::select! {
            () = wake => {}
            () = shared.recheck.notified() => {}
            () = tokio::time::sleep(interval) => {}
        }
    }
}

async fn check(shared: &Shared, service: &ApiService) -> Version {
    let path = format!("/apis/{}/{}", service.group, service.version);
    let (condition, list) = match shared.backends.address(service) {
        None => {
            let text = format!("service/{} in {:?} is not present", service.service, service.namespace);
            (("False", "ServiceNotFound", text), None)
        }
        Some(address) => match get(shared, service, &path, "application/json").await {
            Ok(list) => (("True", "Passed", "all checks passed".to_owned()), Some(list)),
            Err(error) => {
                let text = format!(
                    "failing or missing response from https://{address}{path}: {}",
                    proxy::chain(&*error)
                );
                (("False", "FailedDiscoveryCheck", text), None)
            }
        },
    };
    publish(shared, &service.name, &condition);
    let mut resources = None;
    if list.is_some() {
        let document = get(shared, service, "/apis", AGGREGATED).await.ok();
        resources = document
            .and_then(|document| pick(&document, service))
            .or(list.as_ref().and_then(from_resource_list));
    }
    Version {
        group: service.group.clone(),
        name: service.version.clone(),
        priority: service.priority,
        fresh: resources.is_some(),
        resources: resources.unwrap_or_default(),
    }
}

/// The resources of this group and version in an aggregated discovery document.
fn pick(document: &Value, service: &ApiService) -> Option<Vec<Value>> {
    let named = |list: &Value, wanted: &str, key: &dyn Fn(&Value) -> Value| {
        list.as_array()?.iter().find(|item| key(item) == *wanted).cloned()
    };
    let group = named(&document["items"], &service.group, &|item| item["metadata"]["name"].clone())?;
    let version = named(&group["versions"], &service.version, &|item| item["version"].clone())?;
    version["resources"].as_array().cloned()
}

async fn get(shared: &Shared, service: &ApiService, path: &str, accept: &str) -> Result<Value, BoxError> {
    let caller = Caller::new("system:kube-aggregator", &["system:masters"]);
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let request = Request::get(path).header(ACCEPT, accept).body(body)?;
    let ask = async {
        let response = shared.backends.send(service, &caller, request).await?;
        let code = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        if !code.is_success() {
            return Err(BoxError::from(format!("bad status: {}", code.as_u16())));
        }
        Ok(serde_json::from_slice(&body)?)
    };
    timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(StatusCode::GATEWAY_TIMEOUT.to_string().into()))
}

/// Writes the condition into the object, if it says something new.
fn publish(shared: &Shared, name: &str, (status, reason, message): &(&str, &str, String)) {
    let Some(object) = shared.store.get(Kind::ApiService, "", name) else { return };
    let old = &object["status"]["conditions"][0];
    if old["status"] == *status && old["reason"] == *reason && old["message"] == **message {
        return;
    }
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let since = if old["status"] == *status { old["lastTransitionTime"].clone() } else { json!(now) };
    let condition = json!({"conditions": [{
        "type": "Available", "status": status, "reason": reason, "message": message, "lastTransitionTime": since,
    }]});
    // Only the status: the spec may have been changed since it was read.
    let changed = shared.store.change((Kind::ApiService, "", name), |stored| {
        let mut object = stored.clone();
        object["status"] = condition;
        object
    });
    if let Err(error) = changed {
        tracing::warn!(name, ?error, "cannot write the condition of an APIService");
    }
}
