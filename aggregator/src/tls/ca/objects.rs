//! The Kubernetes objects of the self-managed CA: reading them and writing them, each write on condition of the version that
//! was read. None is ever created: the manifests ship them empty, and so no right to create anything is needed.

use std::{fmt, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::contents::{Contents, ContentsError};

/// Both versions of metrics.k8s.io.
pub const API_SERVICES: [&str; 2] = ["v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"];
/// The key of the ConfigMap that agents mount.
pub const BUNDLE_KEY: &str = "ca.crt";
/// For one call.
const PATIENCE: Duration = Duration::from_secs(10);

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// Its kind.
    pub kind: &'static str,
    /// Its namespace, with a slash behind it, and its name.
    pub path: String,
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.kind, self.path)
    }
}

/// What went wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// It does not exist.
    #[error("{0} does not exist; it is shipped with the manifests and never created here: apply them again")]
    Missing(Name),
    /// It is registered for somebody else: metrics-server, until it is replaced.
    #[error("{0} points to another Service: its caBundle is left alone until it points to {1}")]
    Foreign(Name, String),
    /// No permission.
    #[error("not allowed to {verb} {name}: {message}; the manifests have the rules that are needed")]
    Forbidden {
        /// `get`, `update` or `patch`.
        verb: &'static str,
        /// What.
        name: Name,
        /// What the API server says.
        message: String,
    },
    /// Somebody else wrote it since it was read: what was read is worth nothing now.
    #[error("{0} was changed by somebody else meanwhile")]
    Conflict(Name),
    /// Any other failure.
    #[error("cannot {verb} {name}: {cause}")]
    Failed {
        /// `get`, `update` or `patch`.
        verb: &'static str,
        /// What.
        name: Name,
        /// Why.
        cause: String,
    },
    /// The Secret is not in order.
    #[error(
        "cannot use {name}: {source}; it is left as it is: put it in order, or take all its data away to have a new CA made"
    )]
    Contents {
        /// The Secret.
        name: Name,
        /// Why.
        source: ContentsError,
    },
}

impl ObjectError {
    /// The label of metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "missing",
            Self::Foreign(..) => "foreign",
            Self::Forbidden { .. } => "forbidden",
            Self::Conflict(_) => "conflict",
            Self::Failed { .. } => "failed",
            Self::Contents { .. } => "secret-unusable",
        }
    }
}

/// A place of the bundle: what it holds, and the version of the object.
#[derive(Debug, Clone)]
pub struct Place {
    /// PEM; empty where nothing was published yet.
    pub bundle: String,
    version: Option<String>,
}

/// The Secret as it was read: a write gives it back.
#[derive(Debug, Clone)]
pub struct Stored {
    /// What it holds.
    pub contents: Contents,
    object: Secret,
}

/// The objects of one installation.
#[derive(Clone)]
pub struct Objects {
    secrets: Api<Secret>,
    config_maps: Api<ConfigMap>,
    api_services: Api<APIService>,
    namespace: String,
    secret: String,
    config_map: String,
    service: String,
}

