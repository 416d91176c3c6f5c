//! `metrics.k8s.io` as its clients see it, section by section of the contract: the real binary behind real TLS, over HTTP/1.1 and
//! HTTP/2, with an agent's own stream code as its source. Every row of a table is tried before the test fails, and all that
//! differ are told.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

#[path = "contract/world.rs"]
mod world;

#[path = "contract/discovery.rs"]
mod discovery;
#[path = "contract/errors.rs"]
mod errors;
#[path = "contract/health.rs"]
mod health;
#[path = "contract/identities.rs"]
mod identities;
#[path = "contract/limits.rs"]
mod limits;
#[path = "contract/negotiation.rs"]
mod negotiation;
#[path = "contract/objects.rs"]
mod objects;
#[path = "contract/protobuf.rs"]
mod protobuf;
#[path = "contract/recorded.rs"]
mod recorded;
#[path = "contract/requests.rs"]
mod requests;
#[path = "contract/situations.rs"]
mod situations;
#[path = "contract/tables.rs"]
mod tables;
