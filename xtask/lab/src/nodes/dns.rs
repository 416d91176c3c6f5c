//! The cluster's DNS: `CoreDNS` beside the control plane, at the address that kubelets tell their pods.

use std::{fs, net::SocketAddr, time::Duration};

use anyhow::{Context, Result};

use super::{addresses, places::Places};
use crate::control_plane::{
    ControlPlane,
    process::{Lifetime, Process},
};

const START: Duration = Duration::from_secs(30);

/// Starts it.
pub async fn start(places: &Places, plane: &ControlPlane, lifetime: Lifetime) -> Result<Process> {
    // An administrator here; in a cluster it is a pod with an account of its own.
    let kubeconfig = plane.user("coredns", &["system:masters"])?;
    let file = plane.folder().join("Corefile");
    let text = format!(
        "cluster.local:53 {{\n  bind {}\n  errors\n  kubernetes cluster.local {{\n    kubeconfig {}\n  }}\n}}\n",
        addresses::DNS,
        kubeconfig.display()
    );
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let flags = ["-conf".to_owned(), file.display().to_string()];
    let mut process = Process::start("coredns", &places.coredns, &flags, plane.folder(), lifetime)?;
    process.listens(SocketAddr::new(addresses::DNS.into(), 53), START).await?;
    Ok(process)
}
