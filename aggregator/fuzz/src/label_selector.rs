//! Label selectors: accepted, refused and understood as the model does; a refusal has a text.

use std::collections::BTreeMap;

use waggle_aggregator::{api::selector::LabelSelector, inventory::Labels};

use crate::{Target, model::label, owned};

pub const TARGET: Target = Target {
    name: "label-selector",
    run,
    seeds: || {
        owned(&[
            "app=web,tier!=back",
            "a in (x,y),b notin (z),!c,d",
            "example.com/a==b , rev>6,rev<9",
            "a=,b in (,x)",
            "in in (notin)",
            "a in (b",
            "a!===b",
        ])
    },
    words: &["in", "notin", "==", "!=", " in (", " notin (", "example.com/", "a", "b", "0"],
};

/// Labels to select: the keys and values that short inputs come upon.
const OBJECTS: [&[(&str, &str)]; 5] = [
    &[],
    &[("a", "b"), ("b", ""), ("in", "notin"), ("app", "web")],
    &[("a", ""), ("d", "x"), ("example.com/a", "b"), ("rev", "7")],
    &[("a", "1"), ("b", "0"), ("tier", "back"), ("c", "in")],
    &[("0", "0"), ("a", "9223372036854775807"), ("A", "x")],
];

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A NUL ends the text here, and is passed over in places by Kubernetes.
    if text.contains('\0') {
        return;
    }
    let (ours, model) = (LabelSelector::parse(text), label::parse(text));
    let (selector, requirements) = match (&ours, &model) {
        (Ok(selector), Some(requirements)) => (selector, requirements),
        (Err(error), None) => return assert!(!error.0.is_empty(), "no reason: {text:?}"),
        _ => panic!("{text:?} is {ours:?}, should be {model:?}"),
    };
    assert_eq!(selector.is_empty(), requirements.is_empty(), "{text:?}");
    for pairs in OBJECTS {
        let labels: Labels = pairs.iter().map(|(key, value)| (Box::from(*key), Box::from(*value))).collect();
        let plain: BTreeMap<String, String> =
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        assert_eq!(selector.matches(&labels), label::selects(requirements, &plain), "{text:?} on {pairs:?}");
    }
}
