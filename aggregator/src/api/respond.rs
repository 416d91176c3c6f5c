//! Answers to requests that may be answered, and the form of refusals.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prometheus_client::encoding::text;

use super::{
    Api, Body, Gate,
    discovery::{Document, Version},
    encode::Encoder,
    exposition::Exposition,
    json,
    negotiate::{Accept, Groups, NotAcceptable, Representation, Shape},
    nodes::NodeMetrics,
    object::{Object, Objects},
    openapi,
    pods::PodMetrics,
    pretty,
    query::Query,
    request::Route,
    status::Failure,
    table::Include,
    yaml,
};
use crate::health;

const JSON: HeaderValue = content_type(Representation::Json);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");
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
    /// The answer; a `Status` in that representation.
    pub(super) fn into_response(self, representation: Representation) -> Response<Body> {
        match self {
            Self::Status(failure) => {
                // To a client that cannot be given what it asked for, nothing can be given as it asked.
                let representation = if failure.code == StatusCode::NOT_ACCEPTABLE {
                    Representation::PrettyJson
                } else {
                    representation
                };
                let mut response = of_type(content_type(representation), failure.encode(representation));
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
        accept: &Accept<'_>,
    ) -> Result<Response<Body>, Refusal> {
        if let Some(watches) = &self.settings.watch
            && let Some(answer) = self.versioned(watches, route, query, accept)?
        {
            return Ok(answer);
        }
        let now = (self.settings.now)().instant;
        match route {
            Route::Groups => self.groups(headers, accept),
            Route::Group => document(accept, &self.documents.group),
            Route::Resources(version) => document(accept, self.documents.resources(*version)),
            Route::Nodes(version, None) => {
                let (encoder, representation) = self.encoder(*version, accept, query, true)?;
                let nodes = NodeMetrics::list(&self.source, &query.list_options("nodes")?, now);
                self.count(nodes.clone());
                Ok(list(&encoder, representation, nodes))
            }
            Route::Pods(version, namespace) => {
                let (encoder, representation) = self.encoder(*version, accept, query, true)?;
                let options = query.list_options("pods")?;
                let pods = PodMetrics::list(&self.source, namespace.as_deref(), &options, now);
                self.count(pods.clone());
                Ok(list(&encoder, representation, pods))
            }
            Route::Nodes(version, Some(name)) => {
                let (encoder, representation) = self.encoder(*version, accept, query, false)?;
                let node = NodeMetrics::get(&self.source, name, now)?;
                self.count(vec![node.clone()].into_iter());
                Ok(one(&encoder, representation, node))
            }
            Route::Pod(version, namespace, name) => {
                let (encoder, representation) = self.encoder(*version, accept, query, false)?;
                let pod = PodMetrics::get(&self.source, namespace, name, now)?;
                self.count(vec![pod.clone()].into_iter());
                Ok(one(&encoder, representation, pod))
            }
            Route::Health(path) => self.health(path, query),
            Route::Metrics => self.exposition(Exposition::negotiate(headers)),
            Route::ServerVersion => Ok(of_type(JSON, server_version())),
            Route::OpenApiV2 => self.openapi(&self.openapi.v2, headers, None, accept),
            Route::OpenApiV3 => self.openapi(&self.openapi.index, headers, None, accept),
            Route::OpenApiGroup(path) => {
                let document = self.openapi.group(path).ok_or(Refusal::NoPath)?;
                self.openapi(document, headers, query.get("hash"), accept)
            }
            Route::Root => Ok(paths()),
            Route::NoResource => Err(Failure::no_resource().into()),
            Route::NoPath => Err(Refusal::NoPath),
        }
    }

    /// Counts how fresh what is answered is, where that is asked for.
    pub(super) fn count(&self, objects: impl Objects) {
        let Some(compatibility) = &self.settings.compatibility else { return };
        let now = (self.settings.now)().instant;
        objects.visit_all(|object| {
            compatibility.answered(now.saturating_duration_since(object.measured().seen));
        });
    }

    pub(super) fn encoder(
        &self,
        version: Version,
        accept: &Accept<'_>,
        query: &Query,
        list: bool,
    ) -> Result<(Encoder, Representation), Failure> {
        let (shape, representation) = accept.resource(list).map_err(Failure::not_acceptable)?;
        let include = match shape {
            Shape::Table(_) => Include::parse(query.get("includeObject").unwrap_or_default())?,
            Shape::Object(..) => Include::default(),
        };
        let created = (self.settings.now)().real;
        Ok((Encoder { version, shape, include, created, swap: self.settings.swap, at: None }, representation))
    }

    fn groups(&self, headers: &HeaderMap, accept: &Accept<'_>) -> Result<Response<Body>, Refusal> {
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
    fn openapi(
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

    fn exposition(&self, form: Exposition) -> Result<Response<Body>, Refusal> {
        let mut body = String::new();
        text::encode(&mut body, &self.registry.read()).map_err(|error| {
            Refusal::Internal(format!("Internal Server Error: cannot write metrics: {error}"))
        })?;
        Ok(of_type(form.content_type(), form.write(body)))
    }
}

pub(super) fn one<T: Object + Clone + Send + 'static>(
    encoder: &Encoder,
    representation: Representation,
    object: T,
) -> Response<Body> {
    let bytes = encoder.one(object);
    let body = match representation {
        Representation::Json | Representation::Protobuf => Body::full(bytes),
        Representation::PrettyJson => Body::full(pretty::whole(&bytes)),
        Representation::Yaml => Body::transformed(Box::new(std::iter::once(yaml::whole(&bytes)))),
    };
    with_type(content_type(representation), body)
}

pub(super) fn list(
    encoder: &Encoder,
    representation: Representation,
    objects: impl Objects,
) -> Response<Body> {
    let frames = encoder.list(objects);
    let body = match representation {
        Representation::Json | Representation::Protobuf => Body::frames(frames),
        Representation::PrettyJson => Body::frames(pretty::frames(frames)),
        Representation::Yaml => Body::transformed(yaml::frames(frames)),
    };
    with_type(content_type(representation), body)
}

fn document(accept: &Accept<'_>, document: &Document) -> Result<Response<Body>, Refusal> {
    let representation = accept.plain().map_err(Failure::not_acceptable)?;
    Ok(of_type(content_type(representation), document.get(representation)))
}

fn not_modified() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

const fn content_type(representation: Representation) -> HeaderValue {
    HeaderValue::from_static(representation.media_type())
}

pub(super) fn with_type(kind: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn of_type(kind: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    with_type(kind, Body::full(body))
}

fn plain(body: impl Into<Bytes>) -> Response<Body> {
    let mut response = of_type(TEXT, body);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}

fn paths() -> Response<Body> {
    let mut paths: Vec<String> = PATHS.iter().map(|path| (*path).to_owned()).chain(health::paths()).collect();
    paths.sort_unstable();
    let lines: Vec<_> = paths.iter().map(|path| format!("    \"{path}\"")).collect();
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
