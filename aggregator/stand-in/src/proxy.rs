//! The front proxy: requests for an aggregated group go to the server behind its APIService, streamed both ways.

use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::{
    Shared,
    answer::{self, Body},
    backend::ApiService,
    caller::Caller,
    store::Kind,
    table,
};

/// Headers that concern one connection only.
const HOP_BY_HOP: [header::HeaderName; 5] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE, header::PROXY_AUTHORIZATION];

/// The APIService of a group and version, if there is one that points to a Service.
pub(crate) fn route(shared: &Shared, group: &str, version: &str) -> Option<(ApiService, bool)> {
    let object = shared.store.get(Kind::ApiService, "", &format!("{version}.{group}"))?;
    let available = table::available(&object).is_some_and(|(status, _)| status == "True");
    Some((ApiService::read(&object)?, available))
}

/// Forwards a request; every failure is an answer as kube-aggregator writes it (`handler_proxy.go`).
pub(crate) async fn forward(
    shared: &Shared,
    service: &ApiService,
    available: bool,
    caller: &Caller,
    request: Request<Incoming>,
) -> Response<Body> {
    if !available {
        return answer::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n");
    }
    let mut request = request.map(|body| body.map_err(Into::into).boxed_unsync());
    strip(request.headers_mut());
    *request.version_mut() = http::Version::default();
    match shared.backends.send(service, caller, request).await {
        Ok(response)
            if response.status().is_redirection() && response.headers().contains_key(header::LOCATION) =>
        {
            answer::status(
                StatusCode::BAD_GATEWAY,
                "the backend attempted to redirect this request, which is not permitted",
            )
        }
        Ok(mut response) => {
            strip(response.headers_mut());
            response.map(|body| body.map_err(Into::into).boxed_unsync())
        }
        Err(error) => {
            let text = format!("error trying to reach service: {}\n", chain(&*error));
            tracing::debug!(service = service.name, "{}", text.trim_end());
            answer::text(StatusCode::SERVICE_UNAVAILABLE, &text)
        }
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
