//! The user whom the front proxy names in headers. Pure; to be called only for a proxy that proved itself.

use http::{HeaderMap, HeaderName};
use percent_encoding::percent_decode;

use super::{User, config::RequestHeader};

/// The user; `None` without a user name. Values are bytes of UTF-8, groups are never split at commas.
pub fn user(headers: &HeaderMap, rules: &RequestHeader) -> Option<User> {
    let name = first(headers, &rules.username_headers)?;
    let mut user =
        User { name, uid: first(headers, &rules.uid_headers).unwrap_or_default(), ..User::default() };
    for header in &rules.group_headers {
        user.groups.extend(values(headers, header).filter(|group| !group.is_empty()));
    }
    for prefix in &rules.extra_prefixes {
        for header in headers.keys() {
            if let Some(key) = extra_key(header, prefix) {
                user.extra.entry(key).or_default().extend(values(headers, header.as_str()));
            }
        }
    }
    Some(user)
}

/// Whether this header may carry an identity under these rules.
pub fn claims(header: &HeaderName, rules: &RequestHeader) -> bool {
    let name = header.as_str();
    let mut exact = rules.username_headers.iter().chain(&rules.uid_headers).chain(&rules.group_headers);
    exact.any(|configured| configured == name)
        || rules.extra_prefixes.iter().any(|p| name.starts_with(p.as_str()))
}

/// The first header whose first value is not empty.
fn first(headers: &HeaderMap, names: &[String]) -> Option<String> {
    names.iter().find_map(|name| values(headers, name).next().filter(|value| !value.is_empty()))
}

fn values<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = String> + use<'a> {
    headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// The rest of the name, percent-decoded where that makes sense: kube-apiserver escapes what a header name cannot hold.
fn extra_key(header: &HeaderName, prefix: &str) -> Option<String> {
    let raw = header.as_str().strip_prefix(prefix)?;
    if !well_escaped(raw.as_bytes()) {
        return Some(raw.to_owned());
    }
    Some(percent_decode(raw.as_bytes()).decode_utf8().map_or_else(|_| raw.to_owned(), Into::into))
}

/// Every percent sign is followed by two hexadecimal digits.
fn well_escaped(text: &[u8]) -> bool {
    let hex = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_hexdigit);
    text.iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'%')
        .all(|(at, _)| hex(text.get(at + 1)) && hex(text.get(at + 2)))
}
