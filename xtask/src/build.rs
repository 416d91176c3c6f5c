//! The static release build: the programs as they ship, linked so that they run as pid 1 or beside it in a virtual
//! machine that has no C library.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{cache, progress, setup};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Where the static programs are; examples are in `examples` below it.
pub fn static_dir(root: &Path) -> PathBuf {
    cache::target(root).join(TARGET).join("release")
}

/// A cargo command in the workspace that finds bpf-linker.
pub fn cargo(root: &Path) -> Result<Command> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = [setup::bpf_linker_dir()?].into_iter().chain(env::split_paths(&path));
    command.current_dir(root).env("PATH", env::join_paths(dirs).context("PATH has an odd entry")?);
    Ok(command)
}

/// Builds agent, aggregator, the lab and the agent's measuring examples.
pub fn static_release(root: &Path) -> Result<()> {
    let mut command = cargo(root)?;
    command
        .args(["build", "--release", "--target", TARGET])
        .args(["-p", "waggle-agent", "-p", "waggle-aggregator", "-p", "waggle-lab"])
        .args(["--bins", "--examples"])
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static")
        // These copies go into the memory of a small machine: without debug information.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    let log = cache::state(root).join("logs").join("build.log");
    progress::run_checked("release build of agent, aggregator and lab", &mut command, &log)
}
