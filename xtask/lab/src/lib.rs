//! Virtual machines as nodes, and scenarios with known truth: what the demo, the end-to-end tests and the benches run
//! on. Never shipped.

pub mod accuracy;
pub mod architecture;
pub mod bench;
pub mod central;
pub mod checks;
pub mod cluster;
pub mod control_plane;
pub mod cpio;
pub mod demo;
pub mod helm;
pub mod image;
pub mod ingest_bench;
pub mod layout;
pub mod layouts;
pub mod life_cycle;
pub mod matrix;
pub mod metrics;
pub mod metrics_server;
pub mod node;
pub mod nodes;
pub mod paths;
mod port;
pub mod recorded;
pub mod relay;
pub mod scenario;
pub mod shell;
pub mod simulate;
pub mod vm;

pub use waggle_node_init::{control, work};
