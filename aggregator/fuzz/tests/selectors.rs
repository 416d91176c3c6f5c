//! Selectors that a grammar makes, and selectors with a mistake in them: understood, or refused, as the models do; and refused
//! with the words of Kubernetes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use waggle_aggregator::{
    api::selector::{FieldSelector, LabelSelector},
    inventory::Labels,
};
use waggle_fuzz::model::{
    field::{self, Term},
    label::{self, Requirement},
};

fn key() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-c]", 1 => "in|notin", 1 => "[a-z]{1,3}(\\.[a-z]{1,3}){0,2}/[A-Za-z0-9]([-._a-z]{0,3}[a-z0-9])?"]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![3 => "[x-z]{0,1}", 1 => "[0-9]{1,2}", 1 => "in|notin", 1 => "[A-Za-z0-9]([-._A-Z]{0,3}[0-9])?"]
}

fn gap() -> impl Strategy<Value = String> {
    "[ \t]{0,2}"
}

/// A requirement, and a way to write it.
fn requirement() -> impl Strategy<Value = (Requirement, String)> {
    let values = || {
        prop::collection::vec(value(), 1..4).prop_map(|mut values| {
            // The empty value alone would be no value at all between parentheses: it is written as a comma, which is two.
            if values == [""] {
                values.push(String::new());
            }
            values
        })
    };
    prop_oneof![
        (key(), gap()).prop_map(|(key, gap)| (Requirement::Exists(key.clone()), format!("{gap}{key}{gap}"))),
        (key(), gap()).prop_map(|(key, gap)| (Requirement::Absent(key.clone()), format!("!{gap}{key}"))),
        (key(), value(), gap(), "==?").prop_map(|(key, value, gap, sign)| {
            (Requirement::OneOf(key.clone(), vec![value.clone()]), format!("{key}{gap}{sign}{gap}{value}"))
        }),
        (key(), value(), gap()).prop_map(|(key, value, gap)| {
            (Requirement::NoneOf(key.clone(), vec![value.clone()]), format!("{key}{gap}!={value}{gap}"))
        }),
        (key(), values(), gap()).prop_map(move |(key, values, gap)| {
            let text = format!("{key} in{gap}({gap}{}{gap})", values.join(","));
            (Requirement::OneOf(key, values), text)
        }),
        (key(), values(), gap()).prop_map(move |(key, values, gap)| {
            let text = format!("{key} notin{gap}({}{gap}){gap}", values.join(","));
            (Requirement::NoneOf(key, values), text)
        }),
        (key(), 0..100_i64, gap()).prop_map(|(key, than, gap)| {
            (Requirement::Above(key.clone(), than), format!("{key}{gap}>{than}"))
        }),
        (key(), 0..100_i64, gap()).prop_map(|(key, than, gap)| {
            (Requirement::Below(key.clone(), than), format!("{key}<{gap}{than}"))
        }),
    ]
}

fn labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(key(), value(), 0..5)
}

fn ours(labels: &BTreeMap<String, String>) -> Labels {
    labels.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect()
}

/// A text with one character taken out, put in or replaced.
fn spoiled(text: &str, at: usize, with: Option<char>, keep: bool) -> String {
    let at = at % (text.chars().count() + 1);
    let (before, after): (Vec<_>, Vec<_>) = text.chars().enumerate().partition(|(index, _)| *index < at);
    let rest = after.into_iter().skip(usize::from(!keep));
    before.into_iter().map(|(_, c)| c).chain(with).chain(rest.map(|(_, c)| c)).collect()
}

