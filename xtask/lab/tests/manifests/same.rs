//! kustomize and the chart make the same objects. What may differ is named here and nowhere else.

use serde_json::{Value, json};

use crate::render::{Objects, chart, kustomize, kustomize_with, map, objects};

/// What helm's own tools look for, on the objects and never on pods.
const LABELS_OF_THE_CHART: [&str; 4] = [
    "app.kubernetes.io/instance",
    "app.kubernetes.io/managed-by",
    "app.kubernetes.io/version",
    "helm.sh/chart",
];
/// helm wants the namespace to be there before anything else of the release: it is not the chart's to make.
const NOT_IN_THE_CHART: &str = "Namespace waggle-system";
/// The pod of `helm test`, which kustomize has no place for.
const ONLY_IN_THE_CHART: &str = "Pod waggle-system/waggle-check";

/// In the order that their comments ask for.
const EVERYTHING: [&str; 4] = [
    "deploy/components/prometheus",
    "deploy/components/cert-manager",
    "deploy/components/ha",
    "deploy/dashboards",
];

#[test]
#[ignore = "needs kubectl and helm: cargo xtask test"]
fn kustomize_and_the_chart_make_the_same_objects() {
    let all = ["deploy/components/prometheus", "deploy/dashboards"];
    let on = ["prometheus.monitors", "prometheus.rules", "grafana.dashboard"].map(|path| (path, json!(true)));
    let two = ("aggregator.replicas", json!(2));
    let source = ("certificates.source", json!("cert-manager"));
    for (what, kustomized, values, count) in [
        ("default", kustomize("deploy/overlays/default"), vec![], 21),
        ("ha", kustomize("deploy/overlays/ha"), vec![two.clone()], 22),
        ("cert-manager", kustomize("deploy/overlays/cert-manager"), vec![source.clone()], 20),
        (
            "beside metrics-server",
            kustomize("deploy/overlays/beside-metrics-server"),
            vec![("apiServices.create", json!(false))],
            18,
        ),
        (
            "all components",
            kustomize_with("deploy/base", &EVERYTHING),
            [on.as_slice(), &[source.clone(), two.clone()]].concat(),
            26,
        ),
        ("components", kustomize_with("deploy/overlays/default", &all), on.to_vec(), 26),
    ] {
        let kustomized = kustomize_side(objects(&kustomized));
        let charted = chart_side(objects(&chart(&values).unwrap()));
        let names = |objects: &Objects| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&kustomized), names(&charted), "{what}");
        for (name, object) in &kustomized {
            assert_same(object, &charted[name], &format!("{what}: {name}"));
        }
        // Without the number a selection that went wrong would compare nothing.
        assert_eq!(kustomized.len(), count, "{what}");
    }
}

fn kustomize_side(mut objects: Objects) -> Objects {
    objects.remove(NOT_IN_THE_CHART).unwrap();
    objects
}

fn chart_side(mut objects: Objects) -> Objects {
    objects.remove(ONLY_IN_THE_CHART).unwrap();
    for (name, object) in &mut objects {
        let labels = map(object, "/metadata/labels").unwrap_or_else(|| panic!("{name} has no labels"));
        for label in LABELS_OF_THE_CHART {
            assert!(labels.remove(label).is_some(), "{name} has no label {label}");
        }
    }
    objects
}

/// Fails at the first place that differs, with its path.
fn assert_same(left: &Value, right: &Value, at: &str) {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left.keys().chain(right.keys()) {
                let none = Value::Null;
                let (left, right) = (left.get(key).unwrap_or(&none), right.get(key).unwrap_or(&none));
                assert_same(left, right, &format!("{at}/{key}"));
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                assert_same(left, right, &format!("{at}/{index}"));
            }
        }
        _ => assert_eq!(left, right, "{at}: kustomize and the chart differ"),
    }
}

#[test]
fn a_difference_is_found_at_any_depth() {
    let object = json!({"a": {"b": [1, {"c": "x"}]}, "d": null});
    assert_same(&object, &json!({"a": {"b": [1, {"c": "x"}]}}), "equal but for null");
    for other in [
        json!({"a": {"b": [1, {"c": "y"}]}}),
        json!({"a": {"b": [1]}}),
        json!({"a": {"b": [1, {"c": "x", "e": 1}]}}),
        json!({"a": {}}),
    ] {
        let differs = std::panic::catch_unwind(|| assert_same(&object, &other, "")).is_err();
        assert!(differs, "{other}");
    }
}
