//! A real cluster: two virtual machines as nodes with kubelet and containerd, one for each cgroup driver, joined to a real control
//! plane, and Waggle installed in it by `kubectl apply -k`. What is served is held against loads that the kernel enforces and against the kubelet's own counters.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod agent;
mod formulas;
mod kernel;
mod kubelet;
mod layout;
mod loads;
mod served;
mod top;
mod world;
