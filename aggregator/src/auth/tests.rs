//! The tables of who is let in as whom (upstream: `union_test.go`, `requestheader_test.go`), without a network.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use rustls_pki_types::{CertificateDer, UnixTime};
use serde_json::json;
use waggle_stand_in::{Authority, Identity};

use super::{config::AuthConfig, *};

fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_hours(500_000))
}

fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    identity.to_rustls().unwrap().0
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    map
}

fn data(client_ca: &str, proxy_ca: &str, names: &[&str]) -> BTreeMap<String, String> {
    let list = |names: &[&str]| json!(names).to_string();
    [
        ("client-ca-file", client_ca.to_owned()),
        ("requestheader-client-ca-file", proxy_ca.to_owned()),
        ("requestheader-allowed-names", list(names)),
        ("requestheader-username-headers", list(&["X-Remote-User"])),
        ("requestheader-group-headers", list(&["X-Remote-Group"])),
        ("requestheader-extra-headers-prefix", list(&["X-Remote-Extra-"])),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into()
}

struct World {
    cluster: Authority,
    proxy: Authority,
    other: Authority,
    snapshot: Snapshot,
}

fn world() -> World {
    let [cluster, proxy, other] =
        ["kubernetes", "front-proxy-ca", "another"].map(|n| Authority::new(n).unwrap());
    let snapshot =
        Snapshot::parse(&data(cluster.pem(), proxy.pem(), &["front-proxy-client"]), 1, Overlap::Refused)
            .unwrap();
    World { cluster, proxy, other, snapshot }
}

fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    User { name: name.to_owned(), groups, ..User::default() }
}

/// What it shows, the chain, the headers, the outcome.
type Case<'a> = (&'a str, &'a [CertificateDer<'a>], &'a [(&'a str, &'a str)], Proven);

#[test]
fn who_is_let_in_as_whom() {
    let w = world();
    let bob = [("x-remote-user", "bob"), ("x-remote-group", "dev")];
    let no_groups: [&str; 0] = [];
    let proxy = chain(&w.proxy.client("front-proxy-client", &no_groups).unwrap());
    let misnamed = chain(&w.proxy.client("somebody-else", &no_groups).unwrap());
    let wrong_case = chain(&w.proxy.client("Front-Proxy-Client", &no_groups).unwrap());
    let old_proxy = chain(&w.proxy.expired_client("front-proxy-client", &no_groups).unwrap());
    let stranger = chain(&w.other.client("front-proxy-client", &no_groups).unwrap());
    let serving = chain(&w.proxy.serving(&["front-proxy-client"]).unwrap());
    let nobody = Proven::Not(vec![]);
    let foreign = Proven::Not(vec!["front-proxy-certificate", "client-certificate"]);
    let named_wrong = Proven::Not(vec!["front-proxy-name", "client-certificate"]);
    let table: [Case<'_>; 10] = [
        ("nothing", &[], &[], nobody.clone()),
        ("headers without a certificate are ignored", &[], &bob, nobody),
        ("the front proxy", &proxy, &bob, Proven::FrontProxy(user("bob", &["dev", "system:authenticated"]))),
        ("the front proxy without headers", &proxy, &[], Proven::Not(vec!["client-certificate"])),
        (
            "the front proxy with an empty user",
            &proxy,
            &[("x-remote-user", "")],
            Proven::Not(vec!["client-certificate"]),
        ),
        ("right CA, wrong name", &misnamed, &bob, named_wrong.clone()),
        ("names are case-sensitive", &wrong_case, &bob, named_wrong),
        ("expired", &old_proxy, &bob, foreign.clone()),
        ("another CA", &stranger, &bob, foreign.clone()),
        ("a serving certificate", &serving, &bob, foreign),
    ];
    for (case, chain, pairs, expected) in table {
        let judgement = judge(chain, &w.snapshot, now());
        assert_eq!(decide(&judgement, &headers(pairs), &w.snapshot), expected, "{case}");
    }
}

#[test]
fn a_client_certificate_names_its_user_whatever_the_headers_say() {
    let w = world();
    let alice = chain(&w.cluster.client("alice", &["admins", "ops"]).unwrap());
    let judgement = judge(&alice, &w.snapshot, now());
    let forged = headers(&[("x-remote-user", "root"), ("x-remote-group", "system:masters")]);
    let Proven::Certificate(user) = decide(&judgement, &forged, &w.snapshot) else { panic!("{judgement:?}") };
    assert_eq!(user.name, "alice");
    assert_eq!(user.groups, ["admins", "ops", "system:authenticated"]);
    let credential = &user.extra["authentication.kubernetes.io/credential-id"][0];
    assert!(credential.starts_with("X509SHA256=") && credential.len() == 11 + 64, "{credential}");
    let expired = chain(&w.cluster.expired_client("alice", &["admins"]).unwrap());
    assert!(matches!(judge(&expired, &w.snapshot, now()).certificate, Opinion::Refused(_)));
}

