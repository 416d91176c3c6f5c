//! helm, for the tests of the chart, built by Go from the module in `xtask/tools`.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::go_programs::{self, Module, Program};
use crate::cache;

const HELM: &str = "helm.sh/helm/v4";
const MODULE: Module = Module { folder: "xtask/tools", what: "helm", takes: "takes 3 minutes" };

/// The program, built or not.
pub fn program(root: &Path) -> Result<PathBuf> {
    Ok(dir(root)?.join("helm"))
}

/// Builds it where it is not there yet.
pub fn ensure(root: &Path) -> Result<()> {
    let [version] = go_programs::versions(root, &MODULE, [HELM])?;
    let helm = Program {
        name: "helm",
        package: "helm.sh/helm/v4/cmd/helm",
        tags: "",
        linker: format!("-X {HELM}/internal/version.version=v{version}"),
        c: false,
    };
    go_programs::ensure(root, &MODULE, &dir(root)?, &[helm])
}

fn dir(root: &Path) -> Result<PathBuf> {
    let [version] = go_programs::versions(root, &MODULE, [HELM])?;
    Ok(cache::dir()?.join(format!("helm-{version}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_of_this_repository_names_helm() {
        let program = program(&cache::workspace_root().unwrap()).unwrap();
        assert!(program.display().to_string().contains("/helm-4."), "{}", program.display());
    }
}
