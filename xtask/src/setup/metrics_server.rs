//! metrics-server, which Waggle is measured beside: built by Go from the module in `xtask/metrics-server`. Its Kubernetes
//! libraries are of another release than the control plane's, so it is a module of its own.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::go_programs::{self, Module, Program};
use crate::cache;

const METRICS_SERVER: &str = "sigs.k8s.io/metrics-server";
const NAME: &str = "metrics-server";
const MODULE: Module =
    Module { folder: "xtask/metrics-server", what: "metrics-server", takes: "takes 5 minutes" };

/// The program, built or not.
pub fn program(root: &Path) -> Result<PathBuf> {
    Ok(dir(root)?.join(NAME))
}

/// Builds it if it is not there yet.
pub fn ensure(root: &Path) -> Result<()> {
    let [version] = go_programs::versions(root, &MODULE, [METRICS_SERVER])?;
    let program = Program {
        name: NAME,
        package: "sigs.k8s.io/metrics-server/cmd/metrics-server",
        tags: "",
        // It says the version of its client library, as its own Makefile has it.
        linker: format!("-X k8s.io/client-go/pkg/version.gitVersion=v{version}"),
        c: false,
    };
    go_programs::ensure(root, &MODULE, &dir(root)?, &[program])
}

fn dir(root: &Path) -> Result<PathBuf> {
    let [version] = go_programs::versions(root, &MODULE, [METRICS_SERVER])?;
    Ok(cache::dir()?.join(format!("metrics-server-{version}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_of_this_repository_names_it() {
        let program = program(&cache::workspace_root().unwrap()).unwrap();
        assert!(program.ends_with("metrics-server-0.9.0/metrics-server"), "{}", program.display());
    }
}
