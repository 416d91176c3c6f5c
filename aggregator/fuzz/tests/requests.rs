//! Requests that a grammar makes, through the fuzz targets: what they compare with the models is said there.
#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use waggle_fuzz::TARGETS;

fn run(name: &str, input: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).unwrap();
    (target.run)(input);
}

fn segment() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "apis", "metrics.k8s.io", "v1", "v1beta1", "v2", "nodes", "pods", "namespaces", "shop", "web-0", "a", "watch",
            "proxy", "status", "healthz", "livez", "readyz", "ping", "metrics", "version", "openapi", "v3",
        ]).prop_map(ToOwned::to_owned),
        1 => prop::sample::select(vec!["", ".", "..", "%2e%2e", "%2F", "%25", "%00", "%zz", "%", "n%6fdes", "%C3%A9", "%ff"])
            .prop_map(ToOwned::to_owned),
    ]
}

fn parameter() -> impl Strategy<Value = String> {
    let keys = vec![
        "labelSelector",
        "fieldSelector",
        "limit",
        "continue",
        "resourceVersion",
        "resourceVersionMatch",
        "timeout",
        "timeoutSeconds",
        "watch",
        "sendInitialEvents",
        "pretty",
        "includeObject",
        "verbose",
        "exclude",
        "x",
        "%zz",
        "",
    ];
    let values = vec![
        "",
        "1",
        "-1",
        "x",
        "true",
        "false",
        "0",
        "app%3Dweb",
        "app+in+(web)",
        "metadata.name%3Da",
        "%zz",
        "%2",
        "a;b",
        "NotOlderThan",
        "Object",
        "None",
        "15s",
        "a=b",
        "log",
        "%C3%A9+%26",
    ];
    (prop::sample::select(keys), any::<bool>(), prop::sample::select(values))
        .prop_map(|(key, sign, value)| if sign { format!("{key}={value}") } else { key.to_owned() })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn paths_and_queries_are_read_as_the_models_read_them(
        method in prop::sample::select(vec!["GET", "GET", "GET", "POST", "DELETE", "HEAD", "PATCH"]),
        known in any::<bool>(),
        segments in prop::collection::vec(segment(), 0..7),
        slash in any::<bool>(),
        parameters in prop::collection::vec(parameter(), 0..4),
    ) {
        let prefix = if known { "/apis/metrics.k8s.io/v1" } else { "" };
        let path = segments.iter().fold(String::new(), |path, segment| path + "/" + segment);
        let slash = if slash || (path.is_empty() && prefix.is_empty()) { "/" } else { "" };
        let request = format!("{method} {prefix}{path}{slash}?{}", parameters.join("&"));
        run("path", request.as_bytes());
    }

    #[test]
    fn types_are_negotiated_as_the_model_negotiates(
        ranges in prop::collection::vec((0..7_u8, 0..7_u8, 0..6_u8), 0..5),
    ) {
        let mut input = vec![u8::try_from(ranges.len()).unwrap()];
        input.extend(ranges.iter().flat_map(|(kind, conversion, quality)| [*kind, *conversion, *quality]));
        input.extend_from_slice(b"x-remote-user: bob");
        run("headers", &input);
    }

    #[test]
    fn users_are_read_as_the_model_reads_them(
        lines in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "x-remote-user", "X-Remote-User", "x-other-user", "x-remote-group", "X-REMOTE-GROUP", "x-remote-uid",
                    "x-remote-extra-scopes", "x-remote-extra-a%2fb", "authorization", "x_remote_user",
                ]),
                prop::sample::select(vec!["", "bob", "dev,ops", "system:anonymous", "system:authenticated", "é", "\t x "]),
            ),
            0..8,
        ),
    ) {
        let lines: Vec<String> = lines.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        run("headers", format!("\0{}", lines.join("\n")).as_bytes());
    }

    #[test]
    fn keys_of_extra_attributes_come_back(key in any::<String>(), escaped in "(%[0-9a-fA-G]{0,2}|[a-zA-Z./]){0,8}") {
        run("extra-keys", key.as_bytes());
        run("extra-keys", escaped.as_bytes());
    }
}
