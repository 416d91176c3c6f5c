//! Benchmarks of the product's own crates; the others are the lab's.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::{build, setup};

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

fn run(root: &Path, args: &[&str]) -> Result<bool> {
    let status = build::cargo(root)?.args(args).status().context("cannot start cargo")?;
    Ok(status.success())
}
