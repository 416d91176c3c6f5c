//! The aggregator behind this control plane: as it ships, as its own service account, with the rights that `deploy/base`
//! gives it and no others.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::time::{Instant, sleep};

use super::{ControlPlane, START, process::Process};
use crate::{
    central::{self, NAMESPACE},
    port,
};

const ACCOUNT: &str = "waggle-aggregator";
/// The ConfigMap that agents mount in a real cluster, and the file here.
const CA_CONFIG_MAP: &str = "/api/v1/namespaces/waggle-system/configmaps/waggle-ca";
const CA_FILE: &str = "agents-ca.crt";
/// How long the aggregator's own token is good: longer than any control plane of the lab is meant to live.
const TOKEN_LIFETIME: Duration = Duration::from_hours(30 * 24);

/// Where it listens: the same over restarts, because the API server's registration names the port.
#[derive(Debug)]
pub(super) struct Place {
    pub api: SocketAddr,
    pub ingest: SocketAddr,
}

impl Place {
    /// Chooses ports.
    pub fn choose() -> Result<Self> {
        Ok(Self { api: port::free()?, ingest: port::free()? })
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

    /// The file with the authorities that agents trust, PEM: what the aggregator has published when it was started.
    pub fn ingest_ca(&self) -> PathBuf {
        self.pki.file(CA_FILE)
    }

    /// The aggregator's log file.
    pub fn aggregator_log(&self) -> PathBuf {
        self.folder.join(format!("{ACCOUNT}.log"))
    }

    /// Starts the aggregator with these flags beside those that say where things are, and waits until it listens on
    /// both ports and has published the CA that it keeps. It is not registered as Available yet: see [`ControlPlane::wait_available`].
    pub async fn start_aggregator(&self, flags: &[&str]) -> Result<()> {
        self.kill_aggregator()?;
        let token = self.token((NAMESPACE, ACCOUNT), None, None, TOKEN_LIFETIME).await?;
        let kubeconfig = self.pki.token_user(self.addresses.api_server, ACCOUNT, &token)?;
        let places = [
            ("--kubeconfig", kubeconfig.display().to_string()),
            ("--api-bind", self.aggregator.api.to_string()),
            ("--ingest-bind", self.aggregator.ingest.to_string()),
        ];
        let mut all: Vec<String> =
            places.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        all.extend(flags.iter().map(|&flag| flag.to_owned()));
        let program = &self.places.aggregator;
        let mut process = Process::start(ACCOUNT, program, &all, &self.folder, self.lifetime)?;
        for address in [self.aggregator.api, self.aggregator.ingest] {
            process.listens(address, START).await?;
        }
        self.pki.write(CA_FILE, &self.published_ca(&mut process).await?)?;
        *self.running.lock() = Some(process);
        Ok(())
    }

    /// The bundle that the aggregator publishes for agents.
    async fn published_ca(&self, process: &mut Process) -> Result<String> {
        let begun = Instant::now();
        loop {
            if let Some(bundle) = self.get(CA_CONFIG_MAP).await?["data"]["ca.crt"].as_str() {
                return Ok(bundle.to_owned());
            }
            process.check()?;
            if begun.elapsed() > START {
                bail!("no CA is published after {START:?}\n{}", central::tail(process.log()));
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills the aggregator as a crash would, with SIGKILL. Whether one ran.
    pub fn kill_aggregator(&self) -> Result<bool> {
        let Some(process) = self.running.lock().take() else { return Ok(false) };
        process.kill().context("cannot kill the aggregator")?;
        Ok(true)
    }
}
