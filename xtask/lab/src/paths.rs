//! Where programs, kernels and kubectl are: `cargo xtask` says so by environment.

use std::{env, path::PathBuf};

use anyhow::{Context, Result};

/// The places.
#[derive(Debug, Clone)]
pub struct Paths {
    /// Static release programs; examples in `examples` below it.
    pub binaries: PathBuf,
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
            kernels: place("WAGGLE_KERNELS")?,
            kubectl: place("WAGGLE_KUBECTL")?,
            state: place("WAGGLE_STATE")?,
        })
    }

    /// A static program.
    pub fn program(&self, name: &str) -> PathBuf {
        self.binaries.join(name)
    }
}

pub(crate) fn place(name: &str) -> Result<PathBuf> {
    let value = env::var_os(name).with_context(|| {
        format!("{name} is not set: run cargo xtask test (or demo, bench, vm), which builds and installs what this needs")
    })?;
    Ok(PathBuf::from(value))
}
