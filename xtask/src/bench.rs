//! Benchmarks of the product's own crates: built in release and run here, without the lab.

use std::{path::Path, process::ExitCode};

use anyhow::{Context, Result};

use crate::{build, setup};

/// The API: the encoders alone, by criterion, then the whole port under load. Succeeds where every goal is met.
pub fn api(root: &Path) -> Result<ExitCode> {
    setup::for_build(root)?;
    let mut met = true;
    for name in ["encode", "api_load"] {
        println!("bench: {name}");
        let mut command = build::cargo(root)?;
        command.args(["bench", "-p", "waggle-aggregator", "--bench", name]);
        met &= command.status().context("cannot start cargo")?.success();
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
