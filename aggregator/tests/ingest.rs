//! The agent port over real TLS and real gRPC on loopback: the agent's own stream code at one end, at the other the
//! aggregator's; only the cgroups and the API server are made up.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands, helpers included")]

#[path = "ingest/world.rs"]
mod world;

#[path = "ingest/addresses.rs"]
mod addresses;
#[path = "ingest/admission.rs"]
mod admission;
#[path = "ingest/fleet.rs"]
mod fleet;
#[path = "ingest/refusals.rs"]
mod refusals;
#[path = "ingest/replay.rs"]
mod replay;
#[path = "ingest/silence.rs"]
mod silence;
#[path = "ingest/streams.rs"]
mod streams;
#[path = "ingest/unmeasured.rs"]
mod unmeasured;
