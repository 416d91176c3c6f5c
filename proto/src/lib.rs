//! What agent and aggregator have to agree on: the ingest protocol as Rust types (messages, client and server of
//! `waggle.ingest.v1`), and the grammar of durations on both command lines.
//!
//! `proto/waggle/ingest/v1/ingest.proto` documents the meaning, units and order of every field.

pub mod duration;

/// `waggle.ingest.v1`: what an agent reports to an aggregator about its node.
#[allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    reason = "generated from the .proto file, which has the documentation"
)]
pub mod ingest {
    tonic::include_proto!("waggle.ingest.v1");
}

/// The protocol version that this crate speaks ([`ingest::Hello::protocol`]).
pub const PROTOCOL_VERSION: u32 = 1;

/// Response header of `Report` that identifies the aggregator's process.
pub const INSTANCE_HEADER: &str = "waggle-instance";
