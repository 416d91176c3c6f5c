//! The ingest protocol of Waggle as Rust types: messages, client and server of `waggle.ingest.v1`.
//!
//! The meaning, units and order of every field stand in `proto/waggle/ingest/v1/ingest.proto`. No logic lives here.

/// `waggle.ingest.v1`: what an agent tells an aggregator about its node.
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
