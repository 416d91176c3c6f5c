//! Headers of a request whose peer proved to be the front proxy: who the user is, that no claim of identity goes further,
//! and what the answer is written in.

use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::Value;
use waggle_aggregator::auth::{Proven, strip};

use crate::{
    Target,
    model::accept::{self, CONVERSIONS, Choice, KINDS, QUALITIES, Range},
    world::{Answer, World, proven, snapshot},
};

/// The first byte says how many ranges of an `Accept` header follow, three bytes each; the rest are lines `name: value`.
pub const TARGET: Target = Target {
    name: "headers",
    run,
    seeds: || {
        let lines: [&[u8]; 7] = [
            b"\0x-remote-user: alice\nx-remote-group: dev\nx-remote-group: ops\nx-remote-uid: 7",
            b"\x01\0\0\0x-remote-user: bob\nx-remote-extra-scopes: a,b\nauthorization: Bearer x",
            b"\x02\x02\0\0\x04\0\0x-remote-user: system:anonymous\nx-remote-group: system:unauthenticated",
            b"\x03\0\x01\0\0\x02\0\0\0\0x-remote-user: kubectl\naccept-encoding: gzip",
            b"\0x-remote-user: \nx-other-user: carol\nimpersonate-user: root",
            b"\x01\x01\x03\x02x-remote-user: d\nupgrade: websocket\nconnection: upgrade",
            b"\x02\x05\0\0\x02\x01\0x-remote-user: \xc3\xa9\naudit-id: 1\nuser-agent: curl/8\nif-none-match: x",
        ];
        lines.map(<[u8]>::to_vec).to_vec()
    },
    words: &[
        "x-remote-user: ",
        "x-other-user: ",
        "x-remote-group: ",
        "x-remote-uid: ",
        "x-remote-extra-",
        "authorization: ",
        "impersonate-user: ",
        "impersonate-group: ",
        "audit-id: ",
        "accept: ",
        "accept-encoding: gzip",
        "user-agent: curl/8",
        "system:authenticated",
        "system:unauthenticated",
        "system:anonymous",
        "system:masters",
        "Bearer ",
        "\n",
    ],
};

const AUTHENTICATED: &str = "system:authenticated";
const NODES: &str = "/apis/metrics.k8s.io/v1/nodes";

thread_local! {
    static WORLD: World = World::new();
}

