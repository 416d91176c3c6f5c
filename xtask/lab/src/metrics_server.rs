//! metrics-server beside the cluster, as a process in its network: with its own defaults, asked directly, and registered where
//! Waggle is where the autoscaler shall follow it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    central,
    control_plane::{
        ControlPlane,
        process::{Lifetime, Process},
    },
    nodes::addresses,
    paths,
};

const PORT: u16 = 4443;
const NAMESPACE: &str = "kube-system";
const NAME: &str = "metrics-server";

/// A running metrics-server.
pub struct MetricsServer {
    process: Process,
    /// Asks it directly.
    pub client: kube::Client,
}

/// The program, as `cargo xtask` says.
pub fn program() -> Result<PathBuf> {
    paths::place("WAGGLE_METRICS_SERVER")
}

impl MetricsServer {
    /// Starts it in the network of the nodes. It serves once it has asked the kubelets twice.
    pub async fn start(program: &Path, plane: &ControlPlane) -> Result<Self> {
        Self::start_at(program, plane, SocketAddr::new(addresses::CONTROL_PLANE.into(), PORT)).await
    }

    /// Starts it at an address.
    pub async fn start_at(program: &Path, plane: &ControlPlane, address: SocketAddr) -> Result<Self> {
        let pki = plane.pki();
        let name = format!("{NAME}.{NAMESPACE}.svc");
        let serving = pki.serving(&[&name, &address.ip().to_string()])?;
        let certificate = pki.write("metrics-server.crt", &serving.certificate_pem)?;
        let key = pki.write("metrics-server.key", &serving.key_pem)?;
        let kubeconfig = plane.kubeconfig().display().to_string();
        let flags = [
            format!("--kubeconfig={kubeconfig}"),
            format!("--authentication-kubeconfig={kubeconfig}"),
            format!("--authorization-kubeconfig={kubeconfig}"),
            format!("--bind-address={}", address.ip()),
            format!("--secure-port={}", address.port()),
            format!("--tls-cert-file={}", certificate.display()),
            format!("--tls-private-key-file={}", key.display()),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--kubelet-certificate-authority={}", pki.file("ca.crt").display()),
            // What its own manifest has.
            "--metric-resolution=15s".to_owned(),
        ];
        let process = Process::start(NAME, program, &flags, plane.folder(), Lifetime::Tied)?;
        let user = plane.user_at(address, "metrics-server-asker", &["system:masters"])?;
        let text =
            std::fs::read_to_string(&user).with_context(|| format!("cannot read {}", user.display()))?;
        Ok(Self { process, client: central::client(&text).await? })
    }

    /// An error with its last words, if it has ended.
    pub fn check(&mut self) -> Result<()> {
        self.process.check()
    }

    /// Waits until it listens.
    pub async fn listens(&mut self, address: SocketAddr, limit: Duration) -> Result<()> {
        self.process.listens(address, limit).await
    }

    /// Whether it serves this many nodes yet.
    pub async fn serves(&self, nodes: usize) -> bool {
        let request = http::Request::get("/apis/metrics.k8s.io/v1beta1/nodes").body(Vec::new());
        let Ok(request) = request else { return false };
        let answer = self.client.request::<Value>(request).await;
        answer.is_ok_and(|list| list["items"].as_array().is_some_and(|items| items.len() == nodes))
    }
}

/// Its Service, and where that leads.
pub fn service() -> [Value; 2] {
    [
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"namespace": NAMESPACE, "name": NAME},
            "spec": {"ports": [{"name": "https", "port": 443, "targetPort": PORT}]},
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"namespace": NAMESPACE, "name": NAME, "labels": {"kubernetes.io/service-name": NAME}},
            "endpoints": [{"addresses": [addresses::CONTROL_PLANE.to_string()], "conditions": {"ready": true}}],
            "ports": [{"name": "https", "port": PORT, "protocol": "TCP"}],
        }),
    ]
}

/// What makes it the cluster's `metrics.k8s.io/v1beta1`. Where Waggle has registered itself it must be off: it keeps its own.
pub fn registration(plane: &ControlPlane) -> Result<Value> {
    let ca = plane.pki().file("ca.crt");
    let ca = std::fs::read(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
    Ok(json!({
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io", "version": "v1beta1", "groupPriorityMinimum": 100, "versionPriority": 100,
            "insecureSkipTLSVerify": false,
            "service": {"namespace": NAMESPACE, "name": NAME, "port": 443}, "caBundle": STANDARD.encode(ca),
        },
    }))
}
