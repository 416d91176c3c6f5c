//! The table of metrics in `docs/operations.md` has every family that the programs register, and dashboard and alerts name
//! nothing that is not in the table. What the programs really export is held against it by [`crate::scrape`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::{
    promql::used,
    render::{read, repository},
};

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: String,
    pub labels: BTreeSet<String>,
    pub meaning: String,
}

/// The table, by the name that is scraped (`…_total`, `…_info`; a histogram's without suffix).
pub fn table() -> BTreeMap<String, Metric> {
    let text = read("docs/operations.md");
    let mut table = BTreeMap::new();
    for line in
        text.lines().filter(|line| line.starts_with("| `waggle_") || line.starts_with("| `metrics_server_"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else { panic!("{line:?} has not four columns") };
        let quoted = |text: &str| text.trim_matches('`').to_owned();
        let labels = labels.split(", ").map(quoted).filter(|label| !label.is_empty()).collect();
        let metric = Metric { kind: kind.to_owned(), labels, meaning: meaning.to_owned() };
        assert!(table.insert(quoted(name), metric).is_none(), "{name} twice");
    }
    table
}

/// Name and help of each family that a program registers, from its source.
fn registered(folder: &Path, into: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            registered(&path, into);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap();
        let literal = |text: &str| {
            text.trim_start().strip_prefix('"').map(|rest| rest.split('"').next().unwrap().to_owned())
        };
        let prefix = text.split_once("sub_registry_with_prefix(").and_then(|(_, rest)| literal(rest));
        for call in text.split("registry.register(").skip(1) {
            let Some(name) = literal(call) else { continue };
            let help = literal(call.split_once(',').unwrap().1).unwrap();
            let name = prefix.iter().chain([&name]).map(String::as_str).collect::<Vec<_>>().join("_");
            assert!(into.insert(name.clone(), help).is_none(), "{name} twice");
        }
    }
}

#[test]
fn the_table_has_every_family() {
    let mut families = BTreeMap::new();
    for program in ["agent/src", "aggregator/src"] {
        registered(&repository(program), &mut families);
    }
    // Of collectors, without a call that registers them.
    for (name, help) in [
        ("metrics_server_storage_points", "Number of metrics points stored"),
        ("waggle_ingest_collector", "1 for each node with a live stream, by what its agent runs"),
        (
            "waggle_ingest_collector_refusals",
            "1 for each reason against a better collector on a node with a live stream",
        ),
        (
            "waggle_ingest_unmeasured_pods",
            "Pods on nodes with a live stream that have a container that is not measured",
        ),
    ] {
        families.insert(name.to_owned(), help.to_owned());
    }
    assert!(families.len() > 45, "only {} families found", families.len());
    let documented: BTreeMap<String, String> = table()
        .into_iter()
        .map(|(name, metric)| {
            let suffix = match metric.kind.as_str() {
                "counter" => "_total",
                "info" => "_info",
                "gauge" | "histogram" => "",
                other => panic!("{name} is a {other}"),
            };
            (
                name.strip_suffix(suffix).unwrap_or_else(|| panic!("{name}: no {suffix}")).to_owned(),
                metric.meaning,
            )
        })
        .collect();
    assert_eq!(documented, families, "left: docs/operations.md, right: the sources");
}

/// What Prometheus adds to everything that it scrapes by the shipped monitors.
const OF_THE_TARGET: [&str; 5] = ["pod", "namespace", "instance", "job", "container"];

/// The labels of a sample: of its family, and `le`.
fn labels_of(table: &BTreeMap<String, Metric>, sample: &str) -> BTreeSet<String> {
    if let Some(metric) = table.get(sample) {
        assert_ne!(metric.kind, "histogram", "{sample} is a histogram: its samples have a suffix");
        return metric.labels.clone();
    }
    let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| sample.strip_suffix(suffix));
    let metric =
        family.and_then(|family| table.get(family)).unwrap_or_else(|| panic!("there is no metric {sample}"));
    assert_eq!(metric.kind, "histogram", "{sample}");
    let mut labels = metric.labels.clone();
    if sample.ends_with("_bucket") {
        labels.insert("le".to_owned());
    }
    labels
}