fn run(bytes: &[u8]) {
    let Some((count, rest)) = bytes.split_first() else { return };
    let ranges = usize::from(count % 5);
    let Some((choices, lines)) = rest.split_at_checked(ranges * 3) else { return };
    let mut headers = HeaderMap::new();
    for line in lines.split(|byte| *byte == b'\n') {
        let Some(colon) = line.windows(2).position(|pair| pair == b": ") else { continue };
        let name = line.get(..colon).and_then(|name| HeaderName::from_bytes(name).ok());
        let value = line.get(colon + 2..).and_then(|value| HeaderValue::from_bytes(value).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    check_user(&headers);
    check_stripping(headers.clone());
    let one = |at: usize| usize::from(choices.get(at).copied().unwrap_or_default());
    let ranges: Vec<Range> = (0..ranges)
        .map(|range| Range {
            kind: KINDS[one(range * 3) % KINDS.len()],
            conversion: CONVERSIONS[one(range * 3 + 1) % CONVERSIONS.len()],
            quality: QUALITIES[one(range * 3 + 2) % QUALITIES.len()],
        })
        .collect();
    check_answer(headers, &ranges);
}

fn check_user(headers: &HeaderMap) {
    let all = |name: &str| -> Vec<String> {
        let values = headers.iter().filter(|(known, _)| known.as_str() == name);
        values.map(|(_, value)| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let first = |name: &str| all(name).into_iter().next().filter(|value| !value.is_empty());
    let expected = first("x-remote-user").or_else(|| first("x-other-user"));
    let user = match (proven(headers, &snapshot()), &expected) {
        (Proven::FrontProxy(user), Some(_)) => user,
        (Proven::Not(_), None) => return,
        (other, _) => panic!("{headers:?} is {other:?}, should be {expected:?}"),
    };
    assert_eq!(Some(&user.name), expected.as_ref(), "{headers:?}");
    assert_eq!(user.uid, first("x-remote-uid").unwrap_or_default(), "{headers:?}");
    let mut groups: Vec<String> =
        all("x-remote-group").into_iter().filter(|group| !group.is_empty()).collect();
    let marked = groups.iter().any(|group| group == AUTHENTICATED || group == "system:unauthenticated");
    if user.name != "system:anonymous" && !marked {
        groups.push(AUTHENTICATED.to_owned());
    }
    assert_eq!(user.groups, groups, "{headers:?}");
    let extra = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-remote-extra-"));
    assert_eq!(user.extra.values().map(Vec::len).sum::<usize>(), extra.count(), "{headers:?}");
}

fn check_stripping(mut headers: HeaderMap) {
    let kept = |name: &str| {
        let claims = ["x-remote-", "impersonate-"].iter().any(|prefix| name.starts_with(prefix));
        !(claims || name == "authorization" || name == "x-other-user")
    };
    let expected = headers.iter().filter(|(name, _)| kept(name.as_str())).count();
    strip(&mut headers, &snapshot());
    assert_eq!(headers.len(), expected, "{headers:?}");
    assert!(headers.keys().all(|name| kept(name.as_str())), "{headers:?}");
}

fn check_answer(mut headers: HeaderMap, ranges: &[Range]) {
    let judged = headers.get("accept").is_none();
    let upgrades = headers.contains_key("upgrade");
    let impersonates = headers.keys().any(|name| name.as_str().starts_with("impersonate-"));
    let known = matches!(proven(&headers, &snapshot()), Proven::FrontProxy(_));
    let packed = headers.contains_key("accept-encoding");
    if judged && !ranges.is_empty() {
        let text = ranges.iter().map(Range::text).collect::<Vec<_>>().join(", ");
        let Ok(value) = HeaderValue::try_from(text) else { return };
        headers.insert("accept", value);
    }
    let mut request = Request::new(());
    *request.uri_mut() = http::Uri::from_static(NODES);
    *request.headers_mut() = headers;
    let told = format!("{:?}", request.headers());
    let (answer, _) = WORLD.with(|world| world.answer(request));
    let status = answer.status.as_u16();
    let expected: &[u16] = match (known, impersonates, upgrades) {
        (false, ..) => &[401],
        (true, true, _) => &[403],
        (true, false, true) => &[400],
        (true, false, false) => &[200, 406],
    };
    assert!(expected.contains(&status), "{status} for {told}");
    if expected == [200, 406] && judged && !packed {
        check_choice(&answer, accept::choose(ranges, true), &told);
    }
}

fn check_choice(answer: &Answer, choice: Choice, told: &str) {
    let text = String::from_utf8_lossy(&answer.body);
    let media = answer.headers.get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match choice {
        Choice::Answer(offer, kind, version) => {
            assert_eq!((answer.status.as_u16(), media), (200, offer), "{told}: {text}");
            let api =
                version.map_or("metrics.k8s.io/v1".to_owned(), |version| format!("meta.k8s.io/{version}"));
            let found = match offer {
                "application/json" => {
                    let value: Value = serde_json::from_slice(&answer.body)
                        .unwrap_or_else(|error| panic!("{told}: {error}: {text}"));
                    value["kind"] == kind && value["apiVersion"] == *api
                }
                "application/yaml" => {
                    let line = |wanted: String| text.lines().any(|line| line == wanted);
                    line(format!("kind: {kind}")) && line(format!("apiVersion: {api}"))
                }
                _ => answer.body.starts_with(b"k8s\0") && text.contains(kind) && text.contains(&api),
            };
            assert!(found, "{told}: not a {kind} of {api}: {text}");
        }
        Choice::NoType => {
            assert!(answer.status == 406 && text.contains("Available representations"), "{told}: {text}");
        }
        Choice::NoConversion => {
            assert!(answer.status == 406 && text.contains("are accepted"), "{told}: {text}");
        }
    }
}
