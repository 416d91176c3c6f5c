//! Nodes without a machine: the agent's own stream code, fed by counters that are computed from workloads instead of
//! read from a kernel. What is used is therefore known exactly, can change while it runs, and a thousand nodes fit into
//! one process. Cgroups have the kubelet's paths and go through the agent's own `identify`; from the local ring on,
//! everything is what a real agent runs.
//!
//! ```text
//! load     what a container uses, and the counter that follows from it
//! cgroups  the tree of one node: pods, containers, their counters
//! node     that tree behind a lock: acted upon by tests, walked by its agent
//! fleet    agents: a walk each interval, streams to the aggregators
//! populate nodes with pods, known to the stand-in API server, with their agents
//! demand   what an application's pods use, alone and together
//! machines all nodes of a cluster: which pods run where, and what they use
//! kubelet  those nodes in front of a real API server
//! ```

mod cgroups;
mod demand;
mod fleet;
pub mod kubelet;
mod load;
mod machines;
mod node;
mod populate;

pub use cgroups::{Cgroups, Missing, Workload};
pub use demand::{Demand, LOAD_ANNOTATION};
pub use fleet::{Fleet, Streams};
pub use load::{CpuCounter, Load, PAGE_SIZE};
pub use machines::Machines;
pub use node::SimulatedNode;
pub use populate::{Inhabited, Population};
