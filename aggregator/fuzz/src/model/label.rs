//! Label selectors: split into words and signs, cut at the commas outside of parentheses, and each piece compared with
//! the forms that there are (kubernetes/apimachinery, `pkg/labels/selector.go`).

use std::collections::BTreeMap;

/// One requirement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// `key`
    Exists(String),
    /// `!key`
    Absent(String),
    /// `key=value`, `key in (…)`
    OneOf(String, Vec<String>),
    /// `key!=value`, `key notin (…)`
    NoneOf(String, Vec<String>),
    /// `key>value`
    Above(String, i64),
    /// `key<value`
    Below(String, i64),
}

/// The requirements; `None` where the text is malformed.
pub fn parse(text: &str) -> Option<Vec<Requirement>> {
    let words = words(text);
    if words.is_empty() {
        return Some(Vec::new());
    }
    let mut pieces = vec![Vec::new()];
    let mut inside = false;
    for word in &words {
        match word.as_str() {
            "(" => inside = true,
            ")" => inside = false,
            _ => {}
        }
        if word == "," && !inside {
            pieces.push(Vec::new());
        } else if let Some(piece) = pieces.last_mut() {
            piece.push(word.as_str());
        }
    }
    pieces.iter().map(|piece| requirement(piece)).collect()
}

/// Whether labels meet all requirements.
pub fn selects(requirements: &[Requirement], labels: &BTreeMap<String, String>) -> bool {
    requirements.iter().all(|requirement| {
        let number = |key: &String| labels.get(key).and_then(|value| value.parse::<i64>().ok());
        match requirement {
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Absent(key) => !labels.contains_key(key),
            Requirement::OneOf(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NoneOf(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Above(key, than) => number(key).is_some_and(|number| number > *than),
            Requirement::Below(key, than) => number(key).is_some_and(|number| number < *than),
        }
    })
}

fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    // Whether the next character may join the word before it.
    let mut open = false;
    for c in text.chars() {
        let joined = match (words.last().map(String::as_str), c) {
            (Some("=" | "!"), '=') => open,
            _ => false,
        };
        if " \t\r\n".contains(c) {
            open = false;
        } else if "=!(),<>".contains(c) {
            match words.last_mut().filter(|_| joined) {
                Some(last) => last.push(c),
                None => words.push(c.to_string()),
            }
            open = !joined;
        } else {
            match words.last_mut().filter(|last| open && !is_sign(last)) {
                Some(last) => last.push(c),
                None => words.push(c.to_string()),
            }
            open = true;
        }
    }
    words
}

fn is_sign(word: &str) -> bool {
    word.starts_with(['=', '!', '(', ')', ',', '<', '>'])
}

fn requirement(piece: &[&str]) -> Option<Requirement> {
    let key = |word: &str| (!is_sign(word) && is_key(word)).then(|| word.to_owned());
    let one = |word: &str| (!is_sign(word) && is_value(word)).then(|| vec![word.to_owned()]);
    let number = |word: &str| one(word).and_then(|_| word.parse::<i64>().ok());
    let nothing = || vec![String::new()];
    Some(match piece {
        ["!", name] => Requirement::Absent(key(name)?),
        [name] => Requirement::Exists(key(name)?),
        [name, "=" | "=="] => Requirement::OneOf(key(name)?, nothing()),
        [name, "!="] => Requirement::NoneOf(key(name)?, nothing()),
        [name, "=" | "==", value] => Requirement::OneOf(key(name)?, one(value)?),
        [name, "!=", value] => Requirement::NoneOf(key(name)?, one(value)?),
        [name, ">", value] => Requirement::Above(key(name)?, number(value)?),
        [name, "<", value] => Requirement::Below(key(name)?, number(value)?),
        [name, "in", "(", list @ .., ")"] => Requirement::OneOf(key(name)?, values(list)?),
        [name, "notin", "(", list @ .., ")"] => Requirement::NoneOf(key(name)?, values(list)?),
        _ => return None,
    })
}

/// The values of a list; where a comma has no value beside it there is the empty one.
fn values(list: &[&str]) -> Option<Vec<String>> {
    if list.is_empty() {
        return None;
    }
    let mut values = Vec::new();
    for part in list.split(|word| *word == ",") {
        match part {
            [] => values.push(String::new()),
            [value] if !is_sign(value) && is_value(value) => values.push((*value).to_owned()),
            _ => return None,
        }
    }
    Some(values)
}

fn is_value(text: &str) -> bool {
    text.is_empty() || is_name(text)
}

fn is_name(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    text.len() <= 63
        && text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.chars().all(|c| alphanumeric(c) || "-_.".contains(c))
}

fn is_key(text: &str) -> bool {
    let Some((prefix, name)) = text.split_once('/') else { return is_name(text) };
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let label = |part: &str| {
        part.starts_with(lower) && part.ends_with(lower) && part.chars().all(|c| lower(c) || c == '-')
    };
    prefix.len() <= 253 && prefix.split('.').all(label) && is_name(name)
}
