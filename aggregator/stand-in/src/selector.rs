//! Label and field selectors of list and watch requests.

use serde_json::Value;

/// Both selectors of a request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

const FIELDS: [&str; 4] = ["metadata.name", "metadata.namespace", "spec.nodeName", "status.phase"];

impl Filter {
    /// From the texts of `labelSelector` and `fieldSelector`; the error is the text for a 400.
    pub(crate) fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for part in split(labels) {
            filter.labels.push(requirement(part)?);
        }
        for part in fields.split(',').filter(|part| !part.is_empty()) {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("invalid field selector {part:?}"))?;
            let (key, equal) = key.strip_suffix('!').map_or((key, true), |key| (key, false));
            if !FIELDS.contains(&key) {
                return Err(format!("field label not supported: {key}"));
            }
            let value = value.strip_prefix('=').unwrap_or(value);
            filter.fields.push((key.to_owned(), equal, value.to_owned()));
        }
        Ok(filter)
    }

    /// The name that the field selector asks for, if it asks for exactly one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.fields
            .iter()
            .find(|(key, equal, _)| key == "metadata.name" && *equal)
            .map(|(_, _, v)| v.as_str())
    }

    pub(crate) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|wanted| {
            let value = labels.get(&wanted.key).and_then(Value::as_str);
            match &wanted.test {
                Test::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
                Test::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        }) && self.fields.iter().all(|(path, equal, wanted)| {
            let value = path.split('.').fold(object, |at, step| &at[step]).as_str().unwrap_or_default();
            (value == wanted) == *equal
        })
    }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|part| !part.is_empty())
    .collect()
}

fn requirement(text: &str) -> Result<Requirement, String> {
    let made = |key: &str, test: Test| Requirement { key: key.trim().to_owned(), test };
    let one = |value: &str| vec![value.trim().to_owned()];
    if let Some((rest, values)) = text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match rest.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "in"] => Ok(made(key, Test::In(values))),
            [key, "notin"] => Ok(made(key, Test::NotIn(values))),
            _ => Err(format!("unable to parse requirement: {text:?}")),
        };
    }
    if let Some((key, value)) = text.split_once("!=") {
        return Ok(made(key, Test::NotIn(one(value))));
    }
    if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        return Ok(made(key, Test::In(one(value))));
    }
    Ok(match text.strip_prefix('!') {
        Some(key) => made(key, Test::Absent),
        None => made(text, Test::Exists),
    })
}
