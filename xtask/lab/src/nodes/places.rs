//! Where the programs of real nodes are: `cargo xtask` says so by environment.

use std::path::PathBuf;

use anyhow::Result;

use crate::{control_plane, paths};

/// The release line of the kernel that nodes run.
pub const KERNEL: &str = "6.12";

/// The places.
#[derive(Debug, Clone)]
pub struct Places {
    /// Of the control plane; the kubelet is among its programs.
    pub control_plane: control_plane::Places,
    /// The static programs of Waggle and of the lab.
    pub binaries: PathBuf,
    /// `<line>/vmlinuz`, `<line>/<module>.ko`.
    pub kernels: PathBuf,
    /// What is remembered between runs.
    pub state: PathBuf,
    /// The folder with containerd, its shim, ctr, runc and the CNI plugins.
    pub node_programs: PathBuf,
    /// The archive that the root file system of a node with systemd is made from.
    pub node_base: PathBuf,
    /// The program coredns.
    pub coredns: PathBuf,
}

impl Places {
    /// As `cargo xtask` says.
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            control_plane: control_plane::Places::from_environment()?,
            binaries: paths::place("WAGGLE_BINARIES")?,
            kernels: paths::place("WAGGLE_KERNELS")?,
            state: paths::place("WAGGLE_STATE")?,
            node_programs: paths::place("WAGGLE_NODE_PROGRAMS")?,
            node_base: paths::place("WAGGLE_NODE_BASE")?,
            coredns: paths::place("WAGGLE_COREDNS")?,
        })
    }
}
