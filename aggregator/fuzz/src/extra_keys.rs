//! Keys of extra attributes: as kube-apiserver escapes them into header names, and whatever else a name can hold.

use http::{HeaderMap, HeaderName, HeaderValue};
use waggle_aggregator::auth::Proven;

use crate::{
    Target,
    model::percent,
    owned,
    world::{proven, snapshot},
};

pub const TARGET: Target = Target {
    name: "extra-keys",
    run,
    seeds: || {
        owned(&[
            "scopes",
            "example.com%2Ftenant",
            "authentication.kubernetes.io%2fcredential-id",
            "%zz",
            "a%",
            "%ff",
            "%C3%A9",
        ])
    },
    words: &["%2F", "%2f", "%25", "%00", "%C3%A9", "%ff", "%", "example.com"],
};

fn run(bytes: &[u8]) {
    // As the end of a header's name.
    let name = [b"x-remote-extra-", bytes].concat();
    if let Ok(name) = HeaderName::from_bytes(&name) {
        let raw = name.as_str().replacen("x-remote-extra-", "", 1);
        let plain = percent::decode(raw.as_bytes()).and_then(|plain| String::from_utf8(plain).ok());
        assert_eq!(key_of(name.clone()), Some(plain.unwrap_or(raw)), "{name}");
    }
    // As a key that kube-apiserver was given: it comes back, lower case where letters were not escaped.
    let Ok(key) = std::str::from_utf8(bytes) else { return };
    let name = format!("X-Remote-Extra-{}", percent::header_key(key));
    let name = HeaderName::from_bytes(name.as_bytes());
    // A name has a limit of its own.
    if let Ok(name) = name {
        assert_eq!(key_of(name), Some(key.to_ascii_lowercase()), "{key:?}");
    }
}

/// The one key of the user whom the front proxy names with that header.
fn key_of(name: HeaderName) -> Option<String> {
    let mut headers = HeaderMap::new();
    headers.insert("x-remote-user", HeaderValue::from_static("bob"));
    headers.insert(name, HeaderValue::from_static("value"));
    let Proven::FrontProxy(user) = proven(&headers, &snapshot()) else {
        panic!("{headers:?} is not the front proxy's");
    };
    let mut extra = user.extra.into_iter();
    let (key, values) = extra.next()?;
    assert_eq!((values.as_slice(), extra.next()), ([String::from("value")].as_slice(), None));
    Some(key)
}
