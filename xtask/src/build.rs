//! The static release build: the programs as they ship, linked so that they run as pid 1 or beside it in a virtual
//! machine that has no C library.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::{cache, progress, setup};

const STATIC: &str = "-C target-feature=+crt-static";
const ARM64_COMPILER: &str = "aarch64-linux-gnu-gcc";

/// What the programs are built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Target {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Target {
    /// As Rust names it.
    pub fn triple(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }
}

/// Where the static programs of this machine are; examples are in `examples` below it.
pub fn static_dir(root: &Path) -> PathBuf {
    dir(root, Target::Amd64)
}

/// Where the static programs for a target are.
pub fn dir(root: &Path, target: Target) -> PathBuf {
    cache::target(root).join(target.triple()).join("release")
}

/// A cargo command in the workspace that finds bpf-linker.
pub fn cargo(root: &Path) -> Result<Command> {
    with_bpf_linker(root, Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))))
}

fn with_bpf_linker(root: &Path, mut command: Command) -> Result<Command> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = [setup::bpf_linker_dir()?].into_iter().chain(env::split_paths(&path));
    command.current_dir(root).env("PATH", env::join_paths(dirs).context("PATH has an odd entry")?);
    Ok(command)
}

/// Builds agent, aggregator, the lab and the agent's measuring examples.
pub fn static_release(root: &Path) -> Result<()> {
    let log = cache::state(root).join("logs").join("build.log");
    let mut command = command(root, Target::Amd64)?;
    progress::run_checked("release build of agent, aggregator and lab", &mut command, &log)
}

/// Builds agent and aggregator for 64-bit Arm.
pub fn arm64(root: &Path) -> Result<()> {
    let log = cache::state(root).join("logs").join("build-arm64.log");
    let mut command = command(root, Target::Arm64)?;
    progress::run_checked("release build of agent and aggregator for arm64", &mut command, &log)
}

/// The release build for a target.
pub fn command(root: &Path, target: Target) -> Result<Command> {
    let mut command = match target {
        Target::Amd64 => {
            let mut command = cargo(root)?;
            command.args(["build", "-p", "waggle-lab", "--examples"]);
            command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", STATIC);
            command
        }
        Target::Arm64 => {
            let mut command = with_bpf_linker(root, debian_cargo())?;
            // The registries have no standard library for this target: it is built from the sources that the
            // toolchain of the eBPF program brings along.
            command.args(["build", "-Z", "build-std=std,panic_abort"]);
            command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", STATIC);
            command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", ARM64_COMPILER);
            command.env("CC_aarch64_unknown_linux_gnu", ARM64_COMPILER);
            command
        }
    };
    command
        .args(["--release", "--target", target.triple()])
        .args(["-p", "waggle-agent", "-p", "waggle-aggregator", "--bins"])
        // These copies go into the memory of a small machine: without debug information.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    Ok(command)
}

/// The build of the eBPF program, as the agent's build script has it.
pub fn ebpf(root: &Path) -> Command {
    let mut command = debian_cargo();
    command
        .current_dir(root)
        .args(["build", "--release", "-Z", "build-std=core", "--target", "bpfel-unknown-none"])
        .args(["-p", "waggle-agent-ebpf", "--bin", "waggle-agent-ebpf", "--features", "program"]);
    command
}

/// The cargo of Debian's compiler, which has the sources of the standard library.
fn debian_cargo() -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", setup::BPF_TOOLCHAIN, "cargo"]);
    // `-Z` on a released compiler. What the outer cargo set for this program is not meant for that one.
    command.env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO").env_remove("RUSTUP_TOOLCHAIN");
    command
}
