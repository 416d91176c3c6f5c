//! Percent escapes, byte by byte.

use std::fmt::Write as _;

/// The bytes that a text with escapes stands for; `None` where an escape is broken.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    let mut rest = text;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        if *first != b'%' {
            plain.push(*first);
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let value = digits.iter().try_fold(0_u8, |value, digit| {
            let digit = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                b'A'..=b'F' => digit - b'A' + 10,
                _ => return None,
            };
            Some(value << 4 | digit)
        })?;
        plain.push(value);
        rest = tail;
    }
    Some(plain)
}

/// A key of an extra attribute as kube-apiserver writes it into a header's name: what a name cannot hold, and the percent
/// sign, is escaped (kubernetes/client-go, `transport/round_trippers.go`).
pub fn header_key(key: &str) -> String {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let mut name = String::new();
    for byte in key.bytes() {
        if legal(byte) {
            name.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(name, "%{byte:02X}");
        }
    }
    name
}

/// The pairs of a query as Go's `url.ParseQuery` reads them: broken pairs are left out. Values that are not UTF-8 are left
/// out too.
pub fn query(text: &str) -> Vec<(String, String)> {
    let word = |text: &str| {
        let spaced: Vec<u8> = text.bytes().map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
        String::from_utf8(decode(&spaced)?).ok()
    };
    let mut pairs = Vec::new();
    for part in text.split('&') {
        if part.is_empty() || part.contains(';') {
            continue;
        }
        let mut halves = part.splitn(2, '=');
        let (key, value) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
        if let (Some(key), Some(value)) = (word(key), word(value)) {
            pairs.push((key, value));
        }
    }
    pairs
}

/// The segments of a path that is canonical: no empty or dot segment, no escaped slash, percent sign or NUL, no broken
/// escape; one slash may end it.
pub fn segments(path: &str) -> Option<Vec<String>> {
    let mut parts: Vec<&str> = path.split('/').collect();
    if parts.first() != Some(&"") || parts.len() < 2 {
        return None;
    }
    parts.remove(0);
    if parts.last() == Some(&"") {
        parts.pop();
    }
    let plain = |part: &&str| {
        let text = String::from_utf8(decode(part.as_bytes())?).ok()?;
        let odd = text.is_empty() || text == "." || text == "..";
        (!odd && !text.chars().any(|c| c == '/' || c == '%' || c == '\0')).then_some(text)
    };
    parts.iter().map(plain).collect()
}
