//! Benchmarks that need something beside the lab: those of the product's own crates, and the one beside metrics-server.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::{build, lab, setup};

/// The API: the encoders alone, by criterion, then the whole port under load, built as it ships. Succeeds where every goal
/// is met.
pub fn api(root: &Path) -> Result<ExitCode> {
    setup::for_build(root)?;
    println!("bench: the encoders alone, by criterion");
    let encode = run(root, &["bench", "-p", "waggle-aggregator", "--bench", "encode"])?;
    println!("bench: the API port under load");
    let load = run(root, &["run", "--release", "-p", "waggle-aggregator", "--example", "api_load"])?;
    Ok(if encode && load { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Values on a real node, beside metrics-server's: the lab's, with metrics-server built for it.
pub fn accuracy(root: &Path) -> Result<ExitCode> {
    setup::for_build(root)?;
    setup::for_lab(root)?;
    setup::control_plane::ensure(root)?;
    setup::nodes::ensure(root)?;
    setup::metrics_server::ensure(root)?;
    println!("build: agent, aggregator and lab, as they ship");
    build::static_release(root)?;
    let mut command = lab::program(root);
    lab::places(root, &mut command)?;
    command.env("WAGGLE_METRICS_SERVER", setup::metrics_server::program(root)?);
    lab::finish(command.args(["bench", "accuracy"]))
}

fn run(root: &Path, args: &[&str]) -> Result<bool> {
    let status = build::cargo(root)?.args(args).status().context("cannot start cargo")?;
    Ok(status.success())
}
