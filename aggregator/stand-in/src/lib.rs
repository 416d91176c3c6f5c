//! A stand-in for kube-apiserver, for tests and the demo. It is never shipped, and it is not Kubernetes: it keeps five
//! kinds of objects in memory and does just what Waggle and `kubectl top` ask of a control plane, over real TLS with real
//! certificates: authentication, authorization by rules, list and watch with resource versions and compaction,
//! TokenReview, SubjectAccessReview, discovery, and front-proxying to the servers behind APIServices. What it knows to
//! do beyond a real one is to fail on demand.
#![forbid(unsafe_code)]

mod answer;
mod availability;
mod backend;
mod caller;
mod discovery;
mod error;
mod fault;
mod kubeconfig;
mod pki;
mod policy;
mod proxy;
mod random;
mod request;
mod resources;
mod reviews;
mod selector;
mod serve;
mod store;
mod table;
mod token;
mod watch;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::ServerConfig;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Notify, task::JoinHandle};

pub use error::Error;
pub use fault::{Fault, Target};
pub use pki::{Authority, Identity};
pub use policy::Rule;
pub use store::Kind;
pub use token::{API_AUDIENCE, TokenSpec};

/// The user that Waggle's aggregator is: its service account's name.
pub const AGGREGATOR_USER: &str = "system:serviceaccount:waggle-system:waggle-aggregator";

/// The common name of the front proxy's client certificate.
const FRONT_PROXY_NAME: &str = "front-proxy-client";

struct Shared {
    store: Arc<store::Store>,
    tokens: token::Tokens,
    policy: policy::Policy,
    traffic: fault::Traffic,
    backends: backend::Backends,
    access_reviews: Mutex<Vec<Value>>,
    discovered: Mutex<Vec<discovery::Version>>,
    recheck: Notify,
    bookmarks: Duration,
}

/// How a stand-in shall be.
#[derive(Debug, Clone)]
pub struct Builder {
    address: SocketAddr,
    history: usize,
    bookmarks: Duration,
    availability: Duration,
}

impl Builder {
    /// Listens there; the default is 127.0.0.1 with any free port.
    #[must_use]
    pub fn address(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// How many steps of history are kept for watches (default 10,000); older versions are 410 Gone.
    #[must_use]
    pub fn history(mut self, steps: usize) -> Self {
        self.history = steps;
        self
    }

    /// The pause between bookmarks of a quiet watch (default 10 s).
    #[must_use]
    pub fn bookmark_interval(mut self, interval: Duration) -> Self {
        self.bookmarks = interval;
        self
    }

    /// The pause between two checks of the servers behind APIServices (default 2 s).
    #[must_use]
    pub fn availability_interval(mut self, interval: Duration) -> Self {
        self.availability = interval;
        self
    }

    /// Makes the certificates and begins to serve.
    pub async fn start(self) -> Result<StandIn, Error> {
        let cluster_ca = Authority::new("kubernetes")?;
        let front_proxy_ca = Authority::new("front-proxy-ca")?;
        let serving = cluster_ca.serving(&["127.0.0.1", "localhost", "kubernetes.default.svc"])?;
        let front_proxy = front_proxy_ca.client::<&str>(FRONT_PROXY_NAME, &[])?;
        let tls = serve::tls(&cluster_ca, &serving)?;
        let shared = Arc::new(Shared {
            store: Arc::new(store::Store::new(self.history)),
            tokens: token::Tokens::default(),
            policy: policy::Policy::bootstrap(AGGREGATOR_USER),
            traffic: fault::Traffic::default(),
            backends: backend::Backends::new(front_proxy.clone()),
            access_reviews: Mutex::default(),
            discovered: Mutex::default(),
            recheck: Notify::new(),
            bookmarks: self.bookmarks,
        });
        let listener = bind(self.address).await?;
        let address =
            listener.local_addr().map_err(|source| Error::Bind { address: self.address, source })?;
        let server = tokio::spawn(serve::run(listener, Arc::clone(&tls), Arc::clone(&shared)));
        let availability = tokio::spawn(availability::run(Arc::clone(&shared), self.availability));
        let stand_in = StandIn {
            shared,
            address,
            tls,
            cluster_ca,
            front_proxy_ca,
            front_proxy,
            server: Mutex::new(server),
            availability,
        };
        stand_in.apply(stand_in.authentication_config())?;
        Ok(stand_in)
    }
}

/// A running stand-in; it ends when it is dropped.
pub struct StandIn {
    shared: Arc<Shared>,
    address: SocketAddr,
    tls: Arc<ServerConfig>,
    cluster_ca: Authority,
    front_proxy_ca: Authority,
    front_proxy: Identity,
    server: Mutex<JoinHandle<()>>,
    availability: JoinHandle<()>,
}

impl std::fmt::Debug for StandIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StandIn").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.lock().abort();
        self.availability.abort();
    }
}

