//! Peers that prove nothing must not take what health probes and the front proxy need: the real binary with its own
//! limits, over real TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands, helpers included")]

mod common;

#[path = "starvation/http2.rs"]
mod http2;
#[path = "starvation/requests.rs"]
mod requests;
#[path = "starvation/silent.rs"]
mod silent;
