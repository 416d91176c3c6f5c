//! The servers behind APIServices: where they are, and HTTP clients that reach them as kube-aggregator does.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use parking_lot::Mutex;
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;

use crate::{
    answer::{Body, BoxError},
    caller::Caller,
    pki::Identity,
};

type HttpsClient = Client<HttpsConnector<HttpConnector>, Body>;

/// An APIService that points to a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiService {
    pub(crate) name: String,
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) priority: i64,
    pub(crate) namespace: String,
    pub(crate) service: String,
    ca_bundle: String,
}

impl ApiService {
    /// `None` for local APIServices.
    pub(crate) fn read(object: &Value) -> Option<Self> {
        let spec = &object["spec"];
        let text = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            name: text(&object["metadata"]["name"])?,
            group: text(&spec["group"])?,
            version: text(&spec["version"])?,
            priority: spec["versionPriority"].as_i64().unwrap_or_default(),
            namespace: text(&spec["service"]["namespace"])?,
            service: text(&spec["service"]["name"])?,
            ca_bundle: text(&spec["caBundle"]).unwrap_or_default(),
        })
    }
}

/// Addresses and clients.
#[derive(Debug)]
pub(crate) struct Backends {
    addresses: Mutex<HashMap<(String, String), SocketAddr>>,
    clients: Mutex<HashMap<(String, String), HttpsClient>>,
    front_proxy: Identity,
}

impl Backends {
    pub(crate) fn new(front_proxy: Identity) -> Self {
        Self { addresses: Mutex::default(), clients: Mutex::default(), front_proxy }
    }

    pub(crate) fn set(&self, namespace: &str, service: &str, address: Option<SocketAddr>) {
        let key = (namespace.to_owned(), service.to_owned());
        match address {
            Some(address) => self.addresses.lock().insert(key, address),
            None => self.addresses.lock().remove(&key),
        };
    }

    pub(crate) fn address(&self, service: &ApiService) -> Option<SocketAddr> {
        self.addresses.lock().get(&(service.namespace.clone(), service.service.clone())).copied()
    }

    /// Sends a request as this user, with the front proxy's certificate; its URI becomes the backend's.
    pub(crate) async fn send(
        &self,
        service: &ApiService,
        caller: &Caller,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, BoxError> {
        match self.prepare(service, caller, request) {
            Ok((client, request)) => client.request(request).await.map_err(BoxError::from),
            Err(error) => Err(error),
        }
    }

    fn prepare(
        &self,
        service: &ApiService,
        caller: &Caller,
        mut request: Request<Body>,
    ) -> Result<(HttpsClient, Request<Body>), BoxError> {
        let address = self
            .address(service)
            .ok_or_else(|| format!("service {}/{} has no endpoint", service.namespace, service.service))?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = format!("https://{address}{path}").parse()?;
        impersonate(request.headers_mut(), caller)?;
        Ok((self.client(service)?, request))
    }

    fn client(&self, service: &ApiService) -> Result<HttpsClient, BoxError> {
        let name = format!("{}.{}.svc", service.service, service.namespace);
        let mut clients = self.clients.lock();
        let key = (name.clone(), service.ca_bundle.clone());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let mut roots = RootCertStore::empty();
        let bundle = STANDARD.decode(&service.ca_bundle)?;
        for certificate in CertificateDer::pem_slice_iter(&bundle) {
            roots.add(certificate?)?;
        }
        let server_name = ServerName::try_from(name)?;
        let (chain, private_key) = self.front_proxy.to_rustls()?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private_key)?;
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .with_server_name_resolver(FixedServerNameResolver::new(server_name))
            .enable_all_versions()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .http2_max_header_list_size(1 << 20)
            .build(connector);
        clients.insert(key, client.clone());
        Ok(client)
    }
}

/// Sets the X-Remote-* headers in the place of whatever the client sent, and takes its credential away.
fn impersonate(headers: &mut HeaderMap, caller: &Caller) -> Result<(), BoxError> {
    let theirs: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("x-remote-") || name.as_str().starts_with("impersonate-"))
        .cloned()
        .collect();
    for name in theirs {
        headers.remove(name);
    }
    headers.remove(http::header::AUTHORIZATION);
    headers.remove(http::header::HOST);
    headers.insert("x-remote-user", value(&caller.name)?);
    if !caller.uid.is_empty() {
        headers.insert("x-remote-uid", value(&caller.uid)?);
    }
    for group in &caller.groups {
        headers.append("x-remote-group", value(group)?);
    }
    for (key, values) in &caller.extra {
        let name: HeaderName = format!("x-remote-extra-{}", escape(key)).parse()?;
        for text in values {
            headers.append(name.clone(), value(text)?);
        }
    }
    Ok(())
}

fn value(text: &str) -> Result<HeaderValue, BoxError> {
    Ok(HeaderValue::from_bytes(text.as_bytes())?)
}

/// Percent-escapes what a header name cannot hold, and the percent sign itself.
fn escape(key: &str) -> String {
    use std::fmt::Write;
    let mut escaped = String::new();
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}
