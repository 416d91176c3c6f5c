//! Benchmarks of the product's own crates: built in release and run here, without the lab.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::{build, setup};

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

fn run(root: &Path, args: &[&str]) -> Result<bool> {
    let status = build::cargo(root)?.args(args).status().context("cannot start cargo")?;
    Ok(status.success())
}
