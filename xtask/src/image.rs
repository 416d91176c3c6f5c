//! `cargo xtask image`: builds the programs as they ship for one processor architecture, asks Cargo what that build links, and has the
//! lab pack both.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{build, cache, lab, setup};

/// Makes the archives of agent and aggregator, with the documents beside them.
pub fn run(root: &Path, target: build::Target) -> Result<ExitCode> {
    setup::for_build(root)?;
    println!("build: agent, aggregator and lab, as they ship");
    build::static_release(root)?;
    if target == build::Target::Arm64 {
        setup::for_arm64(root)?;
        println!(
            "build: agent and aggregator for arm64, with their standard library (some 10 minutes, once)"
        );
        build::arm64(root)?;
    }
    let into = dir(root);
    fs::create_dir_all(&into).with_context(|| format!("cannot make {}", into.display()))?;
    let units = plan(build::command(root, target)?, &into.join(format!("{}.units.json", target.triple())))?;
    let ebpf_units = plan(build::ebpf(root), &into.join("ebpf.units.json"))?;
    let mut command = lab::program(root);
    command.arg("image").arg("--workspace").arg(root);
    command.arg("--binaries").arg(build::dir(root, target));
    command.arg("--units").arg(units).arg("--ebpf-units").arg(ebpf_units);
    lab::finish(command.arg("--into").arg(into))
}

/// Where the archives are.
pub fn dir(root: &Path) -> PathBuf {
    cache::state(root).join("images")
}

/// Writes what Cargo would do for this build. Nothing is built by it.
fn plan(mut build: Command, into: &Path) -> Result<PathBuf> {
    build.args(["-Z", "unstable-options", "--unit-graph"]).env("RUSTC_BOOTSTRAP", "1");
    let output = build.output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo build --unit-graph: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    fs::write(into, &output.stdout).with_context(|| format!("cannot write {}", into.display()))?;
    Ok(into.to_owned())
}