/// Checks an expression, and the labels that a text beside it speaks of.
fn check(table: &BTreeMap<String, Metric>, expression: &str, spoken: &[String]) {
    let used = used(expression);
    assert!(!used.metrics.is_empty(), "{expression:?} uses no metric");
    let mut all: BTreeSet<String> = BTreeSet::new();
    for metric in &used.metrics {
        all.extend(labels_of(table, metric));
    }
    for (metric, label) in &used.matched {
        assert!(labels_of(table, metric).contains(label), "{metric} has no label {label}: {expression:?}");
    }
    let target = |label: &str| OF_THE_TARGET.contains(&label);
    for label in &used.grouped {
        assert!(all.contains(label) || target(label), "nothing has a label {label}: {expression:?}");
    }
    for label in spoken {
        let left = if expression.contains(" by (") {
            used.grouped.contains(label)
        } else {
            all.contains(label) || target(label)
        };
        assert!(left, "no label {label} is left by {expression:?}");
    }
}

/// The labels that a template speaks of: `{{label}}` in a legend, `{{ $labels.label }}` in an annotation.
fn spoken(text: &str) -> Vec<String> {
    let parts = text.split("{{").skip(1).map(|part| part.split("}}").next().unwrap().trim());
    parts
        .filter(|part| *part != "$value")
        .map(|part| part.trim_start_matches("$labels.").to_owned())
        .collect()
}

#[test]
fn the_dashboard_names_what_there_is() {
    let (table, text) = (table(), read("deploy/dashboards/waggle.json"));
    assert_eq!(text, read("deploy/chart/waggle/files/waggle.json"), "the chart has another copy");
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut seen = BTreeSet::new();
    let (mut ids, mut expressions) = (BTreeSet::new(), 0);
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            check(&table, expression, &spoken(target["legendFormat"].as_str().unwrap()));
            seen.extend(used(expression).metrics);
            expressions += 1;
        }
    }
    assert!(expressions > 30 && seen.len() > 30, "{expressions} expressions, {} metrics", seen.len());
}

#[test]
fn the_alerts_name_what_there_is() {
    let table = table();
    let object: Value = serde_saphyr::from_str(&read("deploy/components/prometheus/rules.yaml")).unwrap();
    let copy: Value = serde_saphyr::from_str(&read("deploy/chart/waggle/files/alerts.yaml")).unwrap();
    assert_eq!(object["spec"], copy, "the chart has another copy");
    let documentation = read("docs/operations.md");
    let rules = object["spec"]["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() > 15);
    for rule in rules {
        let texts = ["summary", "description"].map(|key| rule["annotations"][key].as_str().unwrap());
        check(&table, rule["expr"].as_str().unwrap(), &texts.map(spoken).concat());
        for word in texts.join(" ").split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')) {
            assert!(!word.starts_with("waggle_") || table.contains_key(word), "there is no metric {word}");
        }
        let row = format!(
            "| `{}` | {} |",
            rule["alert"].as_str().unwrap(),
            rule["labels"]["severity"].as_str().unwrap()
        );
        assert!(documentation.contains(&row), "docs/operations.md has no row {row}");
    }
}

#[test]
fn what_there_is_not_is_found() {
    let fails = |expression: &'static str| {
        let table = table();
        std::panic::catch_unwind(move || check(&table, expression, &[])).is_err()
    };
    for wrong in [
        "up == 0",
        "waggle_api_requests",
        "waggle_agent_walk_seconds",
        "rate(waggle_api_requests_total{status=\"500\"}[5m])",
        "sum by (status) (rate(waggle_api_requests_total[5m]))",
        "vector(0)",
    ] {
        assert!(fails(wrong), "{wrong}");
    }
    assert!(!fails("sum by (code) (rate(waggle_api_requests_total{verb=\"get\"}[5m]))"));
    assert_eq!(spoken("{{verb}} {{ $labels.resource }} {{ $value }}"), ["verb", "resource"]);
}
