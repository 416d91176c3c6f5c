//! Error answers: `Status` objects with the texts that clients know, and the few plain ones.

use bytes::{Bytes, BytesMut};
use http::StatusCode;

use super::{
    json,
    negotiate::{self, NotAcceptable, Representation},
    pretty,
    protobuf::{self, Fields, ListMeta, Message},
    quantity,
    quoted::Quoted,
    yaml,
};
use crate::auth::{Attributes, User};

/// The group that is served.
pub const GROUP: &str = "metrics.k8s.io";

/// A failure, as a `Status` of `v1` states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The HTTP status, also `code`.
    pub code: StatusCode,
    /// `reason`
    pub reason: &'static str,
    /// `message`
    pub message: String,
    /// `details`; `None` leaves the key out.
    pub details: Option<Box<Details>>,
    /// `X-Content-Type-Options: nosniff`, which authorization failures carry.
    pub nosniff: bool,
}

/// `details` of a [`Failure`]; empty parts are left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Details {
    /// Name of the object.
    pub name: String,
    /// API group.
    pub group: String,
    /// Kind, or resource: Kubernetes writes either.
    pub kind: String,
    /// What was wrong, field by field.
    pub causes: Vec<Cause>,
}

/// One wrong field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `reason`
    pub reason: &'static str,
    /// `message`
    pub message: String,
    /// `field`
    pub field: &'static str,
}

impl Details {
    /// Details that name an object of a kind.
    pub fn of(name: &str, group: &str, kind: &str) -> Self {
        Self { name: name.to_owned(), group: group.to_owned(), kind: kind.to_owned(), causes: Vec::new() }
    }
}

impl Failure {
    fn new(
        code: StatusCode,
        reason: &'static str,
        message: impl Into<String>,
        details: Option<Details>,
    ) -> Self {
        Self { code, reason, message: message.into(), details: details.map(Box::new), nosniff: false }
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message, None)
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized", None)
    }

    /// 403 with the text of Kubernetes for these attributes; `reason` is the reviewer's and may be empty.
    pub fn forbidden(user: &User, attributes: &Attributes, reason: &str) -> Self {
        let user = Quoted(&user.name);
        let (mut message, details) = match attributes {
            Attributes::NonResource { verb, path } => {
                (format!("forbidden: User {user} cannot {verb} path {}", Quoted(path)), Details::default())
            }
            Attributes::Resource { verb, group, namespace, resource, subresource, name, .. } => {
                let qualified =
                    if group.is_empty() { resource.clone() } else { format!("{resource}.{group}") };
                let named = if name.is_empty() { String::new() } else { format!(" {}", Quoted(name)) };
                let whole = if subresource.is_empty() {
                    resource.clone()
                } else {
                    format!("{resource}/{subresource}")
                };
                let scope = if namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace {}", Quoted(namespace))
                };
                let message = format!(
                    "{qualified}{named} is forbidden: User {user} cannot {verb} resource {} in API group \
                     {} {scope}",
                    Quoted(&whole),
                    Quoted(group)
                );
                (message, Details::of(name, group, resource))
            }
        };
        if !reason.is_empty() {
            message.push_str(": ");
            message.push_str(reason);
        }
        Self { nosniff: true, ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message, Some(details)) }
    }

    /// 403: impersonation belongs to kube-apiserver, which consumes its headers.
    pub fn impersonation() -> Self {
        let message =
            "forbidden: impersonation is not supported here, send the request through kube-apiserver";
        Self {
            nosniff: true,
            ..Self::new(StatusCode::FORBIDDEN, "Forbidden", message, Some(Details::default()))
        }
    }

    /// 404 of a path that nothing is served on.
    pub fn no_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self::new(StatusCode::NOT_FOUND, "NotFound", message, Some(Details::default()))
    }

    /// 404 of an object: `kind[.group] "name" not found`.
    pub fn not_found(group: &str, kind: &str, name: &str) -> Self {
        let dot = if group.is_empty() { "" } else { "." };
        let message = format!("{kind}{dot}{group} {} not found", Quoted(name));
        Self::new(StatusCode::NOT_FOUND, "NotFound", message, Some(Details::of(name, group, kind)))
    }

    /// 405 of a method.
    pub fn method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message, Some(Details::default()))
    }

    /// 405 of `watch=true`.
    pub fn watch(resource: &str) -> Self {
        let message = format!("watch is not supported on resources of kind \"{resource}.{GROUP}\"");
        let details = Details::of("", GROUP, resource);
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message, Some(details))
    }

    /// 410 of a version that a watch cannot resume from.
    pub fn expired(message: String) -> Self {
        Self::new(StatusCode::GONE, "Expired", message, None)
    }

    /// 422 of a version that is none.
    pub fn invalid_version(resource: &str, text: &str) -> Self {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let why = if is_number { "value out of range" } else { "invalid syntax" };
        let text = Quoted(text);
        let why = format!("Invalid value: {text}: strconv.ParseUint: parsing {text}: {why}");
        let message = format!("{resource}.{GROUP} \"\" is invalid: resourceVersion: {why}");
        let causes = vec![Cause { reason: "FieldValueInvalid", message: why, field: "resourceVersion" }];
        let details = Details { causes, ..Details::of("", GROUP, resource) };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message, Some(details))
    }

    /// 406 of a watch in a type that has no stream.
    pub fn no_stream() -> Self {
        let types = negotiate::STREAMS;
        let message = format!("only the following media types are accepted: {types}");
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message, None)
    }

    /// 406. The texts are those of the router and of the serializer in Kubernetes; the router's has empty details.
    pub fn not_acceptable(why: NotAcceptable) -> Self {
        let types = negotiate::SUPPORTED;
        let (message, details) = match why {
            NotAcceptable::Type => (none_of(types), Some(Details::default())),
            NotAcceptable::ListType => {
                (none_of(&format!("{types}, {}", negotiate::STREAMS)), Some(Details::default()))
            }
            NotAcceptable::OpenApi(types) => (none_of(&types.join(", ")), Some(Details::default())),
            NotAcceptable::Conversion => {
                (format!("only the following media types are accepted: {types}"), None)
            }
        };
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message, details)
    }

    /// 422 of list options that contradict each other.
    pub fn invalid_options(causes: Vec<Cause>) -> Self {
        let texts: Vec<_> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let texts = if let [one] = &*texts { one.clone() } else { format!("[{}]", texts.join(", ")) };
        let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {texts}");
        let details = Details { causes, ..Details::of("", "meta.k8s.io", "ListOptions") };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", message, Some(details))
    }

    /// 504: the request's time is over.
    pub fn timeout() -> Self {
        let message = "Timeout: request did not complete within the allotted timeout";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message, Some(Details::default()))
    }

    /// The `Status` as a document.
    pub fn encode(&self, representation: Representation) -> Bytes {
        let json = self.json().freeze();
        match representation {
            Representation::Json => json,
            Representation::PrettyJson => pretty::whole(&json),
            // A document in JSON is one in YAML too, should this ever fail.
            Representation::Yaml => yaml::whole(&json).unwrap_or(json),
            Representation::Protobuf => protobuf::document("v1", "Status", self),
        }
    }

    fn json(&self) -> BytesMut {
        let mut out = BytesMut::with_capacity(256);
        json::raw(
            &mut out,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"#,
        );
        json::string(&mut out, &self.message);
        json::raw(&mut out, ",\"reason\":");
        json::string(&mut out, self.reason);
        if let Some(details) = &self.details {
            json::raw(&mut out, ",\"details\":{");
            details.json(&mut out);
            json::raw(&mut out, "}");
        }
        json::raw(&mut out, ",\"code\":");
        quantity::integer(&mut out, self.code.as_u16().into());
        json::raw(&mut out, "}\n");
        out
    }
}

