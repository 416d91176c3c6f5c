//! What may be a label key and a label value, with Kubernetes' wording
//! (kubernetes/apimachinery, `pkg/util/validation/validation.go`).

use super::SelectorError;
use crate::api::quoted::Quoted;

const NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

/// Checks a label key; `path` names it in the error.
pub(super) fn key(text: &str, path: &str) -> Result<(), SelectorError> {
    let name_rule = format!(
        "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
         character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{NAME}')"
    );
    let mut errors = Vec::new();
    let mut parts = text.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            errors.extend(subdomain(prefix).into_iter().map(|error| format!("prefix part {error}")));
            name
        }
        _ => {
            errors.push(format!(
                "a valid label key {name_rule} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return Err(invalid(path, text, &errors));
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_name(name) {
        errors.push(format!("name part {name_rule}"));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid(path, text, &errors)) }
}

/// Checks a label value; `path` names it in the error.
pub(super) fn value(text: &str, path: &str) -> Result<(), SelectorError> {
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push("must be no more than 63 bytes".to_owned());
    }
    if !text.is_empty() && !is_name(text) {
        errors.push(format!(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
             for validation is '({NAME})?')"
        ));
    }
    if errors.is_empty() { Ok(()) } else { Err(invalid(path, text, &errors)) }
}

/// An "Invalid value" error of the field at `path`.
pub(super) fn invalid(path: &str, value: &str, errors: &[String]) -> SelectorError {
    SelectorError(format!("{path}: Invalid value: {}: {}", Quoted(value), errors.join("; ")))
}

/// No error, the one there is, or all of them as Kubernetes writes an aggregate.
pub(super) fn all(errors: Vec<SelectorError>) -> Result<(), SelectorError> {
    let texts: Vec<String> = errors.into_iter().map(|error| error.0).collect();
    match &*texts {
        [] => Ok(()),
        [one] => Err(SelectorError(one.clone())),
        several => Err(SelectorError(format!("[{}]", several.join(", ")))),
    }
}

fn subdomain(text: &str) -> Vec<String> {
    if text.is_empty() {
        return vec!["must be non-empty".to_owned()];
    }
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push("must be no more than 253 bytes".to_owned());
    }
    let edge = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let is_label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
    };
    if !text.split('.').all(is_label) {
        errors.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '{SUBDOMAIN}')"
        ));
    }
    errors
}

fn is_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}
