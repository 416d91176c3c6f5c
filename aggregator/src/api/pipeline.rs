//! The order in which a request is judged before it is answered: canonical path, who, place in flight, may they.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};

use super::{
    Api, Body, Gate, compress,
    metrics::Request as Labels,
    negotiate::Accept,
    query::Query,
    quoted::Quoted,
    refusal::Refusal,
    request::{self, Route},
    selector,
    status::Failure,
    watch,
};
use crate::{
    auth::{self, Attributes, Decision, Origin, PeerCertificates, Unauthenticated, User},
    serve::{LastResponse, Proven, ReadLimits},
};

const MASTERS: &str = "system:masters";
const AUDIT_ID: &str = "audit-id";

impl<G: Gate> Api<G> {
    /// Answers a request. Its body is never read; the peer's certificates are taken from its extensions.
    pub async fn answer<B>(&self, request: Request<B>) -> Response<Body> {
        let (began, arrived) = ((self.settings.now)().instant, tokio::time::Instant::now());
        let (mut head, _) = request.into_parts();
        let audit = audit_id(&head.headers);
        let peer = head.extensions.remove::<PeerCertificates>().unwrap_or_default();
        let query = Query::parse(head.uri.query().unwrap_or_default());
        let parsed = request::parse(&head.method, head.uri.path(), &query);
        let labels = |code: StatusCode| match &parsed {
            Ok((route, _)) => Labels {
                resource: resource_label(route),
                verb: verb_label(route, &head.method, &query),
                code: code.as_u16(),
            },
            Err(_) => Labels { resource: "none", verb: "other", code: code.as_u16() },
        };

        let mut proof = Proof::None;
        let answered = match (&parsed, query.timeout()) {
            (Err(_), _) => Err(Failure::no_resource().into()),
            (_, Err(failure)) => Err(failure.into()),
            (Ok((route, attributes)), Ok(asked)) => {
                // A client's wish shortens the time that it has, and can never lengthen it.
                let longest = self.settings.timeout;
                let until = arrived + asked.map_or(longest, |asked| asked.min(longest));
                let judged =
                    Judged { method: &head.method, uri: &head.uri, query: &query, route, attributes, until };
                tokio::time::timeout_at(until, self.judge(&judged, &peer, &mut head.headers, &mut proof))
                    .await
                    .unwrap_or_else(|_| Err(Failure::timeout().into()))
            }
        };
        let mut response = answered
            .unwrap_or_else(|refusal| refusal.into_response(Accept::new(&head.headers, &query).status()));

        if head.method == Method::HEAD {
            // A body would break the stream over HTTP/2.
            *response.body_mut() = Body::default();
        }
        response.extensions_mut().get_or_insert_with(|| ReadLimits {
            until: Some(arrived + self.settings.timeout),
            frame: self.settings.stall,
        });
        if proof == Proof::Given {
            response.extensions_mut().insert(Proven);
        }
        if proof == Proof::Missing {
            // Each guess costs a handshake (upstream: UnauthenticatedHTTP2DOSMitigation).
            response.extensions_mut().insert(LastResponse);
        }
        let headers = response.headers_mut();
        headers.insert(AUDIT_ID, audit);
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        self.metrics.requests.get_or_create(&labels(response.status())).inc();
        self.metrics.duration.observe((self.settings.now)().instant.duration_since(began).as_secs_f64());
        response
    }