fn none_of(types: &str) -> String {
    format!("406: Not Acceptable\n\nAvailable representations: {types}")
}

impl Details {
    fn json(&self, out: &mut BytesMut) {
        let mut comma = "";
        for (key, value) in [("name", &self.name), ("group", &self.group), ("kind", &self.kind)] {
            if !value.is_empty() {
                json::raw(out, comma);
                json::string(out, key);
                json::raw(out, ":");
                json::string(out, value);
                comma = ",";
            }
        }
        if !self.causes.is_empty() {
            json::raw(out, comma);
            json::raw(out, "\"causes\":[");
            for (index, cause) in self.causes.iter().enumerate() {
                json::raw(out, if index == 0 { "{\"reason\":" } else { ",{\"reason\":" });
                json::string(out, cause.reason);
                json::raw(out, ",\"message\":");
                json::string(out, &cause.message);
                json::raw(out, ",\"field\":");
                json::string(out, cause.field);
                json::raw(out, "}");
            }
            json::raw(out, "]");
        }
    }
}

impl Message for Failure {
    fn fields(&self, to: &mut impl Fields) {
        to.message(1, &ListMeta);
        to.text(2, "Failure");
        to.text(3, &self.message);
        to.text(4, self.reason);
        if let Some(details) = &self.details {
            to.message(5, &**details);
        }
        to.number(6, self.code.as_u16().into());
    }
}

impl Message for Details {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, &self.name);
        to.text(2, &self.group);
        to.text(3, &self.kind);
        for cause in &self.causes {
            to.message(4, cause);
        }
    }
}

impl Message for Cause {
    fn fields(&self, to: &mut impl Fields) {
        to.text(1, self.reason);
        to.text(2, &self.message);
        to.text(3, self.field);
    }
}
