//! The tables of the API port's authentication and authorization, each row over real TLS, HTTP/1.1 and HTTP/2, against the
//! real binary and the stand-in for kube-apiserver. What a caller was taken for is read from the review that he caused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands, helpers included")]

mod common;

#[path = "authentication/access.rs"]
mod access;
#[path = "authentication/callers.rs"]
mod callers;
#[path = "authentication/certificates.rs"]
mod certificates;
#[path = "authentication/configuration.rs"]
mod configuration;
#[path = "authentication/connections.rs"]
mod connections;
#[path = "authentication/tokens.rs"]
mod tokens;

use serde_json::Value;
use waggle_stand_in::StandIn;

/// The `spec` of the one review that was made since the last call.
fn reviewed(stand_in: &StandIn, case: &str) -> Value {
    let mut specs = stand_in.take_access_reviews();
    assert_eq!(specs.len(), 1, "{case}: {specs:?}");
    specs.remove(0)
}