    async fn judge(
        &self,
        request: &Judged<'_>,
        peer: &PeerCertificates,
        headers: &mut HeaderMap,
        proof: &mut Proof,
    ) -> Result<Response<Body>, Refusal> {
        *proof = Proof::Missing;
        let user = self.gate.authenticate(peer, headers).await.map_err(|error| match error {
            Unauthenticated::Unauthorized => Failure::unauthorized().into(),
            Unauthenticated::TooManyReviews => Refusal::TooMany,
        })?;
        // Users who are anonymous to kube-apiserver come over the connection of all others.
        let anonymous = user.name == auth::ANONYMOUS;
        *proof = match anonymous {
            true if peer.is_empty() => Proof::Missing,
            true => Proof::None,
            false => Proof::Given,
        };
        let origin = if self.gate.is_front_proxy(peer) {
            Origin::FrontProxy
        } else if anonymous {
            Origin::Anonymous
        } else {
            Origin::Direct
        };
        let impersonates = headers.keys().any(|name| name.as_str().starts_with("impersonate-"));
        let upgrades = headers.contains_key(header::UPGRADE) || request.method == Method::CONNECT;
        self.gate.strip(headers);
        if impersonates {
            return Err(Failure::impersonation().into());
        }
        if upgrades {
            return Err(Failure::bad_request("upgrading the connection is not supported").into());
        }
        let free = is_master(&user) || is_health(request.route);
        let place = if free {
            None
        } else {
            Some(self.places.of(origin).try_acquire_owned().map_err(|_| Refusal::TooMany)?)
        };
        let _counted = InFlight::new(&self.metrics.in_flight);
        if !free {
            self.authorize(origin, &user, request).await?;
        }
        if !request.route.takes(request.method) {
            return Err(Failure::method().into());
        }
        let accept = Accept::new(headers, request.query);
        let mut response = self.respond(request.route, headers, request.query, &accept)?;
        compress::apply(headers, &mut response);
        let limits = if response.body().is_stream() {
            // A watch is no request in flight any more, as in Kubernetes: it would keep its place for an hour.
            ReadLimits { until: None, frame: watch::PATIENCE }
        } else {
            response.body_mut().keep(place);
            ReadLimits { until: Some(request.until), frame: self.settings.stall }
        };
        response.extensions_mut().insert(limits);
        Ok(response)
    }

    async fn authorize(&self, origin: Origin, user: &User, request: &Judged<'_>) -> Result<(), Refusal> {
        let selectors = selector::narrowing(request.attributes, request.query);
        match self.gate.authorize(origin, user, request.attributes, &selectors).await {
            Decision::Allow => Ok(()),
            Decision::Deny { reason } => Err(Failure::forbidden(user, request.attributes, &reason).into()),
            Decision::Failed { cause } => Err(Refusal::Internal(format!(
                "Internal Server Error: {}: {cause}",
                // Over HTTP/2 the URI has scheme and authority too, which Go's RequestURI has not.
                Quoted(request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str))
            ))),
        }
    }
}

/// What a response says about its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    /// Nothing.
    None,
    /// It did not prove who it is.
    Missing,
    Given,
}

/// A request whose path could be read.
struct Judged<'a> {
    method: &'a Method,
    uri: &'a http::Uri,
    query: &'a Query,
    route: &'a Route,
    attributes: &'a Attributes,
    until: tokio::time::Instant,
}

/// Counts a request until it is answered or given up.
struct InFlight<'a>(&'a prometheus_client::metrics::gauge::Gauge);

impl<'a> InFlight<'a> {
    fn new(gauge: &'a prometheus_client::metrics::gauge::Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Checks that are answered to everybody, at once and whatever else is in flight.
fn is_health(route: &Route) -> bool {
    matches!(route, Route::Health(path) if matches!(&**path, "/healthz" | "/livez" | "/readyz"))
}

fn is_master(user: &User) -> bool {
    user.groups.iter().any(|group| group == MASTERS)
}

/// The request's own id, where it brought a usable one: kube-apiserver's audit log then names the same.
fn audit_id(headers: &HeaderMap) -> HeaderValue {
    let own = headers.get(AUDIT_ID).filter(|value| !value.is_empty() && value.len() <= 64).cloned();
    own.unwrap_or_else(|| {
        // A random UUID: version 4, variant 1.
        let random = fastrand::u128(..) & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62;
        let hex = format!("{random:032x}");
        let part = |range| hex.get(range).unwrap_or_default();
        let uuid = [part(0..8), part(8..12), part(12..16), part(16..20), part(20..32)].join("-");
        HeaderValue::try_from(uuid).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

fn resource_label(route: &Route) -> &'static str {
    match route {
        Route::Groups | Route::Group | Route::Resources(_) => "discovery",
        Route::Nodes(..) => "nodes",
        Route::Pods(..) | Route::Pod(..) => "pods",
        Route::Health(_) => "health",
        Route::Metrics => "metrics",
        Route::ServerVersion => "version",
        Route::OpenApiV2 | Route::OpenApiV3 | Route::OpenApiGroup(_) => "openapi",
        Route::Root | Route::NoResource | Route::NoPath => "none",
    }
}

fn verb_label(route: &Route, method: &Method, query: &Query) -> &'static str {
    match (method, route) {
        (&Method::GET, Route::Nodes(_, None) | Route::Pods(..)) if query.is_true("watch") => "watch",
        (&Method::GET, Route::Nodes(_, None) | Route::Pods(..)) => "list",
        (&Method::GET, _) => "get",
        _ => "other",
    }
}
