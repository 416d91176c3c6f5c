//! Answers that say the same to everybody and were made before: discovery, OpenAPI, the version, the list of paths, with
//! what caches are told about them.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::{
    Api, Body, Gate,
    discovery::Document,
    json,
    negotiate::{Accept, Groups, NotAcceptable},
    openapi,
    refusal::Refusal,
    respond::{JSON, content_type, of_type},
    status::Failure,
};
use crate::health;

/// What `/` lists besides the parts of health.
const PATHS: [&str; 9] = [
    "/apis",
    "/apis/metrics.k8s.io",
    "/apis/metrics.k8s.io/v1",
    "/apis/metrics.k8s.io/v1beta1",
    "/metrics",
    "/openapi/v2",
    "/openapi/v3",
    "/openapi/v3/",
    "/version",
];
/// How long a document that is asked for by its hash may be kept: a year.
const KEEP: i64 = 365 * 24 * 60 * 60;

impl<G: Gate> Api<G> {
    pub(super) fn groups(&self, headers: &HeaderMap, accept: &Accept<'_>) -> Result<Response<Body>, Refusal> {
        let representation = match accept.discovery().map_err(Failure::not_acceptable)? {
            Groups::Aggregated(representation) => representation,
            Groups::Legacy(representation) => {
                let document = self.documents.groups.get(representation);
                let mut response = of_type(content_type(representation), document);
                response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
                return Ok(response);
            }
        };
        let mut response = if headers.get(header::IF_NONE_MATCH) == Some(&self.documents.etag) {
            not_modified()
        } else {
            let kind = format!(
                "{};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                representation.media_type()
            );
            let kind = HeaderValue::try_from(kind).unwrap_or(content_type(representation));
            of_type(kind, self.documents.aggregated.get(representation))
        };
        response.headers_mut().insert(header::ETAG, self.documents.etag.clone());
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        Ok(response)
    }

    /// An OpenAPI document. It is never redirected to one of another hash, as Go's handler does: kube-apiserver refuses
    /// redirects of aggregated servers.
    pub(super) fn openapi(
        &self,
        document: &openapi::Document,
        headers: &HeaderMap,
        hash: Option<&str>,
        accept: &Accept<'_>,
    ) -> Result<Response<Body>, Refusal> {
        let types = document.types();
        let kind =
            accept.first_of(types).ok_or_else(|| Failure::not_acceptable(NotAcceptable::OpenApi(types)))?;
        let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let unchanged = match (text(header::IF_NONE_MATCH), text(header::IF_MODIFIED_SINCE)) {
            (Some(tags), _) => tags
                .split(',')
                .map(str::trim)
                .any(|tag| tag == "*" || document.etag == tag.trim_start_matches("W/")),
            (None, Some(since)) => self.openapi.unmodified_since(since),
            (None, None) => false,
        };
        let mut response = if unchanged {
            not_modified()
        } else {
            let (kind, bytes) = document.get(kind);
            of_type(kind, bytes)
        };
        let answered = response.headers_mut();
        answered.insert(header::ETAG, document.etag.clone());
        answered.insert(header::LAST_MODIFIED, self.openapi.modified.clone());
        answered.insert(header::VARY, HeaderValue::from_static("Accept"));
        if hash == Some(&*document.hash) {
            answered.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
            answered.insert(header::EXPIRES, openapi::date((self.settings.now)().real.seconds() + KEEP));
        }
        Ok(response)
    }
}

/// A document of discovery.
pub(super) fn document(accept: &Accept<'_>, document: &Document) -> Result<Response<Body>, Refusal> {
    let representation = accept.plain().map_err(Failure::not_acceptable)?;
    Ok(of_type(content_type(representation), document.get(representation)))
}

fn not_modified() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// What is there, as `/` lists it.
pub(super) fn paths() -> Response<Body> {
    let mut paths: Vec<String> = PATHS.iter().map(|path| (*path).to_owned()).chain(health::paths()).collect();
    paths.sort_unstable();
    let lines: Vec<_> = paths.iter().map(|path| format!("    \"{path}\"")).collect();
    of_type(JSON, format!("{{\n  \"paths\": [\n{}\n  ]\n}}", lines.join(",\n")))
}

/// `version.Info`; what this program does not have (a Go version, a git state) is empty.
pub(super) fn server_version() -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    let mut before = "{\n  \"";
    for (key, value) in [
        ("major", env!("CARGO_PKG_VERSION_MAJOR")),
        ("minor", env!("CARGO_PKG_VERSION_MINOR")),
        ("gitVersion", &version),
        ("gitCommit", ""),
        ("gitTreeState", ""),
        ("buildDate", ""),
        ("goVersion", ""),
        ("compiler", "rustc"),
        ("platform", &platform),
    ] {
        json::raw(&mut out, before);
        json::raw(&mut out, key);
        json::raw(&mut out, "\": ");
        json::string(&mut out, value);
        before = ",\n  \"";
    }
    json::raw(&mut out, "\n}");
    out.freeze()
}
