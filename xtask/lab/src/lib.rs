//! Virtual machines as nodes, and scenarios with known truth: what the demo, the end-to-end tests and the benches run
//! on. Never shipped.

pub mod control;
pub mod cpio;
pub mod layout;
