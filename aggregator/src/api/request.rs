//! What a request is about: its path as Kubernetes reads it. Pure.
//!
//! The path that is authorised is the path that is routed: decoded once, never normalised. The attributes are those of
//! kubernetes/apiserver, `pkg/endpoints/request/requestinfo.go`.

use http::Method;
use percent_encoding::percent_decode_str;

use super::{discovery::Version, query::Query, selector::FieldSelector, status::GROUP};
use crate::auth::Attributes;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/apis`
    Groups,
    /// `/apis/metrics.k8s.io`
    Group,
    /// `/apis/metrics.k8s.io/V`
    Resources(Version),
    /// `nodes`, or one of them.
    Nodes(Version, Option<String>),
    /// `pods` of all namespaces or of one.
    Pods(Version, Option<String>),
    /// One pod: namespace, name.
    Pod(Version, String, String),
    /// `/healthz`, `/livez`, `/readyz`, and their parts.
    Health(String),
    /// `/metrics`
    Metrics,
    /// `/version`
    ServerVersion,
    /// `/openapi/v2`
    OpenApiV2,
    /// `/openapi/v3`
    OpenApiV3,
    /// A document below `/openapi/v3/`, by the rest of its path.
    OpenApiGroup(String),
    /// `/`
    Root,
    /// Nothing, below `/apis/`.
    NoResource,
    /// Nothing, elsewhere.
    NoPath,
}

impl Route {
    /// Whether it answers this method. What is not there is not found by any.
    pub fn takes(&self, method: &Method) -> bool {
        match self {
            Self::NoResource | Self::NoPath => true,
            Self::Health(_)
            | Self::Metrics
            | Self::OpenApiV2
            | Self::OpenApiV3
            | Self::OpenApiGroup(_)
            | Self::Root => matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS),
            _ => method == Method::GET,
        }
    }
}

/// A path that is neither routed nor authorised: with empty or dot segments, an escaped slash, or a broken escape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the path is not canonical")]
pub struct NotCanonical;

/// Reads a path (as it came, escapes and all) and says where it leads and what authorization is to be asked.
pub fn parse(method: &Method, path: &str, query: &Query) -> Result<(Route, Attributes), NotCanonical> {
    let (segments, trailing) = segments(path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let decoded =
        format!("/{}{}", segments.join("/"), if trailing && !segments.is_empty() { "/" } else { "" });
    let attributes = match &*segments {
        ["apis", group, version, rest @ ..] if !rest.is_empty() => {
            resource_attributes(method, group, version, rest, query)
        }
        _ => None,
    };
    let attributes = attributes.unwrap_or_else(|| Attributes::NonResource {
        verb: method.as_str().to_ascii_lowercase(),
        path: decoded.clone(),
    });
    let route = route(&segments, trailing, &decoded);
    Ok((route, attributes))
}

fn route(segments: &[&str], trailing: bool, decoded: &str) -> Route {
    let owned = |text: &str| text.to_owned();
    match segments {
        [] => Route::Root,
        ["apis"] => Route::Groups,
        ["apis", GROUP] => Route::Group,
        ["apis", GROUP, version] => Version::from_name(version).map_or(Route::NoResource, Route::Resources),
        ["apis", GROUP, version, rest @ ..] if !trailing => {
            let Some(version) = Version::from_name(version) else { return Route::NoResource };
            match rest {
                ["nodes"] => Route::Nodes(version, None),
                ["nodes", name] => Route::Nodes(version, Some(owned(name))),
                ["pods"] => Route::Pods(version, None),
                ["namespaces", namespace, "pods"] => Route::Pods(version, Some(owned(namespace))),
                ["namespaces", namespace, "pods", name] => Route::Pod(version, owned(namespace), owned(name)),
                _ => Route::NoResource,
            }
        }
        ["apis", ..] => Route::NoResource,
        ["healthz" | "livez" | "readyz", ..] if !trailing => Route::Health(owned(decoded)),
        ["metrics"] if !trailing => Route::Metrics,
        ["version"] => Route::ServerVersion,
        ["openapi", "v2"] if !trailing => Route::OpenApiV2,
        ["openapi", "v3"] if !trailing => Route::OpenApiV3,
        ["openapi", "v3", group @ ..] if !trailing => Route::OpenApiGroup(group.join("/")),
        _ => Route::NoPath,
    }
}

/// The decoded segments, and whether a slash ended the path.
fn segments(path: &str) -> Result<(Vec<String>, bool), NotCanonical> {
    let rest = path.strip_prefix('/').ok_or(NotCanonical)?;
    if rest.is_empty() {
        return Ok((Vec::new(), true));
    }
    let (rest, trailing) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
    let segments = rest.split('/').map(segment).collect::<Result<_, _>>()?;
    Ok((segments, trailing))
}

fn segment(text: &str) -> Result<String, NotCanonical> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| NotCanonical)?;
    // A percent sign that survives decoding was a broken escape, or an escaped percent sign: no name holds one.
    let refused = matches!(&*decoded, "" | "." | "..") || decoded.contains(['/', '%', '\0']);
    if refused { Err(NotCanonical) } else { Ok(decoded.into_owned()) }
}

/// `None` where Kubernetes would treat the path as no resource request.
fn resource_attributes(
    method: &Method,
    group: &str,
    version: &str,
    rest: &[&str],
    query: &Query,
) -> Option<Attributes> {
    let (special, rest) = match rest {
        ["watch" | "proxy"] => return None,
        [verb @ ("watch" | "proxy"), rest @ ..] => (Some(*verb), rest),
        rest => (None, rest),
    };
    let (namespace, parts) = match rest {
        ["namespaces", namespace, parts @ ..]
            if !parts.is_empty() && !matches!(parts, ["status" | "finalize", ..]) =>
        {
            (*namespace, parts)
        }
        ["namespaces", namespace, ..] => (*namespace, rest),
        parts => ("", parts),
    };
    let mut parts = parts.iter().copied();
    let resource = parts.next()?;
    let mut name = parts.next().unwrap_or_default().to_owned();
    let subresource = parts.next().unwrap_or_default();
    let verb = match (special, method.as_str()) {
        (Some(verb), _) => verb,
        (None, "POST") => "create",
        (None, "PUT") => "update",
        (None, "PATCH") => "patch",
        (None, "DELETE") if name.is_empty() => "deletecollection",
        (None, "DELETE") => "delete",
        (None, "GET" | "HEAD") if !name.is_empty() => "get",
        (None, "GET" | "HEAD") if query.is_true("watch") => "watch",
        (None, "GET" | "HEAD") => "list",
        _ => "",
    };
    if name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection") {
        name = selected_name(query).unwrap_or_default();
    }
    Some(Attributes::Resource {
        verb: verb.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name,
    })
}

/// The name that the field selector allows alone, where it could be a path segment.
fn selected_name(query: &Query) -> Option<String> {
    let selector = FieldSelector::parse(query.get("fieldSelector")?).ok()?;
    selector.exact_name().filter(|name| segment(name).is_ok_and(|same| same == **name)).map(ToOwned::to_owned)
}
