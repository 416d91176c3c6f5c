//! The live configuration: ConfigMap `kube-system/extension-apiserver-authentication` as immutable snapshots. A version
//! that cannot be read, or the ConfigMap's deletion, leaves the last good snapshot in place.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client, runtime::watcher::Event};

use super::{
    Metrics,
    bundle::{Bundle, BundleError},
};
use crate::client::{self, Patience, Source, follow};

/// What callers are judged by, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// 0 before the first load, then counting up.
    pub generation: u64,
    /// The CAs of client certificates; `None` where none is configured.
    pub client_ca: Option<Bundle>,
    /// The front proxy; `None` where none is configured, or where it is refused.
    pub request_header: Option<RequestHeader>,
    /// The front proxy is configured, but with any name allowed and a CA that signs clients too: every holder of a client
    /// certificate could claim to be anybody.
    pub shared_ca: bool,
}

/// What becomes of a front proxy that cannot be told from clients ([`Snapshot::shared_ca`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It is refused.
    #[default]
    Refused,
    /// It is trusted all the same: somebody said so explicitly.
    Trusted,
}

/// How the front proxy proves itself and which headers carry the user. Header names are lower case.
#[derive(Debug, Clone, Default)]
pub struct RequestHeader {
    /// Its CAs.
    pub ca: Bundle,
    /// Common names, exact; empty means any.
    pub allowed_names: Vec<String>,
    /// Headers of the user name, in order.
    pub username_headers: Vec<String>,
    /// Headers of the UID; normally none.
    pub uid_headers: Vec<String>,
    /// Headers of groups.
    pub group_headers: Vec<String>,
    /// Prefixes of headers of extra attributes.
    pub extra_prefixes: Vec<String>,
}

/// A version of the ConfigMap that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A CA bundle.
    #[error("cannot read {key}: {source}")]
    Bundle {
        /// The key of the ConfigMap.
        key: &'static str,
        /// Why.
        source: BundleError,
    },
    /// A list of names.
    #[error("cannot read {key}: {cause}; it must be a JSON array of strings")]
    List {
        /// The key of the ConfigMap.
        key: &'static str,
        /// Why.
        cause: String,
    },
}

impl Snapshot {
    /// Reads the data of the ConfigMap. Missing keys are empty lists, never defaults.
    pub fn parse(
        data: &BTreeMap<String, String>,
        generation: u64,
        overlap: Overlap,
    ) -> Result<Self, ConfigError> {
        let bundle = |key: &'static str| match data.get(key).map(|text| Bundle::parse(text)) {
            None => Ok(None),
            Some(Ok(bundle)) => Ok(Some(bundle).filter(|bundle| !bundle.is_empty())),
            Some(Err(source)) => Err(ConfigError::Bundle { key, source }),
        };
        let list = |key: &'static str| -> Result<Vec<String>, ConfigError> {
            match data.get(key).map(String::as_str) {
                None | Some("") => Ok(Vec::new()),
                Some(text) => serde_json::from_str::<Option<Vec<String>>>(text)
                    .map(Option::unwrap_or_default)
                    .map_err(|error| ConfigError::List { key, cause: error.to_string() }),
            }
        };
        let headers = |key: &'static str| {
            list(key).map(|names| names.iter().map(|name| name.to_ascii_lowercase()).collect::<Vec<_>>())
        };
        let client_ca = bundle("client-ca-file")?;
        let mut request_header = None;
        if let Some(ca) = bundle("requestheader-client-ca-file")? {
            request_header = Some(RequestHeader {
                ca,
                allowed_names: list("requestheader-allowed-names")?,
                username_headers: headers("requestheader-username-headers")?,
                uid_headers: headers("requestheader-uid-headers")?,
                group_headers: headers("requestheader-group-headers")?,
                extra_prefixes: headers("requestheader-extra-headers-prefix")?,
            });
        }
        let shared_ca = request_header
            .as_ref()
            .zip(client_ca.as_ref())
            .is_some_and(|(proxy, clients)| proxy.allowed_names.is_empty() && proxy.ca.shares_key(clients));
        if shared_ca && overlap == Overlap::Refused {
            request_header = None;
        }
        Ok(Self { generation, client_ca, request_header, shared_ca })
    }
}

/// The configuration in use. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct AuthConfig {
    current: Arc<ArcSwap<Snapshot>>,
    overlap: Overlap,
    metrics: Metrics,
}

impl AuthConfig {
    /// Nothing loaded yet: the front proxy and client certificates have no say.
    pub fn new(overlap: Overlap, metrics: Metrics) -> Self {
        Self { current: Arc::default(), overlap, metrics }
    }

    /// The snapshot in use.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Whether there ever was a snapshot: readiness depends on it.
    pub fn is_loaded(&self) -> bool {
        self.current.load().generation > 0
    }

    /// Takes a version of the ConfigMap's data over, if it can be read.
    pub fn update(&self, data: &BTreeMap<String, String>) {
        let generation = self.current.load().generation + 1;
        match Snapshot::parse(data, generation, self.overlap) {
            Ok(snapshot) => {
                let refused = snapshot.shared_ca && self.overlap == Overlap::Refused;
                if refused {
                    tracing::error!(
                        "refusing the front proxy: requestheader-allowed-names is empty and its CA shares a key with \
                         client-ca-file, so any client certificate could claim any user; configure \
                         --requestheader-allowed-names or separate CAs on kube-apiserver, or accept that with \
                         --requestheader-trust-overlapping-ca"
                    );
                } else if snapshot.shared_ca {
                    tracing::error!(
                        "any holder of a client certificate can claim any user: requestheader-allowed-names is empty, its \
                         CA shares a key with client-ca-file, and --requestheader-trust-overlapping-ca is set"
                    );
                }
                self.metrics.front_proxy_refused.set(i64::from(refused));
                self.metrics.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
                self.current.store(Arc::new(snapshot));
            }
            Err(error) => {
                self.metrics.config_errors.inc();
                tracing::error!(%error, "cannot use the authentication configuration, keeping the last good one");
            }
        }
    }

    /// Follows the ConfigMap forever. The field selector is what the Role `extension-apiserver-authentication-reader`
    /// grants: that one name.
    pub async fn run(self, client: Client, patience: Patience, watches: client::Metrics) {
        let source = Source::<ConfigMap> {
            api: Api::namespaced(client, "kube-system"),
            fields: "metadata.name=extension-apiserver-authentication".into(),
            resource: "configmaps",
        };
        let on_event = |event: Event<ConfigMap>| match event {
            Event::InitApply(object) | Event::Apply(object) => self.update(&object.data.unwrap_or_default()),
            Event::Delete(_) => {
                tracing::warn!("the authentication configuration was deleted, keeping the last good one");
            }
            Event::Init | Event::InitDone => {}
        };
        follow(source, patience, watches, on_event).await;
    }
}
