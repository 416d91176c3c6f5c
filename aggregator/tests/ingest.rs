//! The agent port over real TLS and real gRPC on loopback: the agent's own stream code at one end, at the other the
//! aggregator's; only the cgroups and the API server are made up.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it stands, helpers included")]

#[path = "ingest/world.rs"]
mod world;

#[path = "ingest/addresses.rs"]
mod addresses;
#[path = "ingest/admission.rs"]
mod admission;
#[path = "ingest/agent.rs"]
mod agent;
#[path = "ingest/client.rs"]
mod client;
#[path = "ingest/fleet.rs"]
mod fleet;
#[path = "ingest/log.rs"]
mod log;
#[path = "ingest/messages.rs"]
mod messages;
#[path = "ingest/plausibility.rs"]
mod plausibility;
#[path = "ingest/refusals.rs"]
mod refusals;
#[path = "ingest/replay.rs"]
mod replay;
#[path = "ingest/silence.rs"]
mod silence;
#[path = "ingest/streams.rs"]
mod streams;
#[path = "ingest/tokens.rs"]
mod tokens;
#[path = "ingest/unmeasured.rs"]
mod unmeasured;
