//! Waggle's aggregator: ingest → ring → view → api, with the inventory at the side.
//!
//! One direction, no loops: agents' streams are admitted and decoded by `ingest`, kept for about a minute by `ring`,
//! joined with the inventory of Pods and Nodes into what is served by [`view`], and answered by `api`. Everything is in
//! memory; nothing is ever written to disk.
#![forbid(unsafe_code)]

pub mod api;
pub mod args;
pub mod auth;
pub mod client;
pub mod compatibility;
mod doorkeeper;
pub mod encoding;
pub mod health;
pub mod ingest;
pub mod inventory;
mod open_files;
pub mod ring;
pub mod run;
pub mod serve;
pub mod telemetry;
pub mod tls;
pub mod units;
pub mod view;
