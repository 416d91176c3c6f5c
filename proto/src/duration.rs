//! The grammar of durations in flags of both programs: Go's, as everywhere in Kubernetes. Pure.

use std::time::Duration;

/// A flag's value that is not a usable duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// Not of the grammar, negative, or out of range.
    #[error("invalid duration {0:?}: expected e.g. 500ms, 15s or 1m")]
    Syntax(String),
    /// Less than a millisecond: no flag has a use for it, and 0 would be a busy loop.
    #[error("invalid duration {0:?}: expected at least 1ms")]
    TooShort(String),
}

/// The value of a flag, at least 1 ms.
///
/// ```
/// use waggle_proto::duration::flag;
///
/// assert_eq!(flag("1m30s").unwrap().as_secs(), 90);
/// assert!(flag("5 s").is_err());
/// ```
pub fn flag(text: &str) -> Result<Duration, InvalidDuration> {
    let duration = parse(text).ok_or_else(|| InvalidDuration::Syntax(text.to_owned()))?;
    if duration < Duration::from_millis(1) {
        return Err(InvalidDuration::TooShort(text.to_owned()));
    }
    Ok(duration)
}

/// Reads a duration as Go writes it (`1m30s`, `500ms`, `1.5h`, `0`); `None` for anything else, and for negative ones.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end)?;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_does() {
        for (text, expected) in [
            ("0", Some(Duration::ZERO)),
            ("15s", Some(Duration::from_secs(15))),
            ("500ms", Some(Duration::from_millis(500))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("1h", Some(Duration::from_hours(1))),
            ("1.5h", Some(Duration::from_mins(90))),
            ("", None),
            ("+", None),
            ("15", None),
            ("s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("15 s", None),
            ("1e3s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_flag_that_is_refused_gets_an_example() {
        assert_eq!(flag("1ms"), Ok(Duration::from_millis(1)));
        let refused = |text| flag(text).unwrap_err().to_string();
        assert_eq!(refused("5 s"), "invalid duration \"5 s\": expected e.g. 500ms, 15s or 1m");
        assert_eq!(refused("0"), "invalid duration \"0\": expected at least 1ms");
        assert_eq!(refused("999us"), "invalid duration \"999us\": expected at least 1ms");
    }
}
