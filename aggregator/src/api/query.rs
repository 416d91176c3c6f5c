//! The query of a request: its pairs, and the list options among them.

use std::time::Duration;

use percent_encoding::percent_decode_str;
use waggle_proto::duration;

use super::{
    quoted::Quoted,
    selector::{FieldSelector, LabelSelector, SelectorError},
    status::{Cause, Failure},
};

/// Decoded pairs in order. A pair that cannot be decoded counts as absent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

/// What a list request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// `labelSelector`
    pub labels: LabelSelector,
    /// `fieldSelector`
    pub fields: FieldSelector,
}

impl Query {
    /// Splits and decodes the text behind `?`.
    pub fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(key)?, decode(value)?))
        };
        let parts = text.split('&').filter(|part| !part.is_empty() && !part.contains(';'));
        Self { pairs: parts.filter_map(pair).collect() }
    }

    /// The first value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Whether a key is there and says yes: everything but `false` and `0` does, the empty value too.
    pub fn is_true(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !value.eq_ignore_ascii_case("false") && value != "0")
    }

    /// How long the client wants to wait: `timeout`. Nothing and what is not positive is no wish.
    pub fn timeout(&self) -> Result<Option<Duration>, Failure> {
        let Some(text) = self.get("timeout").filter(|text| !text.is_empty()) else { return Ok(None) };
        let (negative, magnitude) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let doubly_signed = negative && magnitude.starts_with('+');
        let asked = duration::parse(magnitude).filter(|_| !doubly_signed).ok_or_else(|| {
            let (why, whole) = (wrong_duration(magnitude), Quoted(text));
            Failure::bad_request(format!(
                "invalid timeout specified in the request URL - time: {why} {whole}"
            ))
        })?;
        Ok(Some(asked).filter(|asked| !negative && !asked.is_zero()))
    }

    /// The list options, checked in the order in which Kubernetes checks them; `resource` for the refusal of `watch`.
    pub fn list_options(&self, resource: &str) -> Result<ListOptions, Failure> {
        let options = self.selectors()?;
        if self.is_true("watch") { Err(Failure::watch(resource)) } else { Ok(options) }
    }

    /// What is selected, by a list or a watch.
    pub fn selectors(&self) -> Result<ListOptions, Failure> {
        // In the order of the fields of ListOptions.
        for number in ["timeoutSeconds", "limit"] {
            self.get(number).map(integer).transpose()?;
        }
        let refuse = |error: SelectorError| Failure::bad_request(error.0);
        let labels = LabelSelector::parse(self.get("labelSelector").unwrap_or_default()).map_err(refuse)?;
        if !self.is_true("watch") {
            self.check_consistency()?;
        }
        let fields = FieldSelector::parse(self.get("fieldSelector").unwrap_or_default()).map_err(refuse)?;
        Ok(ListOptions { labels, fields })
    }

    fn check_consistency(&self) -> Result<(), Failure> {
        let given = |key| self.get(key).is_some_and(|value| !value.is_empty());
        let mut causes = Vec::new();
        let mut forbid = |field, why| {
            causes.push(Cause { reason: "FieldValueForbidden", message: format!("Forbidden: {why}"), field });
        };
        if given("resourceVersionMatch") && !given("resourceVersion") {
            forbid(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden unless resourceVersion is provided",
            );
        }
        if self.get("sendInitialEvents").is_some() {
            forbid("sendInitialEvents", "sendInitialEvents is forbidden for list");
        }
        if causes.is_empty() { Ok(()) } else { Err(Failure::invalid_options(causes)) }
    }
}

