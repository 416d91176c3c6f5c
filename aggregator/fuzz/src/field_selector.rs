//! Field selectors: accepted, refused and understood as the model does; the one name that authorization asks about is
//! one that the selector selects alone.

use waggle_aggregator::api::selector::FieldSelector;

use crate::{Target, model::field, owned};

pub const TARGET: Target = Target {
    name: "field-selector",
    run,
    seeds: || {
        owned(&[
            "metadata.name=web-0",
            "metadata.name==a,metadata.namespace!=b",
            "metadata.name=a\\,b\\=c\\\\",
            "status.phase=Running",
            "metadata.name",
            ",,metadata.namespace=shop,",
        ])
    },
    words: &["metadata.name", "metadata.namespace", "==", "!=", "\\,", "\\=", "\\\\", "web-0", "shop"],
};

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (ours, model) = (FieldSelector::parse(text), field::parse(text));
    let (selector, terms) = match (&ours, &model) {
        (Ok(selector), Some(terms)) => (selector, terms),
        (Err(error), None) => return assert!(!error.0.is_empty(), "no reason: {text:?}"),
        _ => panic!("{text:?} is {ours:?}, should be {model:?}"),
    };
    // Objects with every value that occurs, and with others.
    let values = || terms.iter().map(|term| term.value.as_str()).chain(["", "web-0", "shop"]);
    for namespace in values() {
        for name in values() {
            let expected = field::selects(terms, namespace, name);
            assert_eq!(selector.matches(namespace, name), expected, "{text:?} on {namespace:?}/{name:?}");
            if let Some(only) = selector.exact_name() {
                assert!(!expected || name == only, "{text:?} selects {name:?}, authorized is {only:?}");
            }
        }
    }
}
