//! Answers as kube-apiserver writes them: JSON objects, Status errors, plain text.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use serde_json::{Value, json};

/// Any error of a body.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body or an answer that ends before its end: by a fault, or because the backend's did.
#[derive(Debug, thiserror::Error)]
#[error("broken off: {0}")]
pub(crate) struct Broken(pub(crate) String);

impl From<hyper::Error> for Broken {
    fn from(error: hyper::Error) -> Self {
        Self(error.to_string())
    }
}

/// The body of every answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, Broken>;

pub(crate) const JSON: &str = "application/json";

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(crate) fn with_type(code: StatusCode, kind: &'static str, bytes: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(bytes));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub(crate) fn json(code: StatusCode, value: &Value) -> Response<Body> {
    with_type(code, JSON, value.to_string())
}

pub(crate) fn ok(value: &Value) -> Response<Body> {
    json(StatusCode::OK, value)
}

pub(crate) fn text(code: StatusCode, text: &str) -> Response<Body> {
    with_type(code, "text/plain; charset=utf-8", text.to_owned())
}

/// A Status object.
pub(crate) fn status_object(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

/// An error answer with a Status body; the reason follows from the code.
pub(crate) fn status(code: StatusCode, message: &str) -> Response<Body> {
    let reason = match code.as_u16() {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        410 => "Expired",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    json(code, &status_object(code, reason, message))
}