#[test]
fn nothing_is_trusted_before_the_first_configuration() {
    let w = world();
    let proxy = chain(&w.proxy.client::<&str>("front-proxy-client", &[]).unwrap());
    let config = AuthConfig::new(Overlap::Refused, Metrics::default());
    assert!(!config.is_loaded());
    let judgement = judge(&proxy, &config.snapshot(), now());
    let front_proxy = Opinion::Refused("configuration-not-loaded");
    assert_eq!(judgement, Judgement { front_proxy, certificate: Opinion::None });
    // Refused, and so 401: never anonymous.
    let decided = decide(&judgement, &HeaderMap::new(), &config.snapshot());
    assert_eq!(decided, Proven::Not(vec!["configuration-not-loaded"]));
    let nobody = judge(&[], &config.snapshot(), now());
    assert_eq!(decide(&nobody, &HeaderMap::new(), &config.snapshot()), Proven::Not(Vec::new()));
}

#[test]
fn a_rotation_accepts_old_and_new() {
    let w = world();
    let both = format!("{}{}", w.proxy.pem(), w.other.pem());
    let snapshot = Snapshot::parse(&data(w.cluster.pem(), &both, &["p"]), 2, Overlap::Refused).unwrap();
    for ca in [&w.proxy, &w.other] {
        let judgement = judge(&chain(&ca.client::<&str>("p", &[]).unwrap()), &snapshot, now());
        assert_eq!(judgement.front_proxy, Opinion::Accepted(()));
    }
}

#[test]
fn an_empty_list_of_names_accepts_any_unless_the_ca_signs_clients_too() {
    let w = world();
    let any = Snapshot::parse(&data(w.cluster.pem(), w.proxy.pem(), &[]), 2, Overlap::Refused).unwrap();
    let proxy = chain(&w.proxy.client::<&str>("whoever", &[]).unwrap());
    assert_eq!(judge(&proxy, &any, now()).front_proxy, Opinion::Accepted(()));

    let bundle = format!("{}{}", w.proxy.pem(), w.cluster.pem());
    let shared = Snapshot::parse(&data(w.cluster.pem(), &bundle, &[]), 3, Overlap::Refused).unwrap();
    assert!(shared.shared_ca && shared.request_header.is_none());
    let alice = chain(&w.cluster.client::<&str>("alice", &[]).unwrap());
    let forged = headers(&[("x-remote-user", "root")]);
    let proven = decide(&judge(&alice, &shared, now()), &forged, &shared);
    assert!(matches!(&proven, Proven::Certificate(user) if user.name == "alice"), "{proven:?}");

    let trusted = Snapshot::parse(&data(w.cluster.pem(), &bundle, &[]), 3, Overlap::Trusted).unwrap();
    let proven = decide(&judge(&alice, &trusted, now()), &forged, &trusted);
    assert!(trusted.shared_ca, "it is still known");
    assert!(
        matches!(&proven, Proven::FrontProxy(user) if user.name == "root"),
        "said so explicitly: {proven:?}"
    );

    let named =
        Snapshot::parse(&data(w.cluster.pem(), &bundle, &["front-proxy-client"]), 4, Overlap::Refused)
            .unwrap();
    assert!(!named.shared_ca && named.request_header.is_some());
}

