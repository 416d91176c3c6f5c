//! Certificates that change while they are used: the real binary, real TLS, the stand-in as API server. Under a load of 200
//! requests per second, through connections that stay open and through fresh ones that trust what is published, no request may
//! fail.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "rotation/load.rs"]
mod load;

#[path = "rotation/files.rs"]
mod files;
#[path = "rotation/own_ca.rs"]
mod own_ca;
#[path = "rotation/peers.rs"]
mod peers;
