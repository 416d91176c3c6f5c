//! The collector that walks cgroups inside the kernel.
//!
//! [`btf`] and `offsets` find where the fields lie, `load` brings the program in, `sys` makes the calls that aya has
//! no way to make, [`BpfWalk`] takes the snapshots. Whatever the kernel refuses comes out as a named
//! [`Refusal`](super::Refusal), never as a panic.

pub mod btf;
mod diagnosis;
mod identities;
mod link;
mod load;
mod messages;
pub(crate) mod offsets;
#[allow(unsafe_code, reason = "the calls that no safe library offers, each with its argument")]
mod sys;
mod walk;

pub use walk::{BpfWalk, LEAST_SLOTS};
