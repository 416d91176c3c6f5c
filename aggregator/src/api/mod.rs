//! The HTTP surface of `metrics.k8s.io`.

pub mod discovery;
pub mod json;
pub mod negotiate;
pub mod quantity;
pub mod selector;
pub mod status;
