//! The Table of APIServices, as `kubectl get apiservice` shows it.

use std::sync::Arc;

use serde_json::{Value, json};

/// A Table of these APIServices.
pub(crate) fn api_services(objects: &[Arc<Value>], version: u64) -> Value {
    let column = |name: &str, format: &str| json!({"name": name, "type": "string", "format": format, "description": "", "priority": 0});
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": version.to_string()},
        "columnDefinitions": [
            column("Name", "name"), column("Service", ""), column("Available", ""), column("Age", ""),
        ],
        "rows": objects.iter().map(|object| row(object)).collect::<Vec<_>>(),
    })
}

fn row(object: &Value) -> Value {
    let metadata = &object["metadata"];
    let service = &object["spec"]["service"];
    let service = match (service["namespace"].as_str(), service["name"].as_str()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => "Local".to_owned(),
    };
    let available = match available(object) {
        None => "Unknown".to_owned(),
        Some(("True", _)) => "True".to_owned(),
        Some((status, reason)) => format!("{status} ({reason})"),
    };
    json!({
        "cells": [metadata["name"], service, available, age(metadata["creationTimestamp"].as_str())],
        "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata},
    })
}

/// Status and reason of the condition Available.
pub(crate) fn available(object: &Value) -> Option<(&str, &str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let condition = conditions.iter().find(|condition| condition["type"] == "Available")?;
    Some((condition["status"].as_str()?, condition["reason"].as_str().unwrap_or_default()))
}

/// In the coarse units of kubectl.
fn age(created: Option<&str>) -> String {
    let Some(created) = created.and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
        return "<unknown>".to_owned();
    };
    let seconds = jiff::Timestamp::now().duration_since(created).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 if seconds % 60 != 0 => format!("{}m{}s", seconds / 60, seconds % 60),
        120..10_800 => format!("{}m", seconds / 60),
        10_800..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}
