//! cargo-deny, which checks dependencies against `deny.toml`.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, progress};

/// The newest that Rust 1.95 builds.
const VERSION: &str = "0.19.0";

/// The program cargo-deny.
pub fn binary() -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("cargo-deny-{VERSION}")).join("bin/cargo-deny"))
}

/// Builds cargo-deny into the cache if it is not there yet, and fetches what it reads.
pub fn ensure(root: &Path) -> Result<()> {
    build(root)?;
    // The sources of every dependency: those of other platforms too, which no build here needs.
    let mut fetch = Command::new("cargo");
    fetch.args(["fetch", "--locked"]).current_dir(root);
    progress::run_checked("cargo fetch", &mut fetch, &super::log(root, "cargo-fetch"))
}

fn build(root: &Path) -> Result<()> {
    let binary = binary()?;
    if binary.is_file() {
        return Ok(());
    }
    println!("setup: cargo-deny {VERSION} is missing: building it (some minutes)");
    let into = cache::dir()?.join(format!("cargo-deny-{VERSION}"));
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut command = Command::new("cargo");
    command
        .args(["install", "cargo-deny", "--locked", "--version", VERSION, "--root"])
        .arg(&into)
        .current_dir(env::temp_dir())
        .env_remove("CARGO_TARGET_DIR");
    progress::run_checked("cargo install cargo-deny", &mut command, &super::log(root, "cargo-deny"))
}
