use prometheus_client::{encoding::text, registry::Registry};

use super::*;
use crate::ingest::Metrics;

/// The samples of the families that are about agents, without their prefix.
fn exported(agents: &Agents) -> Vec<String> {
    let mut registry = Registry::default();
    Metrics { agents: agents.clone(), ..Metrics::default() }.register(&mut registry);
    let mut text = String::new();
    text::encode(&mut text, &registry).unwrap();
    let samples = text.lines().filter_map(|line| line.strip_prefix("waggle_ingest_"));
    let about = |line: &&str| line.starts_with("collector_") || line.starts_with("unmeasured_pods ");
    samples.filter(about).map(str::to_owned).collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_node_has_series_for_as_long_as_its_newest_stream() {
    let agents = Agents::default();
    let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
    assert_eq!(exported(&agents), ["unmeasured_pods 0"]);
    let old = agents.begin(&a, "0.1.0", "cgroupfs", &texts(&["no-btf"]));
    let _other = agents.begin(&b, "0.1.0", "bpf", &[]);
    let both = [
        r#"collector_info{node="a",collector="cgroupfs",agent_version="0.1.0"} 1"#,
        r#"collector_info{node="b",collector="bpf",agent_version="0.1.0"} 1"#,
        r#"collector_refusals{node="a",reason="no-btf"} 1"#,
        "unmeasured_pods 0",
    ];
    assert_eq!(exported(&agents), both);
    old.unmeasured_pods(2);
    let new = agents.begin(&a, "0.2.0", "bpf", &[]);
    let replaced = [
        r#"collector_info{node="a",collector="bpf",agent_version="0.2.0"} 1"#,
        r#"collector_info{node="b",collector="bpf",agent_version="0.1.0"} 1"#,
        "unmeasured_pods 0",
    ];
    assert_eq!(exported(&agents), replaced);
    old.unmeasured_pods(3);
    old.collector("cgroupfs", &texts(&["truncated"]));
    drop(old);
    assert_eq!(exported(&agents), replaced, "a superseded stream changes nothing");
    new.unmeasured_pods(1);
    new.collector("cgroupfs", &texts(&["truncated", "parity-failed", "truncated"]));
    assert_eq!(
        exported(&agents),
        [
            r#"collector_info{node="a",collector="cgroupfs",agent_version="0.2.0"} 1"#,
            r#"collector_info{node="b",collector="bpf",agent_version="0.1.0"} 1"#,
            r#"collector_refusals{node="a",reason="parity-failed"} 1"#,
            r#"collector_refusals{node="a",reason="truncated"} 1"#,
            "unmeasured_pods 1",
        ],
        "each reason once"
    );
    drop(new);
    assert_eq!(exported(&agents), [both[1], "unmeasured_pods 0"]);
    assert_eq!(agents.live.lock().series, 1);
}

#[test]
fn texts_that_do_not_fit_are_left_out_and_counted() {
    let agents = Agents::default();
    let node: Arc<str> = "a".into();
    let long = "x".repeat(LONGEST_TEXT + 1);
    let mut refusals = texts(&["field-missing:memory", "", "a\"b", "a b", "é", &long, &long[1..]]);
    let _agent = agents.begin(&node, "1.0 beta", "b\npf", &refusals);
    let dropped =
        |label: &str, count: u64| format!(r#"collector_labels_dropped_total{{label="{label}"}} {count}"#);
    let mut seen = exported(&agents);
    seen.sort();
    let mut expected = [
        r#"collector_info{node="a",collector="invalid",agent_version="invalid"} 1"#.to_owned(),
        r#"collector_refusals{node="a",reason="field-missing:memory"} 1"#.to_owned(),
        format!(r#"collector_refusals{{node="a",reason="{}"}} 1"#, &long[1..]),
        dropped("agent_version", 1),
        dropped("collector", 1),
        dropped("reason", 5),
        "unmeasured_pods 0".to_owned(),
    ];
    expected.sort();
    assert_eq!(seen, expected);
    refusals = (0..40).map(|number| format!("reason-{number}")).collect();
    let _agent = agents.begin(&node, "1", "bpf", &refusals);
    assert_eq!(exported(&agents).iter().filter(|line| line.starts_with("collector_refusals")).count(), 16);
    assert!(exported(&agents).contains(&dropped("reason", 5 + 24)));
}

#[test]
fn all_nodes_together_have_a_limit() {
    let agents = Agents::default();
    agents.live.lock().series = SERIES - 2;
    let node = |name: &str| -> Arc<str> { name.into() };
    let first = agents.begin(&node("a"), "1", "bpf", &texts(&["x", "y"]));
    assert_eq!(
        exported(&agents)[1..],
        [r#"collector_info{node="a",collector="bpf",agent_version="1"} 1"#, "unmeasured_pods 0"]
    );
    let _second = agents.begin(&node("b"), "1", "bpf", &[]);
    let third = agents.begin(&node("c"), "1", "bpf", &[]);
    assert_eq!(agents.live.lock().nodes.len(), 2, "there is room for one more only");
    third.unmeasured_pods(1);
    drop(third);
    drop(first);
    let _fourth = agents.begin(&node("d"), "1", "bpf", &[]);
    assert_eq!(agents.live.lock().nodes.len(), 2, "its room is given again");
}
