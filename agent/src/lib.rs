//! Waggle's node agent: collect → identify → report.
#![deny(unsafe_code)]

pub mod args;
pub mod check;
pub mod collect;
#[doc(hidden)]
pub mod fuzzing;
pub mod identify;
pub mod privilege;
pub mod report;
pub mod run;
mod sampling;
pub mod snapshot;
pub mod telemetry;
