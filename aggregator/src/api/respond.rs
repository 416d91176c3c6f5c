//! Answers to requests that may be answered.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use prometheus_client::encoding::text;

use super::{
    Api, Body, Gate,
    discovery::Version,
    documents::{document, paths, server_version},
    encode::Encoder,
    exposition::Exposition,
    negotiate::{Accept, Representation, Shape},
    nodes::NodeMetrics,
    object::{Object, Objects},
    pods::PodMetrics,
    pretty,
    query::Query,
    refusal::Refusal,
    request::Route,
    status::Failure,
    table::Include,
    yaml,
};
use crate::health;

pub(super) const JSON: HeaderValue = content_type(Representation::Json);
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

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

pub(super) const fn content_type(representation: Representation) -> HeaderValue {
    HeaderValue::from_static(representation.media_type())
}

pub(super) fn with_type(kind: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

pub(super) fn of_type(kind: HeaderValue, body: impl Into<Bytes>) -> Response<Body> {
    with_type(kind, Body::full(body))
}

pub(super) fn plain(body: impl Into<Bytes>) -> Response<Body> {
    let mut response = of_type(TEXT, body);
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    response
}
