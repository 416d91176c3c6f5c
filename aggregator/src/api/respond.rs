//! Answers to requests that may be answered, and the form of refusals.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prometheus_client::encoding::text;

use super::{
    Api, Body, Gate,
    discovery::{Document, Version},
    encode::Encoder,
    json,
    negotiate::{self, Format, Groups, Shape},
    nodes::NodeMetrics,
    object::{Object, Objects},
    pods::PodMetrics,
    query::Query,
    request::Route,
    status::Failure,
    table::Include,
};
use crate::health;

const JSON: HeaderValue = content_type(Format::Json);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
/// What `/` lists.
const PATHS: [&str; 11] = [
    "/apis",
    "/apis/metrics.k8s.io",
    "/apis/metrics.k8s.io/v1",
    "/apis/metrics.k8s.io/v1beta1",
    "/healthz",
    "/livez",
    "/livez/ping",
    "/metrics",
    "/readyz",
    "/readyz/ping",
    "/version",
];

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// With a `Status`.
    Status(Failure),
    /// 429.
    TooMany,
    /// 500 in plain text.
    Internal(String),
    /// 404 that lists the paths there are.
    NoPath,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self::Status(failure)
    }
}

impl Refusal {
    /// The answer; a `Status` in that format.
    pub(super) fn into_response(self, format: Format) -> Response<Body> {
        match self {
            Self::Status(failure) => {
                let mut response = of_type(content_type(format), failure.encode(format));
                *response.status_mut() = failure.code;
                if failure.nosniff {
                    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
                }
                response
            }
            Self::TooMany => {
                let mut response = plain("Too many requests, please try again later.\n");
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
                response
            }
            Self::Internal(text) => {
                let mut response = plain(format!("{text}\n"));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }
            Self::NoPath => {
                let mut response = paths();
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }
}

impl<G: Gate> Api<G> {
    pub(super) fn respond(
        &self,
        route: &Route,
        headers: &HeaderMap,
        query: &Query,
    ) -> Result<Response<Body>, Refusal> {
        let now = (self.settings.now)().instant;
        match route {
            Route::Groups => self.groups(headers),
            Route::Group => document(headers, &self.documents.group),
            Route::Resources(version) => document(headers, self.documents.resources(*version)),
            Route::Nodes(version, None) => {
                let encoder = self.encoder(*version, headers, query, true)?;
                Ok(list(&encoder, NodeMetrics::list(&self.source, &query.list_options("nodes")?, now)))
            }
            Route::Pods(version, namespace) => {
                let encoder = self.encoder(*version, headers, query, true)?;
                let options = query.list_options("pods")?;
                Ok(list(&encoder, PodMetrics::list(&self.source, namespace.as_deref(), &options, now)))
            }
            Route::Nodes(version, Some(name)) => {
                let encoder = self.encoder(*version, headers, query, false)?;
                Ok(one(&encoder, NodeMetrics::get(&self.source, name, now)?))
            }
            Route::Pod(version, namespace, name) => {
                let encoder = self.encoder(*version, headers, query, false)?;
                Ok(one(&encoder, PodMetrics::get(&self.source, namespace, name, now)?))
            }
            Route::Health(path) => self.health(path, query),
            Route::Metrics => self.exposition(),
            Route::ServerVersion => Ok(of_type(JSON, server_version())),
            Route::Root => Ok(paths()),
            Route::NoResource => Err(Failure::no_resource().into()),
            Route::NoPath => Err(Refusal::NoPath),
        }
    }

    fn encoder(
        &self,
        version: Version,
        headers: &HeaderMap,
        query: &Query,
        list: bool,
    ) -> Result<Encoder, Failure> {
        let shape = negotiate::resource(headers, list).map_err(Failure::not_acceptable)?;
        let include = match shape {
            Shape::Table(_) => Include::parse(query.get("includeObject").unwrap_or_default())?,
            Shape::Object(..) => Include::default(),
        };
        let created = (self.settings.now)().real;
        Ok(Encoder { version, shape, include, created, swap: self.settings.swap })
    }

    fn groups(&self, headers: &HeaderMap) -> Result<Response<Body>, Refusal> {
        let negotiated = negotiate::discovery(headers).map_err(Failure::not_acceptable)?;
        let mut response = match negotiated {
            Groups::Legacy(format) => of_type(content_type(format), self.documents.groups.get(format)),
            Groups::Aggregated(kind) => {
                let etag = HeaderValue::try_from(&*self.documents.etag)
                    .map_err(|error| Refusal::Internal(format!("Internal Server Error: {error}")))?;
                let mut response = if headers.get(header::IF_NONE_MATCH) == Some(&etag) {
                    let mut response = Response::new(Body::default());
                    *response.status_mut() = StatusCode::NOT_MODIFIED;
                    response
                } else {
                    of_type(HeaderValue::try_from(kind).unwrap_or(JSON), self.documents.aggregated.clone())
                };
                response.headers_mut().insert(header::ETAG, etag);
                response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
                response
            }
        };
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        Ok(response)
    }

    fn health(&self, path: &str, query: &Query) -> Result<Response<Body>, Refusal> {
        let verbose = query.get("verbose").is_some();
        let report =
            health::report(&*self.probe, path, verbose, query.all("exclude")).ok_or(Refusal::NoPath)?;
        let mut response = plain(report.body);
        if !report.healthy {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        }
        Ok(response)
    }

    fn exposition(&self) -> Result<Response<Body>, Refusal> {
        let mut body = String::new();
        text::encode(&mut body, &self.registry.read()).map_err(|error| {
            Refusal::Internal(format!("Internal Server Error: cannot write metrics: {error}"))
        })?;
        let kind = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        Ok(of_type(kind, body))
    }
}

fn one<T: Object>(encoder: &Encoder, object: T) -> Response<Body> {
    of_type(content_type(encoder.shape.format()), encoder.one(object))
}

fn list(encoder: &Encoder, objects: impl Objects) -> Response<Body> {
    let mut response = Response::new(Body::frames(encoder.list(objects)));
    response.headers_mut().insert(header::CONTENT_TYPE, content_type(encoder.shape.format()));
    response
}

fn document(headers: &HeaderMap, document: &Document) -> Result<Response<Body>, Refusal> {
    let format = negotiate::plain(headers).map_err(Failure::not_acceptable)?;
    Ok(of_type(content_type(format), document.get(format)))
}

const fn content_type(format: Format) -> HeaderValue {
    HeaderValue::from_static(format.media_type())
}

fn of_type(kind: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn plain(body: impl Into<Bytes>) -> Response<Body> {
    let mut response = of_type(TEXT, body);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

fn paths() -> Response<Body> {
    let lines: Vec<_> = PATHS.iter().map(|path| format!("    \"{path}\"")).collect();
    of_type(JSON, format!("{{\n  \"paths\": [\n{}\n  ]\n}}", lines.join(",\n")))
}

/// `version.Info`; what this program does not have (a Go version, a git state) is empty.
fn server_version() -> Bytes {
    let mut out = bytes::BytesMut::with_capacity(256);
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
