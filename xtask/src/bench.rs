//! Benchmarks that need something beside the lab: those of the product's own crates, and the one beside metrics-server.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::{build, lab, setup};

/// The API: the encoders alone, by criterion, then the whole port under load; both from one build, as the product ships.
/// Succeeds where every goal is met.
pub fn api(root: &Path) -> Result<ExitCode> {
    setup::for_build(root)?;
    let release = ["--release", "-p", "waggle-aggregator"];
    let built = run(root, &[&["build", "--examples"], &release[..]].concat())?;
    anyhow::ensure!(built, "the benchmarks do not build: cargo says why above");
    println!("bench: the encoders alone, by criterion");
    let encoders =
        run(root, &[&["run"], &release[..], &["--example", "encoders", "--", "--bench"]].concat())?;
    println!("bench: the API port under load");
    let load = run(root, &[&["run"], &release[..], &["--example", "api_load"]].concat())?;
    Ok(if encoders && load { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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
