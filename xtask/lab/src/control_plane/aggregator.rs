//! The aggregator behind this control plane: as it ships, as its own service account, with the rights that `deploy/base`
//! gives it and no others.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result};

use super::{ControlPlane, START, pki::Pki, process::Process};
use crate::central::{self, NAMESPACE};

const ACCOUNT: &str = "waggle-aggregator";
/// The names that kube-apiserver and agents verify.
const API_NAME: &str = "waggle-aggregator.waggle-system.svc";
const INGEST_NAME: &str = "waggle-ingest.waggle-system.svc";
/// How long the aggregator's own token is good: longer than any control plane of the lab is meant to live.
const TOKEN_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// Where it listens: the same over restarts, because the API server's registration names the port.
#[derive(Debug)]
pub(super) struct Place {
    pub api: SocketAddr,
    pub ingest: SocketAddr,
}

impl Place {
    /// Chooses ports and makes the serving certificates.
    pub fn new(pki: &Pki) -> Result<Self> {
        pki.serving_certificate("aggregator", &[API_NAME])?;
        pki.serving_certificate("ingest", &[INGEST_NAME])?;
        Ok(Self { api: central::free_address()?, ingest: central::free_address()? })
    }
}

impl ControlPlane {
    /// Where the aggregator's API port is.
    pub fn aggregator_api(&self) -> SocketAddr {
        self.aggregator.api
    }

    /// Where agents report to. The name that they verify is `waggle-ingest.waggle-system.svc`.
    pub fn ingest(&self) -> SocketAddr {
        self.aggregator.ingest
    }

    /// The file with the authority that agents trust, PEM.
    pub fn ingest_ca(&self) -> PathBuf {
        self.pki.file("serving-ca.crt")
    }

    /// The aggregator's log file.
    pub fn aggregator_log(&self) -> PathBuf {
        self.folder.join(format!("{ACCOUNT}.log"))
    }

    /// Starts the aggregator with these flags beside those that say where things are, and waits until it listens on
    /// both ports. It is not registered as Available yet: see [`ControlPlane::wait_available`].
    pub async fn start_aggregator(&self, flags: &[&str]) -> Result<()> {
        self.kill_aggregator()?;
        let token = self.token((NAMESPACE, ACCOUNT), None, None, TOKEN_LIFETIME).await?;
        let kubeconfig = self.pki.token_user(self.addresses.api_server, ACCOUNT, &token)?;
        let file = |name: &str| self.pki.file(name).display().to_string();
        let places = [
            ("--kubeconfig", kubeconfig.display().to_string()),
            ("--api-bind", self.aggregator.api.to_string()),
            ("--ingest-bind", self.aggregator.ingest.to_string()),
            ("--api-cert-file", file("aggregator.crt")),
            ("--api-key-file", file("aggregator.key")),
            ("--ingest-cert-file", file("ingest.crt")),
            ("--ingest-key-file", file("ingest.key")),
        ];
        let mut all: Vec<String> =
            places.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        let program = &self.places.aggregator;
        let mut process = Process::start(ACCOUNT, program, &all, &self.folder, self.lifetime)?;
        for address in [self.aggregator.api, self.aggregator.ingest] {
            process.listens(address, START).await?;
        }
        *self.running.lock() = Some(process);
        Ok(())
    }

    /// Kills the aggregator as a crash would, with SIGKILL. Whether one ran.
    pub fn kill_aggregator(&self) -> Result<bool> {
        let Some(process) = self.running.lock().take() else { return Ok(false) };
        process.kill().context("cannot kill the aggregator")?;
        Ok(true)
    }
}
