//! Why there is no answer, and the form in which that is said.

use http::{HeaderValue, Response, StatusCode, header};

use super::{
    Body,
    documents::paths,
    negotiate::Representation,
    respond::{NOSNIFF, content_type, of_type, plain},
    status::Failure,
};

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