/// Decodes `+` and percent escapes; `None` for a broken escape or what is not UTF-8.
fn decode(text: &str) -> Option<String> {
    let broken = |rest: &str| {
        let mut digits = rest.bytes().take(2);
        !(digits.next().is_some_and(|d| d.is_ascii_hexdigit())
            && digits.next().is_some_and(|d| d.is_ascii_hexdigit()))
    };
    if text.split('%').skip(1).any(broken) {
        return None;
    }
    percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// What Go's `time.ParseDuration` finds wrong first, up to the text itself.
fn wrong_duration(text: &str) -> String {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let invalid = "invalid duration".to_owned();
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, tail) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        if !number.contains(|c: char| c.is_ascii_digit()) || number.matches('.').count() > 1 {
            return invalid;
        }
        let (unit, tail) = tail.split_at(tail.find(is_number).unwrap_or(tail.len()));
        match unit {
            "" => return "missing unit in duration".to_owned(),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => rest = tail,
            unknown => return format!("unknown unit {} in duration", Quoted(unknown)),
        }
    }
    invalid
}

/// An integer, with the errors of Go.
pub(super) fn integer(text: &str) -> Result<i64, Failure> {
    text.parse::<i64>().map_err(|error| {
        use std::num::IntErrorKind::{NegOverflow, PosOverflow};
        let why = match error.kind() {
            PosOverflow | NegOverflow => "value out of range",
            _ => "invalid syntax",
        };
        Failure::bad_request(format!("strconv.ParseInt: parsing {}: {why}", Quoted(text)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Result<ListOptions, (u16, String)> {
        Query::parse(text).list_options("pods").map_err(|failure| (failure.code.as_u16(), failure.message))
    }

    #[test]
    fn pairs_are_decoded() {
        let query = Query::parse("a=1&b=x%3Dy+z&a=2&c&%zz=1&d=%f&e=%ff&f;g=1");
        assert_eq!(query.get("a"), Some("1"));
        assert_eq!(query.all("a").collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(query.get("b"), Some("x=y z"));
        assert_eq!(query.get("c"), Some(""));
        assert_eq!(["%zz", "d", "e", "f;g", "f"].map(|key| query.get(key)), [None; 5]);
    }

    #[test]
    fn what_is_ignored() {
        for text in [
            "",
            "limit=500",
            "limit=-1",
            "limit=0&continue=abc",
            "resourceVersion=zzz",
            "resourceVersion=0&resourceVersionMatch=NotOlderThan",
            "timeoutSeconds=3&unknown=1&watch=false",
            "watch=0",
            "labelSelector=%zz",
        ] {
            assert_eq!(options(text), Ok(ListOptions::default()), "{text}");
        }
        assert!(!options("labelSelector=a%3Db").unwrap().labels.is_empty());
        assert_eq!(options("fieldSelector=metadata.name%3Dx").unwrap().fields.exact_name(), Some("x"));
    }

    #[test]
    fn what_is_refused() {
        let prefix = "ListOptions.meta.k8s.io \"\" is invalid: ";
        let matching = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is \
                        provided";
        let events = "sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
        for (text, code, message) in [
            (
                "limit=x&timeoutSeconds=y",
                400,
                "strconv.ParseInt: parsing \"y\": invalid syntax".to_owned(),
            ),
            ("limit=x", 400, "strconv.ParseInt: parsing \"x\": invalid syntax".to_owned()),
            (
                "limit=99999999999999999999",
                400,
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range".to_owned(),
            ),
            ("resourceVersionMatch=Exact", 422, format!("{prefix}{matching}")),
            ("sendInitialEvents=true", 422, format!("{prefix}{events}")),
            ("sendInitialEvents=true&resourceVersionMatch=Exact", 422, format!("{prefix}[{matching}, {events}]")),
            ("watch=true", 405, "watch is not supported on resources of kind \"pods.metrics.k8s.io\"".to_owned()),
            ("watch=1&sendInitialEvents=true", 405, {
                "watch is not supported on resources of kind \"pods.metrics.k8s.io\"".to_owned()
            }),
            ("watch", 405, "watch is not supported on resources of kind \"pods.metrics.k8s.io\"".to_owned()),
            (
                "labelSelector=a!%3D%3D%3Db",
                400,
                "unable to parse requirement: found '==', expected: identifier".to_owned(),
            ),
            (
                "fieldSelector=status.phase%3DRunning",
                400,
                "\"status.phase\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    .to_owned(),
            ),
        ] {
            assert_eq!(options(text), Err((code, message)), "{text}");
        }
    }
}
