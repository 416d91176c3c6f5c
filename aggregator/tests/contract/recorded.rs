//! Waggle's answers beside metrics-server's to the same requests, recorded by `cargo xtask record` where nothing runs. Each
//! difference has a row in `docs/compatibility.md`, and each row that can be seen here is seen.

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde::Deserialize;
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::{
    common::{Answer, MASTER, Protocol},
    world::Cluster,
};

const RECORDED: &str = include_str!("metrics-server.jsonl");
const DOCUMENTATION: &str = include_str!("../../../docs/compatibility.md");
/// Headers of one answer or of its transport.
const PASSING: [&str; 4] = ["date", "audit-id", "content-length", "transfer-encoding"];
const SAFE: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

#[derive(Deserialize)]
struct Recorded {
    method: String,
    path: String,
    accept: Option<String>,
    status: u16,
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

/// What differs: `status`, `body`, or a header's name; metrics-server's text and ours.
struct Difference {
    what: String,
    theirs: String,
    ours: String,
}

impl Recorded {
    fn differences(&self, answer: &Answer) -> Vec<Difference> {
        let mut all = Vec::new();
        let mut compare = |what: &str, theirs: &str, ours: &str| {
            if theirs != ours {
                all.push(Difference { what: what.into(), theirs: theirs.into(), ours: ours.into() });
            }
        };
        compare("status", &self.status.to_string(), answer.status.as_str());
        let ours = answer.headers.keys().map(http::HeaderName::as_str);
        let names: BTreeSet<&str> = self.headers.keys().map(String::as_str).chain(ours).collect();
        for name in names.into_iter().filter(|name| !PASSING.contains(name)) {
            let theirs = self.headers.get(name).map_or("", String::as_str);
            let ours = answer.headers.get(name).map_or("", |value| value.to_str().unwrap());
            let recorded_as_there = theirs == "*" && !ours.is_empty();
            compare(name, theirs, if recorded_as_there { "*" } else { ours });
        }
        if let Some(body) = &self.body {
            compare("body", &canonical(body), &canonical(&answer.body));
        }
        all
    }

    fn accepts(&self, text: &str) -> bool {
        self.accept.as_deref() == Some(text)
    }

    fn begins(&self, paths: &[&str]) -> bool {
        paths.iter().any(|path| self.path.starts_with(path))
    }
}

/// JSON without regard to order and white space.
fn canonical(text: &str) -> String {
    serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
}

/// A row of the page by its topic, and what it explains.
type Row = (&'static str, fn(&Recorded, &Difference) -> bool);

const ROWS: [Row; 16] = [
    ("versions", |asked, difference| {
        let lists = ["/", "/apis", "/apis/", "/apis/metrics.k8s.io", "/index.html"].contains(&&*asked.path);
        let names_both = difference.theirs.contains("v1beta1")
            && [
                "metrics.k8s.io/v1\"",
                "\"version\":\"v1\"",
                "metrics.k8s.io/v1\n",
                "metrics.k8s.io/v1\u{12}",
            ]
            .iter()
            .any(|name| difference.ours.contains(name));
        difference.what == "body" && (lists || asked.status == 404) && names_both
    }),
    ("POST, PUT, PATCH and DELETE to health, OpenAPI, `/metrics` and `/`", |asked, _| {
        !SAFE.contains(&&*asked.method) && (asked.status == 200 || asked.begins(&["/healthz"]))
    }),
    ("an unknown group below `/apis/`", |asked, difference| {
        asked.path == "/apis/unknown.io" && difference.what != "status"
    }),
    ("`/statusz`, `/index.html`, `/debug/flags`", |asked, _| {
        asked.begins(&["/statusz", "/index.html", "/debug/flags"])
    }),
    ("`Accept: application/*`", |asked, _| {
        asked.accepts("application/*") && asked.status == 406 && !asked.begins(&["/version"])
    }),
    ("the object that is not there, as a list of metadata", |asked, _| {
        asked.accepts("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1")
            && asked.status == 404
    }),
    ("an empty list of metadata", |_, difference| {
        difference.what == "body" && difference.theirs.replace("null", "[]") == difference.ours
    }),
    ("`Vary: Accept` on `/apis`", |asked, difference| {
        asked.begins(&["/apis"]) && difference.what == "vary" && difference.ours == "Accept"
    }),
    ("`X-Content-Type-Options: nosniff`", |_, difference| {
        difference.what == "x-content-type-options" && difference.ours == "nosniff"
    }),
    ("`Accept` on `/version`", |asked, difference| {
        let is_error = asked.status == 406 || asked.accepts("application/yaml");
        let is_protobuf = asked.accepts("application/vnd.kubernetes.protobuf");
        asked.begins(&["/version"]) && (is_error || is_protobuf || difference.what == "content-type")
    }),
    ("`/version`", |asked, difference| asked.begins(&["/version"]) && difference.what == "body"),
    ("headers of `/metrics`", |asked, difference| {
        asked.path == "/metrics" && ["process-start-time-unix", "content-type"].contains(&&*difference.what)
    }),
    ("headers of OpenAPI", |asked, difference| {
        let headers = ["accept-ranges", "last-modified", "etag", "vary"];
        asked.begins(&["/openapi"]) && headers.contains(&&*difference.what)
    }),
    ("`Accept` on OpenAPI", |asked, difference| {
        asked.begins(&["/openapi"]) && asked.accept.is_some() && difference.ours.contains("406")
            || asked.begins(&["/openapi"]) && asked.status == 406
    }),
    ("OpenAPI 3", |asked, difference| asked.path == "/openapi/v3" && difference.what == "body"),
    ("empty strings in protobuf", |asked, difference| {
        difference.what == "body"
            && asked.accept.as_deref().is_some_and(|accept| accept.contains("protobuf"))
            && difference.ours.len() < difference.theirs.len()
    }),
];

#[test]
fn every_difference_from_metrics_server_is_documented() {
    let mut unseen: BTreeSet<&str> = ROWS.iter().map(|(topic, _)| *topic).collect();
    for topic in &unseen {
        assert!(DOCUMENTATION.contains(&format!("\n| {topic} | ")), "the page has no row \"{topic}\"");
    }
    let mut unexplained = Vec::new();
    let mut asked = 0;
    Runtime::new().unwrap().block_on(async {
        let cluster = Cluster::start(&[]).await;
        let caller = cluster.proxied(Protocol::Http1);
        for line in RECORDED.lines() {
            let recorded: Recorded = serde_json::from_str(line).unwrap();
            let mut headers = MASTER.to_vec();
            headers.extend(recorded.accept.as_deref().map(|accept| ("accept", accept)));
            let method: Method = recorded.method.parse().unwrap();
            let answer = caller.send(&method, &recorded.path, &headers).await;
            asked += 1;
            for difference in recorded.differences(&answer) {
                match ROWS.iter().find(|(_, explains)| explains(&recorded, &difference)) {
                    Some((topic, _)) => drop(unseen.remove(topic)),
                    None => unexplained.push(format!(
                        "{method} {} {:?}: {}\n    metrics-server: {}\n    Waggle:         {}",
                        recorded.path, recorded.accept, difference.what, difference.theirs, difference.ours
                    )),
                }
            }
        }
    });
    assert!(asked > 800, "only {asked} answers are recorded");
    assert!(unexplained.is_empty(), "{} differences:\n{}", unexplained.len(), unexplained.join("\n"));
    assert!(unseen.is_empty(), "rows without a difference: {unseen:?}");
}
