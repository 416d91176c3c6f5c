//! The programs of a real control plane, and the kubelet, which is built from the same module.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::go_programs::{self, Module, Program};
use crate::cache;

const KUBERNETES: &str = "k8s.io/kubernetes";
const ETCD: &str = "go.etcd.io/etcd/server/v3";
const MODULE: Module =
    Module { folder: "xtask/control-plane", what: "the control plane", takes: "takes some 10 minutes" };
/// Commands of [`KUBERNETES`].
const COMMANDS: [(&str, &str); 5] = [
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
];

/// The folder with the programs, built or not.
pub fn dir(root: &Path) -> Result<PathBuf> {
    let [kubernetes, etcd] = go_programs::versions(root, &MODULE, [KUBERNETES, ETCD])?;
    Ok(cache::dir()?.join(format!("control-plane-{kubernetes}-etcd-{etcd}")))
}

/// Builds what is not there yet.
pub fn ensure(root: &Path) -> Result<()> {
    let [kubernetes] = go_programs::versions(root, &MODULE, [KUBERNETES])?;
    let program = |name, package, linker| Program { name, package, tags: "", linker, c: false };
    let stamp = stamp(&kubernetes)?;
    let commands = COMMANDS.into_iter().map(|(name, package)| program(name, package, stamp.clone()));
    let programs: Vec<Program> = [program("etcd", ETCD, stamp.clone())].into_iter().chain(commands).collect();
    go_programs::ensure(root, &MODULE, &dir(root)?, &programs)
}

/// What the programs shall say that they are: a build without these says `v0.0.0-master`.
fn stamp(version: &str) -> Result<String> {
    let mut parts = version.split('.');
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else { bail!("odd version {version}") };
    let at = "k8s.io/component-base/version";
    Ok(format!("-X {at}.gitVersion=v{version} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_of_this_repository_names_both() {
        let dir = dir(&cache::workspace_root().unwrap()).unwrap();
        let name = dir.file_name().unwrap().to_str().unwrap();
        assert!(name.starts_with("control-plane-1.") && name.contains("-etcd-3."), "{name}");
    }

    #[test]
    fn the_stamp_has_major_and_minor() {
        let stamp = stamp("1.37.2").unwrap();
        assert!(stamp.contains("gitVersion=v1.37.2 ") && stamp.ends_with("gitMinor=37"), "{stamp}");
    }
}
