//! The chart by itself: it lints, each value of `values.yaml` does what it says, wrong ones are refused with a text that
//! names them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::{
    render::{Objects, chart, helm, objects, output, read, repository},
    values::{effects, effects_beside},
};

#[test]
#[ignore = "needs kubectl and helm: cargo xtask test"]
fn it_lints() {
    let mut command = helm();
    command.args(["lint", "--strict"]).arg(repository("deploy/chart/waggle"));
    let said = output(&mut command).unwrap();
    assert!(said.contains("1 chart(s) linted, 0 chart(s) failed"), "{said}");
}

#[test]
#[ignore = "needs kubectl and helm: cargo xtask test"]
fn each_value_does_what_it_says() {
    let mut exercised = BTreeSet::new();
    let without = objects(&chart(&[]).unwrap());
    let alone = effects().into_iter().map(|effect| (Vec::new(), effect));
    for (mut values, (path, value, object, at, is)) in alone.chain(effects_beside()) {
        let what = format!("{path}={value}: {object} {at}");
        values.retain(|(other, _)| *other != path);
        values.push((&path, value));
        let with = objects(&chart(&values).unwrap());
        let look = |objects: &Objects| {
            objects.get(object).and_then(|object| object.pointer(&at)).cloned().unwrap_or_default()
        };
        let holds =
            |seen: &Value| *seen == is || seen.as_array().is_some_and(|entries| entries.contains(&is));
        let (before, after) = (look(&without), look(&with));
        assert!(holds(&after), "{what} is {after}, not {is}");
        assert!(!holds(&before), "{what} is {is} without the value too");
        exercised.insert(path);
    }
    let values: Value = serde_saphyr::from_str(&read("deploy/chart/waggle/values.yaml")).unwrap();
    let mut documented = BTreeSet::new();
    leaves(&values, "", &mut documented);
    assert_eq!(exercised, documented, "left: set by this test, right: in values.yaml");
}

/// The paths of everything that is no map with something in it.
fn leaves(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (key, value) in map {
                leaves(value, &if at.is_empty() { key.clone() } else { format!("{at}.{key}") }, into);
            }
        }
        None => drop(into.insert(at.to_owned())),
    }
}

#[test]
fn the_schema_knows_each_value_and_says_what_it_is() {
    let values: Value = serde_saphyr::from_str(&read("deploy/chart/waggle/values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("deploy/chart/waggle/values.schema.json")).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    assert!(described(&schema, &values, "") > 60);
}

/// How many keys there are below, each with its entry in the schema. Maps of the user's own keys have no entries.
fn described(schema: &Value, values: &Value, at: &str) -> usize {
    let (Some(known), Some(values)) = (schema["properties"].as_object(), values.as_object()) else {
        return 0;
    };
    if known.is_empty() {
        return 0;
    }
    assert_eq!(schema["additionalProperties"], false, "{at} takes keys that mean nothing");
    let mut count = 0;
    for (key, value) in values {
        let at = format!("{at}/{key}");
        let entry = known.get(key).unwrap_or_else(|| panic!("{at} is not in the schema"));
        assert!(entry["description"].is_string(), "{at} has no description");
        count += 1 + described(entry, value, &at);
    }
    count
}

#[test]
#[ignore = "needs kubectl and helm: cargo xtask test"]
fn wrong_values_are_refused_by_name() {
    for (path, value, says) in [
        ("aggregator.replicas", json!(0), "at '/aggregator/replicas': minimum: got 0, want 1"),
        ("aggregator.replicas", json!("two"), "at '/aggregator/replicas': got string, want integer"),
        (
            "aggregator.window",
            json!("soon"),
            "at '/aggregator/window': 'soon' does not match pattern '^([0-9]+(ms|s|m|h))*$'",
        ),
        (
            "aggregator.extraArgs",
            json!(["watch"]),
            "at '/aggregator/extraArgs/0': 'watch' does not match pattern '^--'",
        ),
        ("agnet", json!({}), "at '': additional properties 'agnet' not allowed"),
        ("agent.colector", json!("bpf"), "at '/agent': additional properties 'colector' not allowed"),
        (
            "agent.collector",
            json!("ebpf"),
            "at '/agent/collector': value must be one of 'auto', 'bpf', 'cgroupfs'",
        ),
        (
            "agent.tokenExpirationSeconds",
            json!(60),
            "at '/agent/tokenExpirationSeconds': minimum: got 60, want 600",
        ),
        ("agent.maxUnavailable", json!("10"), "at '/agent/maxUnavailable': '10' does not match pattern"),
        ("agent.maxUnavailable", json!(0), "at '/agent/maxUnavailable': minimum: got 0, want 1"),
        ("agent.cgroupRoot", json!("sys"), "at '/agent/cgroupRoot': 'sys' does not match pattern '^/'"),
        ("agent.nodeSelector", json!({"a": true}), "at '/agent/nodeSelector/a': got boolean, want string"),
        (
            "agent.podLabels",
            json!({"app.kubernetes.io/name": "x"}),
            "agent.podLabels has app.kubernetes.io/name, by which Services and policies find the pods: take another label",
        ),
        (
            "images.pullPolicy",
            json!("Maybe"),
            "at '/images/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
        ),
        (
            "images.agent.digest",
            json!("sha256:12"),
            "at '/images/agent/digest': 'sha256:12' does not match pattern",
        ),
        (
            "images.agent.repository",
            json!("a:1"),
            "at '/images/agent/repository': 'a:1' does not match pattern",
        ),
        ("networkPolicy.enabled", json!("yes"), "at '/networkPolicy/enabled': got string, want boolean"),
        (
            "certificates.source",
            json!("vault"),
            "at '/certificates/source': value must be one of 'self', 'cert-manager', 'secret'",
        ),
        (
            "certificates.source",
            json!("secret"),
            "set certificates.secret.name to the Secret with tls.crt and tls.key",
        ),
        (
            "certificates.secret",
            json!({"name": "x"}),
            "certificates.secret is set, but certificates.source is self",
        ),
        (
            "certificates.certManager.issuerRef",
            json!({"name": "x"}),
            "issuerRef is set, but certificates.source is self",
        ),
        (
            "certificates",
            json!({"source": "secret", "secret": {"name": "x", "ca": "MA=="}}),
            "certificates.secret.ca is no PEM text: it must begin with -----BEGIN CERTIFICATE-----",
        ),
    ] {
        let said = chart(&[(path, value.clone())]).map(drop).unwrap_err();
        assert!(said.contains(says), "{path}={value}: {says:?} is not in\n{said}");
    }
}
