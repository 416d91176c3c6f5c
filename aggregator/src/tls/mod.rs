//! Certificates that both ports serve with: from files or of a CA of its own, replaced while connections are open. And how the
//! API port asks its peers for theirs. Judging a peer's certificate is never done here: the handshake proves possession of the
//! key, `auth` decides what that is worth.

pub mod ca;
mod files;
pub mod flags;
pub mod live;
pub mod load;
mod metrics;
mod verify;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use kube::Client;
use prometheus_client::registry::Registry;
use rustls::{ServerConfig, server::NoServerSessionStorage};
use tokio::task::JoinSet;

pub use flags::{FlagError, Flags, Origin};
pub use live::{Live, Serving};
pub use load::LoadError;
pub use metrics::Metrics;
pub use verify::RequestOnly;

use crate::client::{self, Patience};
use files::Reload;

/// The label `port` of metrics: the API port's, the agents' port's.
const PORTS: [&str; 2] = ["api", "ingest"];

/// The API port's TLS: 1.2 and 1.3, `h2` and `http/1.1`, a client certificate is asked for and every one is let through.
///
/// Sessions are never resumed: a session of an old connection would carry its certificate past a change of the CA, since
/// the verifier is not called for it. Both switches are needed, one for each version of TLS.
pub fn api_config(certificate: Live) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(live::provider());
    let verifier = Arc::new(RequestOnly::new(&provider));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(certificate));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The certificates of both ports, and what has to run so that they stay good.
pub struct Certificates {
    /// The API port's.
    pub api: Live,
    /// The agents' port's.
    pub ingest: Live,
    metrics: Metrics,
    ca_metrics: ca::Metrics,
    care: Care,
}

enum Care {
    Files { reloads: Vec<Reload>, interval: Duration },
    SelfManaged(Box<ca::SelfManaged>),
}

/// What health checks ask for. Clones see the same.
#[derive(Debug, Clone)]
pub struct Checks {
    api: Live,
    ingest: Live,
    managed: Option<ca::Status>,
}

impl Certificates {
    /// Reads the files, where there are files: an error there ends the start. A CA of its own is read when this runs.
    pub async fn prepare(origin: Origin, client: Client) -> Result<Self, LoadError> {
        let (metrics, ca_metrics) = (Metrics::default(), ca::Metrics::default());
        let [api_port, ingest_port] = PORTS;
        Ok(match origin {
            Origin::Files { api, ingest, interval } => {
                let (api_reload, api) = Reload::load(api_port, api, metrics.clone()).await?;
                let (ingest_reload, ingest) = Reload::load(ingest_port, ingest, metrics.clone()).await?;
                let care = Care::Files { reloads: vec![api_reload, ingest_reload], interval };
                Self { api, ingest, metrics, ca_metrics, care }
            }
            Origin::SelfManaged(settings) => {
                let live = Live::default();
                let managed =
                    ca::SelfManaged::new(client, settings, live.clone(), ca_metrics.clone(), metrics.clone());
                let care = Care::SelfManaged(Box::new(managed));
                Self { api: live.clone(), ingest: live, metrics, ca_metrics, care }
            }
        })
    }

    /// Adds all families to `registry` under their full names; those of the CA where it is our own.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
        if matches!(self.care, Care::SelfManaged(_)) {
            self.ca_metrics.register(registry);
        }
    }

    /// For health checks.
    pub fn checks(&self) -> Checks {
        let managed = match &self.care {
            Care::Files { .. } => None,
            Care::SelfManaged(managed) => Some(managed.status()),
        };
        Checks { api: self.api.clone(), ingest: self.ingest.clone(), managed }
    }

    /// Starts what keeps the certificates good, forever.
    pub fn run(self, tasks: &mut JoinSet<()>, patience: Patience, watches: client::Metrics) {
        match self.care {
            Care::Files { reloads, interval } => {
                for reload in reloads {
                    tasks.spawn(reload.run(interval));
                }
            }
            Care::SelfManaged(managed) => {
                tasks.spawn(managed.run(patience, watches));
            }
        }
    }
}

impl Checks {
    /// Whether both certificates are inside their validity, and of a CA that is published where it is our own.
    pub fn serving_certificate(&self, now: Timestamp) -> Result<(), String> {
        for (port, live) in [("API", &self.api), ("agents'", &self.ingest)] {
            if live.current().is_none() {
                return Err(format!("the {port} port has no certificate yet"));
            }
            if !live.is_valid(now) {
                return Err(format!("the certificate of the {port} port is outside its validity"));
            }
        }
        match &self.managed {
            Some(status) if !status.serving_matches() => {
                Err("the CA of the serving certificate is not in the published bundle".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether the agents' port can prove who it is.
    pub fn agent_certificate(&self) -> bool {
        self.ingest.current().is_some()
    }

    /// Whether both APIServices carry the current bundle.
    pub fn ca_bundle(&self) -> Result<(), String> {
        match &self.managed {
            None => Err(
                "certificates come from files: who writes them publishes their CA, it is not looked at here"
                    .to_owned(),
            ),
            Some(status) if status.is_published() => Ok(()),
            Some(_) => Err("an APIService does not carry the current bundle, as far as was seen".to_owned()),
        }
    }
}
