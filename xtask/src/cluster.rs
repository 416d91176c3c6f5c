//! `cargo xtask cluster`: installs and builds what the control plane needs, and hands over to the lab. The state of a
//! cluster is kept outside of the target folder: `cargo clean` must not make its processes unknown.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{build, lab, setup};

/// Starts the cluster.
pub fn up(root: &Path, nodes: u8, driver: &str) -> Result<ExitCode> {
    setup::for_build(root)?;
    setup::control_plane::ensure(root)?;
    if nodes > 0 {
        setup::for_lab(root)?;
        setup::nodes::ensure(root)?;
        setup::nodes::ensure_driver(root, driver)?;
    }
    println!("build: agent, aggregator and lab, as they ship");
    build::static_release(root)?;
    lab::finish(command(root)?.args(["up", "--nodes", &nodes.to_string(), "--driver", driver]))
}

/// Runs the lab on real nodes.
pub fn on_nodes(root: &Path, args: &[&str]) -> Result<ExitCode> {
    setup::control_plane::ensure(root)?;
    setup::nodes::ensure(root)?;
    lab::run(root, args)
}

/// Boots nodes of a cgroup driver in a row.
pub fn soak(root: &Path, boots: u32, driver: &str) -> Result<ExitCode> {
    setup::nodes::ensure_driver(root, driver)?;
    on_nodes(root, &["soak", "--boots", &boots.to_string(), "--driver", driver])
}

/// [`on_nodes`] with metrics-server built for it.
pub fn beside_metrics_server(root: &Path, args: &[&str]) -> Result<ExitCode> {
    setup::metrics_server::ensure(root)?;
    on_nodes(root, args)
}

/// metrics-server's answers, into the tests of the aggregator.
pub fn record(root: &Path) -> Result<ExitCode> {
    setup::metrics_server::ensure(root)?;
    setup::control_plane::ensure(root)?;
    let into = root.join("aggregator/tests/contract/metrics-server.jsonl");
    lab::run(root, &["record", &into.display().to_string()])
}

/// Waggle's life on this many nodes, which helm and metrics-server are part of.
pub fn e2e(root: &Path, nodes: u8) -> Result<ExitCode> {
    setup::helm::ensure(root)?;
    beside_metrics_server(root, &["e2e", "--nodes", &nodes.to_string()])
}

/// Asks the lab, which must have been built to start a cluster, and builds nothing.
pub fn ask(root: &Path, what: &str) -> Result<ExitCode> {
    if !Path::new(lab::program(root).get_program()).is_file() {
        println!("no cluster: none was started from this workspace (cargo xtask cluster up)");
        return Ok(ExitCode::SUCCESS);
    }
    lab::finish(command(root)?.arg(what))
}

fn command(root: &Path) -> Result<Command> {
    let mut command = lab::program(root);
    lab::places(root, &mut command)?;
    command.arg("cluster").env("WAGGLE_STATE", state()?);
    Ok(command)
}

/// `$XDG_STATE_HOME/waggle`, else `~/.local/state/waggle`.
fn state() -> Result<PathBuf> {
    let base = match env::var_os("XDG_STATE_HOME").filter(|value| !value.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => {
            env::home_dir().context("no home directory: set HOME or XDG_STATE_HOME")?.join(".local/state")
        }
    };
    Ok(base.join("waggle"))
}