impl Objects {
    /// With the names of the Secret, the ConfigMap, and the Service that APIServices point to.
    pub fn new(
        client: Client,
        namespace: String,
        secret: String,
        config_map: String,
        service: String,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &namespace),
            config_maps: Api::namespaced(client.clone(), &namespace),
            api_services: Api::all(client),
            namespace,
            secret,
            config_map,
            service,
        }
    }

    /// Where the Secret is, for a watch.
    pub fn secrets(&self) -> (Api<Secret>, String) {
        (self.secrets.clone(), format!("metadata.name={}", self.secret))
    }

    /// Where the ConfigMap is, for a watch.
    pub fn config_maps(&self) -> (Api<ConfigMap>, String) {
        (self.config_maps.clone(), format!("metadata.name={}", self.config_map))
    }

    /// Reads the Secret.
    pub async fn read_secret(&self) -> Result<Stored, ObjectError> {
        let name = || self.name("Secret", &self.secret);
        let object = call("get", name, self.secrets.get(&self.secret)).await?;
        let data = object.data.clone().unwrap_or_default();
        let contents =
            Contents::read(&data).map_err(|source| ObjectError::Contents { name: name(), source })?;
        Ok(Stored { contents, object })
    }

    /// Replaces the Secret's data, unless somebody else changed it since it was read.
    pub async fn write_secret(&self, stored: &Stored, contents: &Contents) -> Result<(), ObjectError> {
        let object = Secret { data: Some(contents.write()), ..stored.object.clone() };
        let parameters = PostParams::default();
        let write = self.secrets.replace(&self.secret, &parameters, &object);
        call("update", || self.name("Secret", &self.secret), write).await.map(|_| ())
    }

    /// Reads the ConfigMap.
    pub async fn read_config_map(&self) -> Result<Place, ObjectError> {
        let name = || self.name("ConfigMap", &self.config_map);
        let object = call("get", name, self.config_maps.get(&self.config_map)).await?;
        let bundle = object.data.and_then(|mut data| data.remove(BUNDLE_KEY)).unwrap_or_default();
        Ok(Place { bundle, version: object.metadata.resource_version })
    }

    /// Reads the `caBundle` of an APIService that points to our Service. Another one's is not ours to change: whoever serves
    /// there has another CA.
    pub async fn read_api_service(&self, name: &str) -> Result<Place, ObjectError> {
        let object = call("get", || cluster_wide(name), self.api_services.get(name)).await?;
        let spec = object.spec.unwrap_or_default();
        let points_here = spec.service.is_some_and(|service| {
            service.namespace.as_ref() == Some(&self.namespace)
                && service.name.as_ref() == Some(&self.service)
        });
        if !points_here {
            let ours = format!("{}/{}", self.namespace, self.service);
            return Err(ObjectError::Foreign(cluster_wide(name), ours));
        }
        let bundle = spec.ca_bundle.map(|bundle| bundle.0).unwrap_or_default();
        let bundle = String::from_utf8_lossy(&bundle).into_owned();
        Ok(Place { bundle, version: object.metadata.resource_version })
    }

    /// Publishes a bundle in the ConfigMap, unless it was changed since it was read.
    pub async fn publish_config_map(&self, place: &Place, bundle: &str) -> Result<(), ObjectError> {
        let patch = json!({"metadata": {"resourceVersion": place.version}, "data": {BUNDLE_KEY: bundle}});
        let (parameters, patch) = merge(&patch);
        let write = self.config_maps.patch(&self.config_map, &parameters, &patch);
        call("patch", || self.name("ConfigMap", &self.config_map), write).await.map(|_| ())
    }

    /// Publishes a bundle in an APIService, unless it was changed since it was read.
    pub async fn publish_api_service(
        &self,
        service: &str,
        place: &Place,
        bundle: &str,
    ) -> Result<(), ObjectError> {
        let bundle = STANDARD.encode(bundle);
        let patch = json!({"metadata": {"resourceVersion": place.version}, "spec": {"caBundle": bundle}});
        let (parameters, patch) = merge(&patch);
        let write = self.api_services.patch(service, &parameters, &patch);
        call("patch", || cluster_wide(service), write).await.map(|_| ())
    }

    fn name(&self, kind: &'static str, name: &str) -> Name {
        Name { kind, path: format!("{}/{name}", self.namespace) }
    }
}

fn cluster_wide(service: &str) -> Name {
    Name { kind: "APIService", path: service.to_owned() }
}

fn merge(patch: &Value) -> (PatchParams, Patch<&Value>) {
    (
        PatchParams { field_manager: Some("waggle-aggregator".to_owned()), ..PatchParams::default() },
        Patch::Merge(patch),
    )
}

async fn call<T>(
    verb: &'static str,
    name: impl Fn() -> Name,
    call: impl Future<Output = kube::Result<T>>,
) -> Result<T, ObjectError> {
    let failed = |cause: String| ObjectError::Failed { verb, name: name(), cause };
    match tokio::time::timeout(PATIENCE, call).await {
        Err(_) => Err(failed(format!("no answer in {PATIENCE:?}"))),
        Ok(Ok(object)) => Ok(object),
        Ok(Err(Error::Api(status))) => Err(match status.code {
            404 => ObjectError::Missing(name()),
            403 => ObjectError::Forbidden { verb, name: name(), message: status.message.clone() },
            409 => ObjectError::Conflict(name()),
            code => failed(format!("{} ({code})", status.message)),
        }),
        Ok(Err(error)) => Err(failed(error.to_string())),
    }
}