/// Certificates, tokens, kubeconfigs.
impl StandIn {
    /// A stand-in with defaults.
    pub fn builder() -> Builder {
        Builder {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            history: 10_000,
            bookmarks: Duration::from_secs(10),
            availability: Duration::from_secs(2),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `https://127.0.0.1:<port>`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The CA of the cluster: of its own serving certificate and of client certificates.
    pub fn cluster_ca(&self) -> &Authority {
        &self.cluster_ca
    }

    /// The CA of the front proxy's client certificate.
    pub fn front_proxy_ca(&self) -> &Authority {
        &self.front_proxy_ca
    }

    /// The cluster CA's certificate as PEM.
    pub fn cluster_ca_pem(&self) -> &str {
        self.cluster_ca.pem()
    }

    /// The front proxy's client certificate.
    pub fn front_proxy_client(&self) -> &Identity {
        &self.front_proxy
    }

    /// A client certificate of the cluster CA (at most two groups).
    pub fn issue_client_certificate(&self, user: &str, groups: &[&str]) -> Result<Identity, Error> {
        self.cluster_ca.client(user, groups)
    }

    /// A serving certificate of the cluster CA, for DNS names and addresses.
    pub fn sign_serving_certificate(&self, names: &[&str]) -> Result<Identity, Error> {
        self.cluster_ca.serving(names)
    }

    /// A kubeconfig with a client certificate for any user of at most two groups.
    pub fn kubeconfig(&self, user: &str, groups: &[&str]) -> Result<String, Error> {
        let identity = self.issue_client_certificate(user, groups)?;
        Ok(kubeconfig::with_certificate(&self.url(), self.cluster_ca_pem(), &identity))
    }

    /// A kubeconfig of somebody who may do everything.
    pub fn admin_kubeconfig(&self) -> Result<String, Error> {
        self.kubeconfig("kubernetes-admin", &["system:masters"])
    }

    /// A kubeconfig of Waggle's aggregator, which has the permissions of its manifests.
    pub fn aggregator_kubeconfig(&self) -> Result<String, Error> {
        self.kubeconfig(AGGREGATOR_USER, &["system:serviceaccounts", "system:serviceaccounts:waggle-system"])
    }

    /// A kubeconfig with a bearer token.
    pub fn token_kubeconfig(&self, token: &str) -> String {
        kubeconfig::with_token(&self.url(), self.cluster_ca_pem(), token)
    }

    /// A service-account token.
    pub fn issue_token(&self, spec: &TokenSpec) -> Result<String, Error> {
        self.shared.tokens.issue(spec)
    }

    /// A token of any user with any groups, valid for the API server for a day.
    pub fn issue_user_token(&self, user: &str, groups: &[String]) -> Result<String, Error> {
        self.shared.tokens.issue_for(user, groups)
    }

    /// Makes a token unknown.
    pub fn revoke_token(&self, token: &str) {
        self.shared.tokens.revoke(token);
    }

    /// The ConfigMap `extension-apiserver-authentication` as kube-apiserver fills it in: for tests to change and apply.
    pub fn authentication_config(&self) -> Value {
        json!({
            "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"namespace": "kube-system", "name": "extension-apiserver-authentication"},
            "data": {
                "client-ca-file": self.cluster_ca.pem(),
                "requestheader-client-ca-file": self.front_proxy_ca.pem(),
                "requestheader-allowed-names": json!([FRONT_PROXY_NAME]).to_string(),
                "requestheader-username-headers": r#"["X-Remote-User"]"#,
                "requestheader-group-headers": r#"["X-Remote-Group"]"#,
                "requestheader-extra-headers-prefix": r#"["X-Remote-Extra-"]"#,
            },
        })
    }
}

/// Objects, permissions, backends.
impl StandIn {
    /// Stores a Pod, Node, ConfigMap, Secret or APIService (by its `kind`); fills in uid, creation time, namespace `default` and
    /// resource version. Returns the store's version. A status is kept as given: a Pod runs when the object says so.
    pub fn apply(&self, object: Value) -> Result<u64, Error> {
        self.shared.store.apply(object)
    }

    /// Deletes an object (namespace `""` for kinds without); whether there was one.
    pub fn delete(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        self.shared.store.delete(kind, namespace, name)
    }

    /// An object as it is stored.
    pub fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Value> {
        self.shared.store.get(kind, namespace, name).map(|object| (*object).clone())
    }

    /// Registers `version` of `group`, served by a Service, with the CA that its certificate is verified against.
    pub fn register(
        &self,
        group: &str,
        version: &str,
        (namespace, service): (&str, &str),
        ca_pem: &str,
    ) -> Result<u64, Error> {
        use base64::{Engine, engine::general_purpose::STANDARD};
        self.apply(json!({
            "kind": "APIService", "metadata": {"name": format!("{version}.{group}")},
            "spec": {
                "group": group, "version": version, "groupPriorityMinimum": 100, "versionPriority": 100,
                "service": {"namespace": namespace, "name": service, "port": 443},
                "caBundle": STANDARD.encode(ca_pem),
            },
        }))
    }

    /// What Waggle's manifests ship for its own CA: the Secret and the ConfigMap `waggle-system/waggle-ca`, both empty, and
    /// both APIServices without a CA bundle.
    pub fn ship_certificates(&self) -> Result<(), Error> {
        for kind in ["Secret", "ConfigMap"] {
            let metadata = json!({"namespace": "waggle-system", "name": "waggle-ca"});
            self.apply(json!({"kind": kind, "metadata": metadata}))?;
        }
        for version in ["v1", "v1beta1"] {
            self.register("metrics.k8s.io", version, ("waggle-system", "waggle-aggregator"), "")?;
        }
        Ok(())
    }

    /// Where a Service is served; `None` takes it away.
    pub fn backend(&self, namespace: &str, service: &str, address: impl Into<Option<SocketAddr>>) {
        self.shared.backends.set(namespace, service, address.into());
        self.shared.recheck.notify_one();
    }

    /// Whether the APIService of that name (`v1.metrics.k8s.io`) is Available at present.
    pub fn is_available(&self, name: &str) -> bool {
        let object = self.shared.store.get(Kind::ApiService, "", name);
        object.is_some_and(|object| table::available(&object).is_some_and(|(status, _)| status == "True"))
    }

    /// Grants a permission.
    pub fn allow(&self, rule: Rule) {
        self.shared.policy.add(rule);
    }

    /// Takes all permissions of a user or group away.
    pub fn forbid(&self, subject: &str) {
        self.shared.policy.remove(subject);
    }
}

/// Counters and faults.
impl StandIn {
    /// How many requests of this kind came so far: `"tokenreviews"`, `"watch pods"`, `"/readyz"`.
    pub fn requests<'a>(&self, target: impl Into<Target> + 'a) -> u64 {
        self.shared.traffic.count(&target.into())
    }

    /// The `spec` of every SubjectAccessReview that was answered since the last call.
    pub fn take_access_reviews(&self) -> Vec<Value> {
        std::mem::take(&mut *self.shared.access_reviews.lock())
    }

    /// The next `times` requests of this kind fail that way.
    pub fn fault(&self, target: impl Into<Target>, fault: Fault, times: usize) {
        self.shared.traffic.plan(target.into(), fault, times);
    }

    /// No more faults. Requests that hang already go on hanging.
    pub fn clear_faults(&self) {
        self.shared.traffic.clear();
    }

    /// Forgets the history: watches from any older resource version get 410 Gone.
    pub fn compact(&self) {
        self.shared.store.compact();
    }

    /// Ends the server with all its connections, as a crash does. Objects and certificates stay.
    pub async fn stop(&self) {
        let mut ended = {
            let mut server = self.server.lock();
            server.abort();
            std::mem::replace(&mut *server, tokio::spawn(async {}))
        };
        // The result says only that it was aborted, which was the purpose.
        let _ = (&mut ended).await;
    }

    /// Begins to serve again, at the same address.
    pub async fn resume(&self) -> Result<(), Error> {
        let listener = bind(self.address).await?;
        let server = tokio::spawn(serve::run(listener, Arc::clone(&self.tls), Arc::clone(&self.shared)));
        std::mem::replace(&mut *self.server.lock(), server).abort();
        Ok(())
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })
}
