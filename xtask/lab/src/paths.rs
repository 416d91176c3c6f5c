//! Where programs, kernels and kubectl are: `cargo xtask` says so by environment.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};

use crate::architecture::Architecture;

/// The places.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Static release programs; examples in `examples` below it.
    pub binaries: PathBuf,
    /// The same for 64-bit Arm, where `cargo xtask test --kernels` built them.
    pub binaries_arm64: PathBuf,
    /// busybox for 64-bit Arm.
    pub busybox_arm64: PathBuf,
    /// `<line>/vmlinuz` and `<line>/<module>.ko`.
    pub kernels: PathBuf,
    /// The program kubectl.
    pub kubectl: PathBuf,
    /// Where logs and what is remembered between runs may be written.
    pub state: PathBuf,
}

impl Paths {
    /// Reads the environment.
    pub fn from_environment() -> Result<Self> {
        Ok(Self {
            binaries: place("WAGGLE_BINARIES")?,
            binaries_arm64: place("WAGGLE_BINARIES_ARM64")?,
            busybox_arm64: place("WAGGLE_BUSYBOX_ARM64")?,
            kernels: place("WAGGLE_KERNELS")?,
            kubectl: place("WAGGLE_KUBECTL")?,
            state: place("WAGGLE_STATE")?,
        })
    }

    /// A static program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }

    /// A static program for an architecture.
    pub fn program_for(&self, architecture: Architecture, name: &str) -> PathBuf {
        match architecture {
            Architecture::Amd64 => self.program(name),
            Architecture::Arm64 => self.binaries_arm64.join(name),
        }
    }

    /// The static busybox for an architecture.
    pub fn busybox(&self, architecture: Architecture) -> PathBuf {
        match architecture {
            Architecture::Amd64 => PathBuf::from("/bin/busybox"),
            Architecture::Arm64 => self.busybox_arm64.clone(),
        }
    }
}

pub(crate) fn place(name: &str) -> Result<PathBuf> {
    let value = env::var_os(name).with_context(|| {
        format!("{name} is not set: run cargo xtask test (or demo, bench, vm), which builds and installs what this needs")
    })?;
    Ok(PathBuf::from(value))
}
