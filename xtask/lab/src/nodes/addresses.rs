//! Who has which address in the network of a cluster. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The control plane, which is also everybody's gateway.
pub const CONTROL_PLANE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The first address of the Services: by it pods call kube-apiserver. Without kube-proxy it must be a real one.
pub const KUBERNETES: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);
/// Where the cluster's DNS answers.
pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The network that control plane, nodes and pods share, and its bits.
pub const NETWORK: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 0), 16);
/// As many nodes fit.
pub const MOST_NODES: u8 = 100;

/// Where kube-apiserver listens.
pub fn api_server() -> Vec<SocketAddr> {
    [CONTROL_PLANE, KUBERNETES].map(|address| SocketAddr::new(IpAddr::V4(address), 443)).into()
}

/// A node.
pub fn node(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 10 + number)
}

/// The first and the last address of its pods.
pub fn pods(number: u8) -> (Ipv4Addr, Ipv4Addr) {
    let of = |last| Ipv4Addr::new(10, 77, 100 + number, last);
    (of(10), of(250))
}
