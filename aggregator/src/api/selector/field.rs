//! Field selectors: `metadata.name` and `metadata.namespace`, the only fields that the resources here have
//! (grammar: kubernetes/apimachinery, `pkg/fields/selector.go`).

use super::SelectorError;
use crate::{
    api::quoted::Quoted,
    auth::{Operator, Requirement},
};

/// A conjunction of comparisons; the empty one selects everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Term {
    field: Field,
    equal: bool,
    value: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
}

impl FieldSelector {
    /// Parses `metadata.name=x,metadata.namespace!=y`; `\` escapes `,`, `=` and itself in values.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        // Sorted as Kubernetes sorts them: it decides which of several errors is told, and which of several names counts.
        let mut parts = split(text);
        parts.sort_unstable();
        for term in parts.into_iter().filter(|term| !term.is_empty()) {
            let (field, equal, value) = operator(term).ok_or_else(|| {
                SelectorError(format!("invalid selector: '{text}'; can't understand '{term}'"))
            })?;
            terms.push((field, equal, unescape(value)?));
        }
        let known = |(field, equal, value)| match field {
            "metadata.name" => Ok(Term { field: Field::Name, equal, value }),
            "metadata.namespace" => Ok(Term { field: Field::Namespace, equal, value }),
            other => Err(SelectorError(format!(
                "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
                Quoted(other)
            ))),
        };
        Ok(Self { terms: terms.into_iter().map(known).collect::<Result<_, _>>()? })
    }

    /// Whether the object of that name is selected; `namespace` is empty for nodes.
    pub fn matches(&self, namespace: &str, name: &str) -> bool {
        self.terms.iter().all(|term| {
            let actual = match term.field {
                Field::Name => name,
                Field::Namespace => namespace,
            };
            (actual == term.value) == term.equal
        })
    }

    /// The comparisons as a SubjectAccessReview states them.
    pub fn requirements(&self) -> Vec<Requirement> {
        let each = |term: &Term| Requirement {
            key: match term.field {
                Field::Name => "metadata.name".to_owned(),
                Field::Namespace => "metadata.namespace".to_owned(),
            },
            operator: if term.equal { Operator::In } else { Operator::NotIn },
            values: vec![term.value.clone()],
        };
        self.terms.iter().map(each).collect()
    }

    /// The one name that the selector allows, where it says so with `=`: authorization then asks about that name.
    pub fn exact_name(&self) -> Option<&str> {
        let exact = |term: &&Term| term.field == Field::Name && term.equal;
        self.terms.iter().find(exact).map(|term| term.value.as_str())
    }
}

/// Splits at commas that are not escaped.
fn split(text: &str) -> Vec<&str> {
    let mut escaped = false;
    text.split(|c: char| {
        let splits = c == ',' && !escaped;
        escaped = c == '\\' && !escaped;
        splits
    })
    .collect()
}

/// The field, whether it must be equal, and the value: at the first operator.
fn operator(term: &str) -> Option<(&str, bool, &str)> {
    let at = term
        .char_indices()
        .find(|(at, c)| *c == '=' || term.get(*at..).is_some_and(|t| t.starts_with("!=")))?;
    let (field, rest) = term.split_at_checked(at.0)?;
    [("!=", false), ("==", true), ("=", true)]
        .into_iter()
        .find_map(|(operator, equal)| Some((field, equal, rest.strip_prefix(operator)?)))
}

fn unescape(value: &str) -> Result<String, SelectorError> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => plain.push(escaped),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(SelectorError(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    )));
                }
            },
            ',' | '=' => {
                // Kubernetes prints the character's number.
                return Err(SelectorError(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                )));
            }
            plain_char => plain.push(plain_char),
        }
    }
    Ok(plain)
}
