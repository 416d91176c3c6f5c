//! The command lines of a control plane as kubeadm would start it, without what one machine makes needless. Pure.

use std::net::SocketAddr;

use super::pki::{FRONT_PROXY, KUBELET_CLIENT, Pki};

/// What is around a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surroundings {
    /// Loopback alone: nodes and pods are objects that a test makes.
    Loopback,
    /// A network with real nodes on it: kubelets, a scheduler, and all controllers.
    Nodes,
}

/// The controllers that run on loopback. Not among them is the one for node lifecycle, which evicts pods of nodes that send no
/// heartbeats: nodes and their pods are objects without a kubelet here.
pub const CONTROLLERS: [&str; 9] = [
    "clusterrole-aggregation-controller",
    "deployment-controller",
    "garbage-collector-controller",
    "horizontal-pod-autoscaler-controller",
    "namespace-controller",
    "replicaset-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
];

/// Where the processes listen: on loopback, but for kube-apiserver if there are nodes.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// etcd's clients, without TLS.
    pub etcd: SocketAddr,
    /// etcd's peers; there are none.
    pub etcd_peers: SocketAddr,
    /// kube-apiserver.
    pub api_server: SocketAddr,
    /// kube-controller-manager's health and metrics.
    pub controllers: SocketAddr,
    /// The same of kube-scheduler, if there are nodes.
    pub scheduler: SocketAddr,
}

/// etcd in a folder of its own. Without fsync: what is lost with the machine is a test.
pub fn etcd(addresses: &Addresses, data: &str) -> Vec<String> {
    let (clients, peers) = (format!("http://{}", addresses.etcd), format!("http://{}", addresses.etcd_peers));
    [
        "--name=lab".to_owned(),
        format!("--data-dir={data}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=lab={peers}"),
    ]
    .into()
}

/// kube-apiserver with the aggregation flags of kubeadm.
pub fn api_server(addresses: &Addresses, pki: &Pki, surroundings: Surroundings) -> Vec<String> {
    let file = |name: &str| pki.file(name).display().to_string();
    let mut flags: Vec<String> = match surroundings {
        Surroundings::Loopback => [
            "--bind-address=127.0.0.1".to_owned(),
            // It would write this loopback address into an EndpointSlice, which refuses it.
            "--endpoint-reconciler-type=none".to_owned(),
        ]
        .into(),
        Surroundings::Nodes => [
            // Two addresses are its own: that of the machine, and the first one of the Services.
            "--bind-address=0.0.0.0".to_owned(),
            // There is no kube-proxy: pods behind a Service are called by their own addresses.
            "--enable-aggregator-routing=true".to_owned(),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--kubelet-certificate-authority={}", file("ca.crt")),
            format!("--kubelet-client-certificate={}", file(&format!("{KUBELET_CLIENT}.crt"))),
            format!("--kubelet-client-key={}", file(&format!("{KUBELET_CLIENT}.key"))),
        ]
        .into(),
    };
    flags.extend([
        format!("--etcd-servers=http://{}", addresses.etcd),
        format!("--advertise-address={}", addresses.api_server.ip()),
        format!("--secure-port={}", addresses.api_server.port()),
        format!("--tls-cert-file={}", file("apiserver.crt")),
        format!("--tls-private-key-file={}", file("apiserver.key")),
        format!("--client-ca-file={}", file("ca.crt")),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
        format!("--service-account-key-file={}", file("sa.pub")),
        format!("--service-account-signing-key-file={}", file("sa.key")),
        "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
        "--authorization-mode=Node,RBAC".to_owned(),
        "--enable-admission-plugins=NodeRestriction".to_owned(),
        "--allow-privileged=true".to_owned(),
        format!("--requestheader-client-ca-file={}", file("front-proxy-ca.crt")),
        format!("--requestheader-allowed-names={FRONT_PROXY}"),
        "--requestheader-username-headers=X-Remote-User".to_owned(),
        "--requestheader-group-headers=X-Remote-Group".to_owned(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
        format!("--proxy-client-cert-file={}", file("front-proxy-client.crt")),
        format!("--proxy-client-key-file={}", file("front-proxy-client.key")),
    ]);
    flags
}

/// kube-controller-manager, each controller with its own account: all of them if there are nodes.
pub fn controller_manager(
    addresses: &Addresses,
    pki: &Pki,
    kubeconfig: &str,
    surroundings: Surroundings,
) -> Vec<String> {
    let file = |name: &str| pki.file(name).display().to_string();
    let controllers = match surroundings {
        Surroundings::Loopback => CONTROLLERS.join(","),
        Surroundings::Nodes => "*".to_owned(),
    };
    [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        format!("--controllers={controllers}"),
        "--use-service-account-credentials".to_owned(),
        format!("--service-account-private-key-file={}", file("sa.key")),
        format!("--root-ca-file={}", file("ca.crt")),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", addresses.controllers.port()),
    ]
    .into()
}

/// kube-scheduler.
pub fn scheduler(addresses: &Addresses, kubeconfig: &str) -> Vec<String> {
    [
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--leader-elect=false".to_owned(),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={}", addresses.scheduler.port()),
    ]
    .into()
}