#[test]
fn what_cannot_be_read_leaves_the_last_good_configuration() {
    let w = world();
    let good = data(w.cluster.pem(), w.proxy.pem(), &["front-proxy-client"]);
    let metrics = Metrics::default();
    let config = AuthConfig::new(Overlap::Refused, metrics.clone());
    config.update(&good);
    assert!(config.is_loaded());
    let broken = [
        ("requestheader-allowed-names", "front-proxy-client"),
        ("requestheader-group-headers", "{}"),
        ("client-ca-file", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        ("client-ca-file", "no certificate at all"),
        ("requestheader-client-ca-file", w.proxy.pem().split_at(w.proxy.pem().len() / 2).0),
    ];
    for (count, (key, value)) in broken.into_iter().enumerate() {
        let mut bad = good.clone();
        bad.insert(key.to_owned(), value.to_owned());
        config.update(&bad);
        assert_eq!(metrics.config_errors.get(), count as u64 + 1, "{key}");
        assert_eq!(config.snapshot().generation, 1, "{key}");
        assert!(config.snapshot().request_header.is_some(), "{key}");
    }
    config.update(&BTreeMap::new());
    let empty = config.snapshot();
    assert_eq!(empty.generation, 2);
    assert!(empty.client_ca.is_none() && empty.request_header.is_none());
}

#[test]
fn headers_become_a_user() {
    let rules = world().snapshot.request_header.unwrap();
    let found = request_header::user(
        &headers(&[
            ("X-Remote-User", "jürgen"),
            ("x-remote-user", "second"),
            ("X-Remote-Group", "a,b"),
            ("X-Remote-Group", ""),
            ("X-Remote-Group", "c"),
            ("X-Remote-Uid", "not-configured"),
            ("X-Remote-Extra-Scopes", "one"),
            ("x-remote-extra-scopes", "two"),
            ("X-Remote-Extra-Acme.com%2Fproject", "p"),
            ("X-Remote-Extra-Odd%2", "raw"),
            ("X_Remote_User", "ignored"),
        ]),
        &rules,
    )
    .unwrap();
    assert_eq!((&*found.name, &*found.uid), ("jürgen", ""));
    assert_eq!(found.groups, ["a,b", "c"]);
    let extra: Vec<(&str, Vec<&str>)> =
        found.extra.iter().map(|(k, v)| (&**k, v.iter().map(|s| &**s).collect())).collect();
    assert_eq!(
        extra,
        [("acme.com/project", vec!["p"]), ("odd%2", vec!["raw"]), ("scopes", vec!["one", "two"])]
    );
}

#[test]
fn no_credential_and_no_claim_goes_on() {
    let mut map = headers(&[
        ("authorization", "Bearer x"),
        ("x-remote-user", "a"),
        ("x-remote-uid", "a"),
        ("x-remote-extra-y", "a"),
        ("impersonate-user", "a"),
        ("x-custom-user", "a"),
        ("accept", "application/json"),
    ]);
    let mut snapshot = world().snapshot;
    snapshot.request_header.as_mut().unwrap().username_headers.push("x-custom-user".to_owned());
    strip(&mut map, &snapshot);
    let left: Vec<&str> = map.keys().map(HeaderName::as_str).collect();
    assert_eq!(left, ["accept"]);
}

#[test]
fn only_a_bearer_token_is_a_credential() {
    let table = [
        (None, None),
        (Some("Bearer abc"), Some("abc")),
        (Some("bearer abc"), Some("abc")),
        (Some("  Bearer abc  "), Some("abc")),
        (Some("Bearer"), None),
        (Some("Bearer "), None),
        (Some("Bearer  abc"), None),
        (Some("Basic abc"), None),
        (Some("Bearer abc def"), Some("abc")),
    ];
    for (value, expected) in table {
        let pairs: Vec<_> = value.map(|value| ("authorization", value)).into_iter().collect();
        assert_eq!(bearer(&headers(&pairs)), expected, "{value:?}");
    }
    let mut bytes = HeaderMap::new();
    bytes.insert("authorization", HeaderValue::from_bytes(b"Bearer \xff").unwrap());
    assert!(bearer(&bytes).is_some(), "an unreadable credential is a bad one, not none");
}

proptest! {
    /// Whatever kube-apiserver escapes into a header name comes out again.
    #[test]
    fn extra_keys_survive_the_way_through_a_header_name(key in "[a-z0-9./:@ %é√_-]{1,24}") {
        let mut name = "x-remote-extra-".to_owned();
        for byte in key.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._".contains(&byte) {
                name.push(char::from(byte));
            } else {
                write!(name, "%{byte:02X}").unwrap();
            }
        }
        let rules = world_rules();
        let user = request_header::user(&headers(&[("x-remote-user", "u"), (&name, "v")]), &rules).unwrap();
        prop_assert_eq!(user.extra.keys().collect::<Vec<_>>(), vec![&key]);
    }

    /// Values of any bytes that a header can hold never break the decoding.
    #[test]
    fn any_bytes_decode_to_some_user(value in proptest::collection::vec(0x20_u8..=0xff, 1..40)) {
        let Ok(value) = HeaderValue::from_bytes(&value) else { return Ok(()) };
        let expected = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let mut map = HeaderMap::new();
        map.insert("x-remote-user", value);
        let user = request_header::user(&map, &world_rules()).unwrap();
        prop_assert_eq!(user.name, expected);
    }
}

fn world_rules() -> RequestHeader {
    RequestHeader {
        username_headers: vec!["x-remote-user".to_owned()],
        extra_prefixes: vec!["x-remote-extra-".to_owned()],
        ..RequestHeader::default()
    }
}
