//! The static release build: the programs as they ship, linked so that they run as pid 1 or beside it in a virtual
//! machine that has no C library.

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{architecture::Architecture, cache, progress, setup};

const STATIC: &str = "-C target-feature=+crt-static";
const ARM64_COMPILER: &str = "aarch64-linux-gnu-gcc";

/// Where the static programs of this machine are; examples are in `examples` below it.
pub fn static_dir(root: &Path) -> PathBuf {
    dir(root, Architecture::Amd64)
}

/// Where the static programs for a target are.
pub fn dir(root: &Path, target: Architecture) -> PathBuf {
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
    let mut command = command(root, Architecture::Amd64)?;
    progress::run_checked("release build of agent, aggregator and lab", &mut command, &log)
}

/// Builds agent and aggregator for 64-bit Arm.
pub fn arm64(root: &Path) -> Result<()> {
    let log = cache::state(root).join("logs").join("build-arm64.log");
    let mut command = command(root, Architecture::Arm64)?;
    progress::run_checked("release build of agent and aggregator for arm64", &mut command, &log)
}

/// Builds what runs in virtual machines of 64-bit Arm: the agent with its examples, and the machine's first program.
pub fn arm64_machines(root: &Path) -> Result<()> {
    let log = cache::state(root).join("logs").join("build-arm64-machines.log");
    let mut command = release(root, Architecture::Arm64)?;
    command.args(["-p", "waggle-agent", "-p", "waggle-node-init", "--bins", "--examples"]);
    progress::run_checked("release build for virtual machines of arm64", &mut command, &log)
}

/// The release build for a target.
pub fn command(root: &Path, target: Architecture) -> Result<Command> {
    let mut command = release(root, target)?;
    command.args(["-p", "waggle-agent", "-p", "waggle-aggregator", "--bins"]);
    if target == Architecture::Amd64 {
        command.args(["-p", "waggle-lab", "-p", "waggle-node-init", "--examples"]);
    }
    Ok(command)
}

/// A static release build for a target that does not say of what.
fn release(root: &Path, target: Architecture) -> Result<Command> {
    let mut command = match target {
        Architecture::Amd64 => {
            let mut command = cargo(root)?;
            command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", STATIC);
            command
        }
        Architecture::Arm64 => {
            // Debian's compiler: its standard library for this target is a package of the same version.
            let mut command = with_bpf_linker(root, debian_cargo())?;
            let sysroot = setup::arm64::sysroot()?;
            let flags = format!("{STATIC} --sysroot {}", sysroot.display());
            command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS", flags);
            command.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", ARM64_COMPILER);
            command.env("CC_aarch64_unknown_linux_gnu", ARM64_COMPILER);
            command
        }
    };
    command
        .args(["build", "--release", "--target", target.triple()])
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
