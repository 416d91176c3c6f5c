//! A real cluster: a virtual machine as a node with kubelet and containerd, joined to a real control plane, and Waggle installed in it
//! by `kubectl apply -k`. What is served is held against loads that the kernel enforces and against the kubelet's own counters.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod agent;
mod kernel;
mod kubelet;
mod loads;
mod top;
mod world;
