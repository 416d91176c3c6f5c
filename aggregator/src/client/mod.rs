//! Clients of the API server. Owns how they are configured and how a watch is kept alive; what is asked for belongs to the
//! modules that ask.

mod follow;
pub(crate) mod review;

use std::{path::Path, time::Duration};

use kube::{
    Client, Config,
    config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError},
};

pub use follow::{Metrics, Patience, Source, follow};

/// Two clients with connections of their own: a review that decides about a request must never wait behind a list of
/// every Pod of the cluster.
#[derive(Clone)]
pub struct Clients {
    /// For lists and watches.
    pub watches: Client,
    /// For TokenReviews and SubjectAccessReviews.
    pub reviews: Client,
}

impl std::fmt::Debug for Clients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Clients").finish_non_exhaustive()
    }
}

/// There is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The kubeconfig cannot be used.
    #[error("cannot use kubeconfig {path}: {source}")]
    Kubeconfig {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: KubeconfigError,
    },
    /// Not in a pod.
    #[error("cannot read the in-cluster configuration: {0}; outside of a cluster, give --kubeconfig FILE")]
    InCluster(#[from] InClusterError),
    /// The configuration makes no client.
    #[error("cannot make a client for the API server: {0}")]
    Client(#[from] kube::Error),
}

/// Makes the clients from a kubeconfig file, or from a pod's service account. No connection is opened yet.
pub async fn connect(kubeconfig: Option<&Path>, patience: Patience) -> Result<Clients, ClientError> {
    // kube asks for the process's provider; a second installation is the same one again.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut config = match kubeconfig {
        None => Config::incluster()?,
        Some(path) => {
            let unusable = |source| ClientError::Kubeconfig { path: path.to_owned(), source };
            let file = Kubeconfig::read_from(path).map_err(unusable)?;
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(unusable)?
        }
    };
    // Retries are ours: reviews have a budget, watches a back-off.
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    let mut watches = config.clone();
    // kube speaks HTTP/1.1, so each list and each watch has a connection of its own: its silence is theirs.
    watches.read_timeout = Some(patience.read());
    watches.reset_reader_on_write = true;
    Ok(Clients { watches: Client::try_from(watches)?, reviews: Client::try_from(config)? })
}
