//! The programs of a real control plane: etcd, kube-apiserver, kube-controller-manager and kubectl, built by Go from the
//! module in `xtask/control-plane`, once, into a folder of the cache that is named by their versions.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::go;
use crate::{cache, progress};

const KUBERNETES: &str = "k8s.io/kubernetes";
const ETCD: &str = "go.etcd.io/etcd/server/v3";
/// Commands of [`KUBERNETES`].
const COMMANDS: [&str; 3] = ["kube-apiserver", "kube-controller-manager", "kubectl"];

/// The folder with the programs, built or not.
pub fn dir(root: &Path) -> Result<PathBuf> {
    let module = module(root)?;
    let (kubernetes, etcd) = (version(&module, KUBERNETES)?, version(&module, ETCD)?);
    Ok(cache::dir()?.join(format!("control-plane-{kubernetes}-etcd-{etcd}")))
}

/// Builds what is not there yet.
pub fn ensure(root: &Path) -> Result<()> {
    let into = dir(root)?;
    if into.join("kubectl").is_file() {
        return Ok(());
    }
    let go = go::ensure(root)?;
    println!("setup: the control plane is missing: building it with Go (some 10 minutes, once)");
    let mut partial = into.clone().into_os_string();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(|| format!("cannot empty {}", partial.display()))?;
    }
    fs::create_dir_all(&partial).with_context(|| format!("cannot make {}", partial.display()))?;
    let kubernetes = version(&module(root)?, KUBERNETES)?;
    let mut output = partial.clone().into_os_string();
    output.push("/");
    let mut command = Command::new(go);
    command
        .current_dir(root.join("xtask/control-plane"))
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &stamp(&kubernetes)?, "-o"])
        .arg(output)
        .arg(ETCD)
        .args(COMMANDS.map(|name| format!("{KUBERNETES}/cmd/{name}")))
        // One setting for everything that is built from this module: the build cache tells them apart.
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env_remove("GOFLAGS");
    progress::run_checked("go build", &mut command, &super::log(root, "control-plane"))?;
    // Go names a program by the last part of its path.
    fs::rename(partial.join("server"), partial.join("etcd")).context("go build left no program of etcd")?;
    fs::rename(&partial, &into).with_context(|| format!("cannot make {}", into.display()))
}

fn module(root: &Path) -> Result<String> {
    let path = root.join("xtask/control-plane/go.mod");
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The version that a module file requires, without the `v`.
fn version(module: &str, name: &str) -> Result<String> {
    for line in module.lines() {
        let mut words = line.split_whitespace().skip_while(|&word| word == "require");
        if words.next() == Some(name)
            && let Some(version) = words.next().and_then(|word| word.strip_prefix('v'))
        {
            return Ok(version.to_owned());
        }
    }
    bail!("xtask/control-plane/go.mod requires no {name}")
}

/// What the programs shall say that they are: a build without these says `v0.0.0-master`.
fn stamp(version: &str) -> Result<String> {
    let mut parts = version.split('.');
    let (Some(major), Some(minor)) = (parts.next(), parts.next()) else { bail!("odd version {version}") };
    let at = "k8s.io/component-base/version";
    Ok(format!("-s -w -X {at}.gitVersion=v{version} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_module_file() {
        let module = "tool (\n\tgo.etcd.io/etcd/server/v3\n)\n\nrequire (\n\tcel.dev/expr v0.25.1 // indirect\n\
                      \tgo.etcd.io/etcd/server/v3 v3.7.0\n)\nrequire k8s.io/kubernetes v1.37.2\n";
        assert_eq!(version(module, ETCD).unwrap(), "3.7.0");
        assert_eq!(version(module, KUBERNETES).unwrap(), "1.37.2");
        assert!(version(module, "k8s.io/api").is_err());
    }

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
