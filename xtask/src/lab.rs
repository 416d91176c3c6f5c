//! Hands over to the lab: installs and builds what it needs, and tells it by environment where things are.

use std::{
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{architecture::Architecture, build, cache, setup};

/// Makes everything ready and runs `waggle-lab` with these arguments; its exit code is ours.
pub fn run(root: &Path, args: &[&str]) -> Result<ExitCode> {
    setup::for_build(root)?;
    setup::for_lab(root)?;
    println!("build: agent, aggregator and lab, as they ship");
    build::static_release(root)?;
    let mut command = program(root);
    environment(root, &mut command)?;
    finish(command.args(args))
}

/// The lab as it was built last.
pub fn program(root: &Path) -> Command {
    Command::new(build::static_dir(root).join("waggle-lab"))
}

/// Runs the lab to its end; its exit code is ours.
pub fn finish(command: &mut Command) -> Result<ExitCode> {
    let status = command.status().context("cannot start waggle-lab")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Tells the lab, or a test of it, where programs, kernels and kubectl are.
pub fn environment(root: &Path, command: &mut Command) -> Result<()> {
    command.env("WAGGLE_KUBECTL", setup::kubectl()?);
    places(root, command)
}

/// The same without Debian's kubectl, for what uses that of the control plane.
pub fn places(root: &Path, command: &mut Command) -> Result<()> {
    command
        .env("WAGGLE_BINARIES", build::static_dir(root))
        .env("WAGGLE_BINARIES_ARM64", build::dir(root, Architecture::Arm64))
        .env("WAGGLE_BUSYBOX_ARM64", setup::arm64::busybox()?)
        .env("WAGGLE_KERNELS", setup::kernels::dir()?)
        .env("WAGGLE_CONTROL_PLANE", setup::control_plane::dir(root)?)
        .env("WAGGLE_HELM", setup::helm::program(root)?)
        .env("WAGGLE_DEFINITIONS", setup::definitions::dir()?)
        .env("WAGGLE_NODE_PROGRAMS", setup::nodes::dir(root)?)
        .env("WAGGLE_NODE_BASE", setup::nodes::base()?)
        .env("WAGGLE_METRICS_SERVER", setup::metrics_server::program(root)?)
        .env("WAGGLE_COREDNS", setup::nodes::dns_dir(root)?.join("coredns"))
        .env("WAGGLE_STATE", cache::state(root));
    Ok(())
}
