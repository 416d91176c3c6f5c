//! What is right, written the slow and obvious way: for comparison only.

pub mod accept;
pub mod field;
pub mod label;
pub mod percent;
