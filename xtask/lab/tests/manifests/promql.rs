//! Which metrics and labels an expression of Prometheus uses: as much of the language as dashboard and alerts use, and an error for
//! the rest.

use std::collections::BTreeSet;

/// What an expression uses.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub metrics: BTreeSet<String>,
    /// Labels in matchers, by metric.
    pub matched: BTreeSet<(String, String)>,
    /// Labels that something is grouped by.
    pub grouped: BTreeSet<String>,
}

const FUNCTIONS: [&str; 13] = [
    "absent",
    "avg",
    "count",
    "histogram_quantile",
    "increase",
    "max",
    "min",
    "rate",
    "scalar",
    "sum",
    "time",
    "vector",
    "irate",
];
const GROUPERS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];
const OPERATORS: [&str; 4] = ["or", "and", "unless", "bool"];

/// The words, strings and marks of an expression; what is in brackets (a span) is left out.
fn tokens(expression: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        let length = match first {
            '"' => rest[1..].find('"').unwrap() + 2,
            '[' => rest.find(']').unwrap() + 1,
            c if word(c) => rest.find(|c| !word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        let (token, tail) = rest.split_at(length);
        if first != '[' && !first.is_whitespace() {
            tokens.push(token.to_owned());
        }
        rest = tail;
    }
    tokens
}

/// Fails on words that are neither a metric of ours nor anything of the language that is used here.
pub fn used(expression: &str) -> Used {
    let tokens = tokens(expression);
    let mut used = Used::default();
    let mut at = tokens.iter().peekable();
    let labels = |at: &mut std::iter::Peekable<std::slice::Iter<'_, String>>, end: &str| {
        let mut words = Vec::new();
        for token in at.by_ref().take_while(|token| *token != end) {
            if token.starts_with(|c: char| c.is_ascii_alphabetic()) {
                words.push(token.clone());
            }
        }
        words
    };
    while let Some(token) = at.next() {
        if !token.starts_with(|c: char| c.is_ascii_alphabetic()) {
            continue;
        }
        let next = at.peek().map(|next| next.as_str());
        if GROUPERS.contains(&token.as_str()) {
            used.grouped.extend(labels(&mut at, ")"));
        } else if OPERATORS.contains(&token.as_str())
            || (FUNCTIONS.contains(&token.as_str()) && matches!(next, Some("(" | "by")))
        {
        } else {
            assert!(
                token.starts_with("waggle_"),
                "{token} in {expression:?} is no metric of ours, nor a function that this test knows"
            );
            used.metrics.insert(token.clone());
            if next == Some("{") {
                used.matched.extend(labels(&mut at, "}").into_iter().map(|label| (token.clone(), label)));
            }
        }
    }
    used
}

#[test]
fn expressions_are_taken_apart() {
    let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<BTreeSet<String>>();
    let found = used(
        "histogram_quantile(0.95, sum by (le, x) (rate(waggle_a_bucket{code=~\"5..\", y!=\"by\"}[5m]))) > 2.5",
    );
    assert_eq!(found.metrics, set(&["waggle_a_bucket"]));
    assert_eq!(found.grouped, set(&["le", "x"]));
    let matched: Vec<&str> = found.matched.iter().map(|(_, label)| label.as_str()).collect();
    assert_eq!(matched, ["code", "y"]);
    assert_eq!(used("count(waggle_b == 1) or vector(0)").metrics, set(&["waggle_b"]));
}
