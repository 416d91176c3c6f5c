//! A kubectl: Debian 13's package, unpacked into the cache (the one of Debian 12 is from 2021); where it cannot be had,
//! one that is on `PATH`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::apt::Apt;
use crate::{architecture::Architecture, cache};

fn cached() -> Result<PathBuf> {
    Ok(cache::dir()?.join("kubectl").join("usr/bin/kubectl"))
}

/// The kubectl that the demo and the tests run.
pub fn binary() -> Result<PathBuf> {
    let cached = cached()?;
    if cached.is_file() {
        return Ok(cached);
    }
    super::find_program("kubectl").context("no kubectl: run cargo xtask setup")
}

/// Unpacks kubectl if it is not there yet.
pub fn ensure(root: &Path) -> Result<()> {
    if cached()?.is_file() {
        return Ok(());
    }
    println!("setup: kubectl is missing: unpacking Debian 13's package (it is not installed)");
    let into = cache::dir()?.join("kubectl");
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    let unpacked = Apt::of(root, Architecture::Amd64, &["trixie"])
        .and_then(|apt| apt.unpack(root, "kubectl/trixie", &into));
    match (unpacked, super::find_program("kubectl")) {
        (Ok(()), _) if cached()?.is_file() => Ok(()),
        (_, Some(other)) => {
            println!("setup: the package cannot be had; using {}", other.display());
            Ok(())
        }
        (Err(error), None) => Err(error.context("cannot get kubectl, and none is on PATH")),
        (Ok(()), None) => bail!("Debian 13's package kubectl has no usr/bin/kubectl, and none is on PATH"),
    }
}