fn term() -> impl Strategy<Value = (Term, String)> {
    let field = prop_oneof!["metadata\\.name", "metadata\\.namespace"];
    (field, any::<bool>(), "[a-b,=\\\\]{0,3}", any::<bool>()).prop_map(|(field, equal, value, double)| {
        let escaped: String =
            value.chars().flat_map(|c| if c.is_alphabetic() { vec![c] } else { vec!['\\', c] }).collect();
        let sign = match (equal, double) {
            (false, _) => "!=",
            (true, true) => "==",
            (true, false) => "=",
        };
        let text = format!("{field}{sign}{escaped}");
        (Term { field, equal, value }, text)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn label_selectors_are_understood(
        parts in prop::collection::vec(requirement(), 0..4),
        objects in prop::collection::vec(labels(), 1..4),
    ) {
        let (meant, texts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let text = texts.join(",");
        prop_assert_eq!(label::parse(&text), Some(meant.clone()), "the model misreads {:?}", text);
        let selector = LabelSelector::parse(&text).map_err(|error| TestCaseError::fail(format!("{text:?}: {error}")))?;
        for object in objects {
            prop_assert_eq!(selector.matches(&ours(&object)), label::selects(&meant, &object), "{:?}", text);
        }
    }

    #[test]
    fn a_mistake_is_refused_where_the_model_refuses_it(
        parts in prop::collection::vec(requirement(), 1..4),
        at in any::<usize>(),
        with in prop::option::of(prop::char::range(' ', '~')),
        keep in any::<bool>(),
        object in labels(),
    ) {
        let text = parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(",");
        let text = spoiled(&text, at, with, keep);
        match (LabelSelector::parse(&text), label::parse(&text)) {
            (Ok(selector), Some(model)) => {
                prop_assert_eq!(selector.matches(&ours(&object)), label::selects(&model, &object), "{:?}", text);
            }
            (Err(error), None) => prop_assert!(!error.0.is_empty()),
            (ours, model) => prop_assert!(false, "{:?} is {:?}, should be {:?}", text, ours, model),
        }
    }

    #[test]
    fn field_selectors_are_understood(
        parts in prop::collection::vec(term(), 0..4),
        namespace in "[a-b,=\\\\]{0,2}",
        name in "[a-b,=\\\\]{0,2}",
        at in any::<usize>(),
        with in prop::option::of(prop::char::range(' ', '~')),
    ) {
        let (meant, texts): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
        let text = texts.join(",");
        prop_assert_eq!(field::parse(&text), Some(meant.clone()), "the model misreads {:?}", text);
        let selector = FieldSelector::parse(&text).map_err(|error| TestCaseError::fail(format!("{text:?}: {error}")))?;
        prop_assert_eq!(selector.matches(&namespace, &name), field::selects(&meant, &namespace, &name), "{:?}", text);
        let text = spoiled(&text, at, with, true);
        match (FieldSelector::parse(&text), field::parse(&text)) {
            (Ok(selector), Some(model)) => {
                prop_assert_eq!(selector.matches(&namespace, &name), field::selects(&model, &namespace, &name));
            }
            (Err(_), None) => {}
            (ours, model) => prop_assert!(false, "{:?} is {:?}, should be {:?}", text, ours, model),
        }
    }
}

const NAME: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                    alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
                    '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                     must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', \
                     regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const INTEGER: &str = "for 'Gt', 'Lt' operators, the value must be an integer";

/// Each text was printed by `labels.Parse` of k8s.io/apimachinery 0.37.2 for that selector.
#[test]
fn malformed_label_selectors_are_told_in_the_words_of_kubernetes() {
    let requirement = |text: &str| format!("unable to parse requirement: {text}");
    let invalid = |path: &str, value: &str, why: &str| format!("{path}: Invalid value: \"{value}\": {why}");
    let long = "x".repeat(64);
    for (selector, expected) in [
        ("a,,b", "found ',', expected: identifier after ','".to_owned()),
        ("a,", "found '', expected: identifier after ','".to_owned()),
        (",", "found ',', expected: !, identifier, or 'end of string'".to_owned()),
        ("(a)", "found '(', expected: !, identifier, or 'end of string'".to_owned()),
        ("!a=b", "found '=', expected: ',' or 'end of string'".to_owned()),
        ("!a b", "found 'b', expected: ',' or 'end of string'".to_owned()),
        ("a=b=c", "found '=', expected: ',' or 'end of string'".to_owned()),
        ("!!a", requirement("found '!', expected: identifier")),
        ("a)", requirement("found ')', expected: in, notin, =, ==, !=, gt, lt")),
        ("a=(b)", requirement("found '(', expected: identifier")),
        ("a in", requirement("found '' expected: '('")),
        ("a in (", requirement("found '', expected: ',', ')' or identifier")),
        ("a in (b c)", requirement("found 'c', expected: ',' or ')'")),
        ("a in (b=)", requirement("found '=', expected: ',' or ')'")),
        ("a>", requirement(&invalid("values[0]", "", INTEGER))),
        ("a>9223372036854775808", requirement(&invalid("values[0]", "9223372036854775808", INTEGER))),
        ("a>-5", requirement(&invalid("values[0][a]", "-5", VALUE))),
        ("a>+5", requirement(&invalid("values[0][a]", "+5", VALUE))),
        (
            "a>-b",
            requirement(&format!(
                "[{}, {}]",
                invalid("values[0]", "-b", INTEGER),
                invalid("values[0][a]", "-b", VALUE)
            )),
        ),
        (
            "a in (-c,-b)",
            requirement(&format!(
                "[{}, {}]",
                invalid("values[0][a]", "-b", VALUE),
                invalid("values[1][a]", "-c", VALUE)
            )),
        ),
        ("a=é", requirement(&invalid("values[0][a]", "é", VALUE))),
        ("a=\u{1b}", requirement(&invalid("values[0][a]", "\\x1b", VALUE))),
        ("a\u{b}b", requirement(&invalid("<nil>", "a\\vb", &format!("name part {NAME}")))),
        ("é=a", requirement(&invalid("<nil>", "é", &format!("name part {NAME}")))),
        (&format!("a={long}"), requirement(&invalid("values[0][a]", &long, "must be no more than 63 bytes"))),
        (&long, requirement(&invalid("<nil>", &long, "name part must be no more than 63 bytes"))),
        ("/a", requirement(&invalid("<nil>", "/a", "prefix part must be non-empty"))),
        (
            "a/",
            requirement(&invalid("<nil>", "a/", &format!("name part must be non-empty; name part {NAME}"))),
        ),
        (
            "a/b/c",
            requirement(&invalid(
                "<nil>",
                "a/b/c",
                &format!(
                    "a valid label key {NAME} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
                ),
            )),
        ),
        (
            "A/b",
            requirement(&invalid(
                "<nil>",
                "A/b",
                "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                 '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
                 validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            )),
        ),
    ] {
        assert_eq!(LabelSelector::parse(selector).unwrap_err().0, expected, "{selector:?}");
    }
}

/// As above, by `fields.ParseSelector`.
#[test]
fn malformed_field_selectors_are_told_in_the_words_of_kubernetes() {
    for (selector, expected) in [
        ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ("metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b"),
        ("metadata.name=a\\", "invalid field selector: invalid escape sequence: \\"),
        ("zzz,metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
    ] {
        assert_eq!(FieldSelector::parse(selector).unwrap_err().0, expected, "{selector:?}");
    }
}
