//! The Rust side: clippy and rustfmt, a toolchain that can compile for the BPF target, and bpf-linker.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{cache, progress};

const BPF_LINKER_VERSION: &str = "0.13.0";
/// The name under which rustup knows Debian's compiler.
pub const BPF_TOOLCHAIN: &str = "waggle-bpf";

/// clippy and rustfmt, where rustup's toolchain lacks them.
pub fn components() -> Result<()> {
    for (program, component) in [("cargo-clippy", "clippy"), ("rustfmt", "rustfmt")] {
        let found =
            Command::new("rustup").args(["which", program]).output().context("cannot start rustup")?;
        if found.status.success() {
            continue;
        }
        println!("setup: component {component} is missing: installing it");
        let status = Command::new("rustup")
            .args(["component", "add", component])
            .status()
            .context("cannot start rustup")?;
        if !status.success() {
            bail!("rustup component add {component}: {status}");
        }
    }
    Ok(())
}

/// Links Debian's compiler, whose core library sources are packaged, as a toolchain: rustup's stable has no
/// `rust-src`, and a nightly with it cannot be had everywhere.
pub fn bpf_toolchain() -> Result<()> {
    let home = match env::var_os("RUSTUP_HOME") {
        Some(home) => PathBuf::from(home),
        None => env::home_dir().context("no home directory: set HOME")?.join(".rustup"),
    };
    if home.join("toolchains").join(BPF_TOOLCHAIN).exists() {
        return Ok(());
    }
    println!("setup: toolchain {BPF_TOOLCHAIN} is missing: linking Debian's compiler under that name");
    let status = Command::new("rustup")
        .args(["toolchain", "link", BPF_TOOLCHAIN, "/usr"])
        .status()
        .context("cannot start rustup")?;
    if !status.success() {
        bail!("rustup toolchain link {BPF_TOOLCHAIN} /usr: {status}");
    }
    Ok(())
}

/// The folder with the program bpf-linker.
pub fn bpf_linker_dir() -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("bpf-linker-{BPF_LINKER_VERSION}")).join("bin"))
}

/// Builds bpf-linker against the LLVM of Debian's compiler, into the cache.
pub fn bpf_linker(root: &Path) -> Result<()> {
    let bin = bpf_linker_dir()?;
    if bin.join("bpf-linker").is_file() {
        return Ok(());
    }
    println!("setup: bpf-linker {BPF_LINKER_VERSION} is missing: building it (about a minute)");
    let prefix =
        Command::new("llvm-config-22").arg("--prefix").output().context("cannot start llvm-config-22")?;
    let prefix = String::from_utf8_lossy(&prefix.stdout).trim().to_owned();
    let into = bin.parent().context("the cache has no parent folder")?;
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    let mut command = Command::new("cargo");
    command
        .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION, "--no-default-features"])
        .args(["--features", "llvm-22", "--root"])
        .arg(into)
        .current_dir(env::temp_dir())
        .env("LLVM_PREFIX", &prefix)
        .env("RUSTFLAGS", format!("-L {prefix}/lib -C link-arg=-Wl,-rpath,{prefix}/lib"))
        .env_remove("CARGO_TARGET_DIR");
    progress::run_checked("cargo install bpf-linker", &mut command, &super::log(root, "bpf-linker"))
}
