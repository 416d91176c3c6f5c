use proptest::prelude::*;

use super::*;
use crate::inventory::Labels;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::of(pairs.iter().copied())
}

#[test]
fn selects_by_equality_set_and_existence() {
    let web = labels(&[("app", "web"), ("tier", "front"), ("rev", "7"), ("in", "x")]);
    for (text, expected) in [
        ("", true),
        (" ", true),
        ("app=web", true),
        ("app == web", true),
        ("app=db", false),
        ("app!=db", true),
        ("none!=db", true),
        ("none=", false),
        ("app in (web,db)", true),
        ("app in ( db )", false),
        ("app notin (db)", true),
        ("none notin (db)", true),
        ("app notin (web)", false),
        ("app", true),
        ("!app", false),
        ("!none,app=web,tier in (front,back)", true),
        ("rev>6", true),
        ("rev<7", false),
        ("app>1", false),
        ("in=x", true),
        ("in in (x)", true),
        ("app in (,db)", false),
        ("example.com/a notin (b),app", true),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap().matches(&web), expected, "{text}");
    }
    assert!(LabelSelector::parse("none in (,x)").unwrap().matches(&labels(&[("none", "")])));
}

#[test]
fn label_errors_have_the_words_of_kubernetes() {
    for (text, expected) in [
        ("a!===b", "unable to parse requirement: found '==', expected: identifier"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        ("==a", "found '==', expected: !, identifier, or 'end of string'"),
        ("a=b,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier"),
        (
            "a in ()",
            "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't \
             be empty",
        ),
        (
            "-a",
            "unable to parse requirement: <nil>: Invalid value: \"-a\": name part must consist of alphanumeric \
             characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or \
             'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
        ),
        (
            "a>b",
            "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must \
             be an integer",
        ),
    ] {
        assert_eq!(LabelSelector::parse(text).unwrap_err().0, expected, "{text}");
    }
}

#[test]
fn selects_by_name_and_namespace() {
    for (text, expected) in [
        ("", true),
        ("metadata.name=web-0", true),
        ("metadata.name==web-0,metadata.namespace=shop", true),
        ("metadata.name!=web-0", false),
        ("metadata.namespace!=other", true),
        ("metadata.name=web\\,0", false),
    ] {
        assert_eq!(FieldSelector::parse(text).unwrap().matches("shop", "web-0"), expected, "{text}");
    }
    let selector = FieldSelector::parse("metadata.namespace=a,metadata.name=b").unwrap();
    assert_eq!(selector.exact_name(), Some("b"));
    assert_eq!(FieldSelector::parse("metadata.name!=b").unwrap().exact_name(), None);
}

#[test]
fn field_errors_have_the_words_of_kubernetes() {
    for (text, expected) in [
        (
            "status.phase=Running",
            "\"status.phase\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        ("metadata.name", "invalid selector: 'metadata.name'; can't understand 'metadata.name'"),
        ("metadata.name=a=b", "invalid field selector: unescaped character in value: 61"),
        ("metadata.name=a\\b", "invalid field selector: invalid escape sequence: \\b"),
    ] {
        assert_eq!(FieldSelector::parse(text).unwrap_err().0, expected, "{text}");
    }
}

/// A requirement and what it means, written without the parser.
#[derive(Debug, Clone)]
struct Model {
    key: String,
    values: Vec<String>,
    kind: u8,
}

impl Model {
    fn text(&self) -> String {
        let (key, first) = (&self.key, &self.values[0]);
        // Nothing between the parentheses would be no value at all; the empty value alone is written as a gap.
        let all = if *self.values == [""] { ",".to_owned() } else { self.values.join(", ") };
        match self.kind {
            0 => key.clone(),
            1 => format!("!{key}"),
            2 => format!("{key}={first}"),
            3 => format!("{key} != {first}"),
            4 => format!("{key} in ({all})"),
            _ => format!("{key} notin ({all} )"),
        }
    }

    fn holds(&self, labels: &Labels) -> bool {
        let value = labels.iter().find(|(key, _)| *key == &*self.key).map(|(_, value)| value.to_string());
        match (self.kind, value) {
            (0, value) => value.is_some(),
            (1, value) => value.is_none(),
            (2, value) => value.as_ref() == Some(&self.values[0]),
            (3, value) => value.as_ref() != Some(&self.values[0]),
            (4, value) => value.is_some_and(|value| self.values.contains(&value)),
            (_, value) => value.is_none_or(|value| !self.values.contains(&value)),
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_a_naive_evaluator(
        models in prop::collection::vec(
            ("[a-c]", prop::collection::vec("[x-z]{0,1}", 1..4), 0_u8..6)
                .prop_map(|(key, values, kind)| Model { key, values, kind }),
            0..4,
        ),
        pairs in prop::collection::btree_map("[a-c]", "[x-z]{0,1}", 0..4),
    ) {
        let labels: Labels = pairs.iter().map(|(key, value)| (key.as_str().into(), value.as_str().into())).collect();
        let text = models.iter().map(Model::text).collect::<Vec<_>>().join(",");
        let selector = LabelSelector::parse(&text).unwrap();
        prop_assert_eq!(selector.matches(&labels), models.iter().all(|model| model.holds(&labels)), "{}", text);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in any::<String>(), soup in "[a!=,()<> \\\\in]{0,24}") {
        for text in [text, soup] {
            let _ = LabelSelector::parse(&text).map(|selector| selector.matches(&Labels::new()));
            let _ = FieldSelector::parse(&text).map(|selector| selector.matches("", "a"));
        }
    }
}
