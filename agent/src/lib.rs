//! Waggle's node agent: collect → identify → report.
#![deny(unsafe_code)]

pub mod collect;
pub mod identify;
pub mod privilege;
