//! Behind a real kube-apiserver, asked with the real kubectl: registration, rights, what etcd holds, every way of kubectl
//! to ask, what happens while nobody serves. Nodes are simulated, so that what pods use is known exactly.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod kubectl;
mod namespace;
mod registration;
mod world;
