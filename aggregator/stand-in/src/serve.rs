//! The listener: TLS, then per request who calls, whether he may, and who answers.

use std::{sync::Arc, time::Duration};

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::{
    Error, Shared,
    answer::{self, Body, Broken},
    caller::{self, Caller},
    discovery,
    fault::Fault,
    pki::{Authority, Identity},
    policy::{Object, Wish},
    proxy,
    request::RequestInfo,
    resources, reviews,
    store::Kind,
};

/// TLS that takes client certificates of the cluster CA and callers without one.
pub(crate) fn tls(authority: &Authority, serving: &Identity) -> Result<Arc<ServerConfig>, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(authority.der())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let (chain, key) = serving.to_rustls()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Accepts connections until it is dropped, and takes all of them with it then.
pub(crate) async fn run(listener: TcpListener, tls: Arc<ServerConfig>, shared: Arc<Shared>) {
    let acceptor = TlsAcceptor::from(tls);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(connection(stream, acceptor.clone(), Arc::clone(&shared)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, acceptor: TlsAcceptor, shared: Arc<Shared>) {
    // Small answers should not wait for the peer's acknowledgement; without it they are only slower.
    let _ = stream.set_nodelay(true);
    let stream = match acceptor.accept(stream).await {
        Ok(stream) => stream,
        Err(error) => return tracing::debug!(%error, "handshake failed"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
    let service = service_fn(move |request| {
        let (shared, certificate) = (Arc::clone(&shared), certificate.clone());
        async move { answer_or_break(&shared, certificate.as_ref(), request).await }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).max_headers(1024).max_buf_size(1 << 20);
    server.http2().timer(TokioTimer::new()).max_header_list_size(1 << 20);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(error, "connection ended");
    }
}

/// An error breaks the connection (HTTP/1.1) or the stream (HTTP/2) without an answer.
async fn answer_or_break(
    shared: &Arc<Shared>,
    certificate: Option<&CertificateDer<'_>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Broken> {
    let info = RequestInfo::parse(request.method(), request.uri());
    let fault = shared.traffic.arrive(&info.verb, info.target());
    match fault {
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Slow(delay)) => {
            tokio::time::sleep(delay).await;
            Ok(answer(shared, certificate, request, &info, None).await)
        }
        Some(Fault::Status(code, retry_after)) => {
            let code = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let mut response = answer::status(code, "a fault of the stand-in");
            if let Some(after) = retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs()));
            }
            Ok(response)
        }
        Some(Fault::Gone) if info.verb != "watch" => {
            Ok(answer::status(StatusCode::GONE, "a fault of the stand-in: too old resource version"))
        }
        Some(Fault::Cut) if info.verb != "watch" => Err(Broken("cut by a fault".to_owned())),
        watched => Ok(answer(shared, certificate, request, &info, watched).await),
    }
}

async fn answer(
    shared: &Arc<Shared>,
    certificate: Option<&CertificateDer<'_>>,
    request: Request<Incoming>,
    info: &RequestInfo,
    fault: Option<Fault>,
) -> Response<Body> {
    let caller = caller::identify(certificate, request.headers(), &shared.tokens, &shared.store);
    let Some(caller) = caller else {
        return answer::status(StatusCode::UNAUTHORIZED, "Unauthorized");
    };
    let caller = match acting_as(caller, &request) {
        Ok(caller) => caller,
        Err(response) => return *response,
    };
    if shared.policy.allows(&caller, &info.wish()).is_none() {
        return forbidden(&caller, &info.wish());
    }
    if let Some((group, version)) = &info.group_version
        && let Some((service, available)) = proxy::route(shared, group, version)
    {
        return proxy::forward(shared, &service, available, &caller, request).await;
    }
    let kind = info.group_version.as_ref().and_then(|(group, _)| Kind::of_resource(group, &info.resource));
    if let Some(kind) = kind {
        if matches!(info.verb.as_str(), "update" | "patch") && !info.name.is_empty() {
            return match request.into_body().collect().await {
                Ok(body) => resources::change(&shared.store, kind, info, &body.to_bytes()),
                Err(error) => answer::status(StatusCode::BAD_REQUEST, &error.to_string()),
            };
        }
        return resources::answer(&shared.store, kind, info, request.headers(), shared.bookmarks, fault);
    }
    if *request.method() == Method::POST {
        return review(shared, info, request).await;
    }
    match info.path.as_str() {
        "/healthz" | "/livez" | "/readyz" => answer::text(StatusCode::OK, "ok"),
        "/version" => answer::ok(&serde_json::json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.0-waggle-stand-in", "platform": "linux/amd64",
        })),
        path => discovery::answer(path, request.headers(), &shared.discovered.lock()).unwrap_or_else(|| {
            answer::status(StatusCode::NOT_FOUND, "the server could not find the requested resource")
        }),
    }
}

async fn review(shared: &Shared, info: &RequestInfo, request: Request<Incoming>) -> Response<Body> {
    let resource = info.resource.as_str();
    match request.into_body().collect().await.map(http_body_util::Collected::to_bytes) {
        Err(error) => answer::status(StatusCode::BAD_REQUEST, &error.to_string()),
        Ok(body) if resource == "tokenreviews" => reviews::token(&body, &shared.tokens, &shared.store),
        Ok(body) if resource == "subjectaccessreviews" => {
            reviews::access(&body, &shared.policy, &shared.access_reviews)
        }
        Ok(_) => answer::status(StatusCode::NOT_FOUND, "the server could not find the requested resource"),
    }
}

/// `kubectl --as`: only for those who may do everything.
fn acting_as(caller: Caller, request: &Request<Incoming>) -> Result<Caller, Box<Response<Body>>> {
    let values = |name: &str| -> Vec<String> {
        let values = request.headers().get_all(name).iter();
        values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect()
    };
    let Some(name) = values("impersonate-user").pop() else { return Ok(caller) };
    if !caller.is_master() {
        let object = Object::Resource { group: "", resource: "users", namespace: "", name: &name };
        return Err(Box::new(forbidden(&caller, &Wish { verb: "impersonate", object, selected: &[] })));
    }
    let groups = values("impersonate-group");
    Ok(Caller { name, groups, ..Caller::default() }.authenticated())
}

fn forbidden(caller: &Caller, wish: &Wish<'_>) -> Response<Body> {
    let (user, verb) = (&caller.name, wish.verb);
    let text = match wish.object {
        Object::Path(path) => format!("forbidden: User {user:?} cannot {verb} path {path:?}"),
        Object::Resource { group, resource, namespace, .. } => {
            let scope = if namespace.is_empty() {
                "at the cluster scope".to_owned()
            } else {
                format!("in the namespace {namespace:?}")
            };
            let dot = if group.is_empty() { "" } else { "." };
            format!(
                "{resource}{dot}{group} is forbidden: User {user:?} cannot {verb} resource {resource:?} in API group \
                 {group:?} {scope}"
            )
        }
    };
    answer::status(StatusCode::FORBIDDEN, &text)
}
