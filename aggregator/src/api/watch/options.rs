//! What a watch request asks for. Pure. The checks and their texts are those of kubernetes/apimachinery,
//! `pkg/apis/internalversion/validation/validation.go`.

use std::time::Duration;

use super::version::ResourceVersion;
use crate::api::{
    query::{self, Query},
    quoted::Quoted,
    status::{Cause, Failure},
};

/// Options of a watch beside its selectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchOptions {
    /// Where it begins.
    pub start: Start,
    /// `allowWatchBookmarks`
    pub bookmarks: bool,
    /// `timeoutSeconds`, where it is given and not zero.
    pub timeout: Option<Duration>,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With all there is, as ADDED.
    All {
        /// The end of it is marked by a bookmark (`sendInitialEvents=true`).
        marked: bool,
    },
    /// With the next change.
    Now,
    /// With what changed since.
    After(ResourceVersion),
}

impl WatchOptions {
    /// From a query with `watch=true`; `resource` for the texts of failures.
    pub fn parse(query: &Query, resource: &str) -> Result<Self, Failure> {
        let timeout =
            query.get("timeoutSeconds").filter(|text| !text.is_empty()).map(query::integer).transpose()?;
        let initial = query.get("sendInitialEvents").is_some().then(|| query.is_true("sendInitialEvents"));
        check(query.get("resourceVersionMatch").unwrap_or_default(), initial.is_some())?;
        let text = query.get("resourceVersion").unwrap_or_default();
        let version = match text {
            "" | "0" => None,
            text => {
                Some(ResourceVersion::parse(text).ok_or_else(|| Failure::invalid_version(resource, text))?)
            }
        };
        let start = match (initial, version) {
            // What is here is the newest state that this process has: not older than any version that it gave out.
            (Some(true), _) => Start::All { marked: true },
            (None, None) => Start::All { marked: false },
            (Some(false), None) => Start::Now,
            (_, Some(version)) => Start::After(version),
        };
        let timeout = timeout.filter(|seconds| *seconds != 0);
        let timeout = timeout.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or_default()));
        Ok(Self { start, bookmarks: query.is_true("allowWatchBookmarks"), timeout })
    }
}

fn check(matching: &str, initial: bool) -> Result<(), Failure> {
    const FIELD: &str = "resourceVersionMatch";
    const NEWEST: &str = "NotOlderThan";
    let mut causes = Vec::new();
    let mut forbid = |why: &str| {
        let message = format!("Forbidden: {why}");
        causes.push(Cause { reason: "FieldValueForbidden", message, field: FIELD });
    };
    if initial && matching != NEWEST {
        forbid("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !initial && !matching.is_empty() {
        forbid("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
    }
    if !matching.is_empty() && matching != NEWEST {
        let message = format!("Unsupported value: {}: supported values: {NEWEST:?}", Quoted(matching));
        causes.push(Cause { reason: "FieldValueNotSupported", message, field: FIELD });
    }
    if causes.is_empty() { Ok(()) } else { Err(Failure::invalid_options(causes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<WatchOptions, (u16, String)> {
        let options = WatchOptions::parse(&Query::parse(text), "pods");
        options.map_err(|failure| (failure.code.as_u16(), failure.message))
    }

    #[test]
    fn where_a_watch_begins() {
        let after = Start::After(ResourceVersion::parse("17").unwrap());
        let newest = "resourceVersionMatch=NotOlderThan";
        for (text, start) in [
            ("", Start::All { marked: false }),
            ("resourceVersion=0", Start::All { marked: false }),
            ("resourceVersion=17", after),
            (&format!("sendInitialEvents=true&{newest}"), Start::All { marked: true }),
            (&format!("sendInitialEvents=true&{newest}&resourceVersion=17"), Start::All { marked: true }),
            (&format!("sendInitialEvents=false&{newest}"), Start::Now),
            (&format!("sendInitialEvents=false&{newest}&resourceVersion=17"), after),
        ] {
            assert_eq!(parse(text).unwrap().start, start, "{text}");
        }
        let options = parse("timeoutSeconds=7&allowWatchBookmarks=true").unwrap();
        assert_eq!((options.timeout, options.bookmarks), (Some(Duration::from_secs(7)), true));
        let options = parse("timeoutSeconds=0&allowWatchBookmarks=false").unwrap();
        assert_eq!((options.timeout, options.bookmarks), (None, false));
        assert_eq!(parse("timeoutSeconds=-1").unwrap().timeout, Some(Duration::ZERO));
    }

    #[test]
    fn what_is_refused() {
        let invalid = |text: &str| (422, format!("ListOptions.meta.k8s.io \"\" is invalid: {text}"));
        let needs = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        let only = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        let exact = "resourceVersionMatch: Unsupported value: \"Exact\": supported values: \"NotOlderThan\"";
        for (text, refused) in [
            ("sendInitialEvents=true", invalid(needs)),
            ("sendInitialEvents=false", invalid(needs)),
            ("resourceVersionMatch=NotOlderThan", invalid(only)),
            ("resourceVersionMatch=Exact", invalid(&format!("[{only}, {exact}]"))),
            ("sendInitialEvents=true&resourceVersionMatch=Exact", invalid(&format!("[{needs}, {exact}]"))),
            ("timeoutSeconds=x", (400, "strconv.ParseInt: parsing \"x\": invalid syntax".to_owned())),
            (
                "resourceVersion=zzz",
                (422, {
                    "pods.metrics.k8s.io \"\" is invalid: resourceVersion: Invalid value: \"zzz\": strconv.ParseUint: \
                 parsing \"zzz\": invalid syntax".to_owned()
                }),
            ),
        ] {
            assert_eq!(parse(text), Err(refused), "{text}");
        }
    }
}
