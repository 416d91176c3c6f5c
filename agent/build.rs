//! Builds the `iter/cgroup` program for `bpfel-unknown-none` and leaves the object where the agent includes it from.
//!
//! The program needs a `core` built from source and a linker for BPF: `cargo xtask setup` provides both, the compiler
//! under the toolchain name `waggle-bpf`. Nothing is downloaded here, and nothing of the outer build's settings (flags,
//! clippy as the compiler, target directory) reaches the inner one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const TOOLCHAIN: &str = "waggle-bpf";
const PACKAGE: &str = "waggle-agent-ebpf";
const TARGET: &str = "bpfel-unknown-none";
const LINKER: &str = "bpf-linker";
const LINKER_IN_CACHE: &str = "waggle/bpf-linker-0.13.0/bin/bpf-linker";

/// Settings of the outer build that would change or break the inner one.
const STRIPPED: [&str; 11] = [
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
];

fn main() -> Result<()> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?);
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is not set")?);
    let root = manifest.parent().context("the agent's directory has no parent")?;
    for path in ["agent-ebpf/src", "agent-ebpf/Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    for name in ["PATH", "XDG_CACHE_HOME", "HOME"] {
        println!("cargo:rerun-if-env-changed={name}");
    }

    check_toolchain()?;
    let linker = find_linker()?;
    let target_dir = out.join("bpf-target");
    build(root, &linker, &target_dir)?;
    let object = target_dir.join(TARGET).join("release").join(PACKAGE);
    std::fs::copy(&object, out.join("cgroups.o"))
        .with_context(|| format!("the built program {} cannot be copied", object.display()))?;
    Ok(())
}

fn check_toolchain() -> Result<()> {
    let answer = Command::new("rustup").args(["run", TOOLCHAIN, "rustc", "--version"]).output();
    if !answer.is_ok_and(|output| output.status.success()) {
        bail!(
            "the toolchain `{TOOLCHAIN}`, which compiles the eBPF program, is not here: run `cargo xtask setup`"
        );
    }
    Ok(())
}

fn find_linker() -> Result<PathBuf> {
    let on_path = env::var_os("PATH")
        .into_iter()
        .flat_map(|path| env::split_paths(&path).collect::<Vec<_>>())
        .map(|directory| directory.join(LINKER));
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")));
    on_path.chain(cache.map(|cache| cache.join(LINKER_IN_CACHE))).find(|path| path.is_file()).with_context(
        || format!("`{LINKER}`, which links the eBPF program, is not here: run `cargo xtask setup`"),
    )
}

fn build(root: &Path, linker: &Path, target_dir: &Path) -> Result<()> {
    let mut cargo = Command::new("rustup");
    cargo.args(["run", TOOLCHAIN, "cargo", "build", "--quiet", "--release", "--locked"]);
    cargo.args(["-Z", "build-std=core", "--target", TARGET]);
    cargo.args(["--package", PACKAGE, "--bin", PACKAGE, "--features", "program"]);
    cargo.arg("--target-dir").arg(target_dir).current_dir(root);
    for name in STRIPPED {
        cargo.env_remove(name);
    }
    // `-Z` on a released compiler; the object itself uses no unstable feature but the target.
    cargo.env("RUSTC_BOOTSTRAP", "1");
    let flags = [
        format!("-Clinker={}", linker.display()),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("--cfg=bpf_target_arch=\"{}\"", env::var("CARGO_CFG_TARGET_ARCH")?),
    ];
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    let output = cargo.output().with_context(|| format!("cannot run {cargo:?}"))?;
    if !output.status.success() {
        bail!(
            "the eBPF program does not build ({}); if tools are missing, run `cargo xtask setup`\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
