//! Programs that are built by Go from a module of this repository, once, into a folder of the cache that is named by
//! their versions. What is missing is built, and what is there is left alone: a program that joins the set later is built by itself.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::go;
use crate::progress;

/// A module with programs in it.
pub struct Module {
    /// Its folder below the workspace's.
    pub folder: &'static str,
    /// What its programs are, for people.
    pub what: &'static str,
    /// How long a build of all of them takes, for people.
    pub takes: &'static str,
}

/// A program, and how it is built.
pub struct Program {
    /// Its file's name.
    pub name: &'static str,
    /// Its package, by import path.
    pub package: &'static str,
    /// Build tags, separated by commas.
    pub tags: &'static str,
    /// Flags of the linker.
    pub linker: String,
    /// Whether it needs C. One setting for everything else: the build cache tells the two apart.
    pub c: bool,
}

/// Builds the programs that are not in `into` yet.
pub fn ensure(root: &Path, module: &Module, into: &Path, programs: &[Program]) -> Result<()> {
    let missing: Vec<&Program> =
        programs.iter().filter(|program| !into.join(program.name).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let go = go::ensure(root)?;
    let names: Vec<&str> = missing.iter().map(|program| program.name).collect();
    println!(
        "setup: {} to build with Go: {} (all of {} {}, once)",
        module.what,
        names.join(", "),
        module.what,
        module.takes
    );
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    for program in missing {
        build(root, &go, module, into, program)?;
    }
    Ok(())
}

fn build(root: &Path, go: &Path, module: &Module, into: &Path, program: &Program) -> Result<()> {
    let partial = into.join(format!("{}.partial", program.name));
    let mut command = Command::new(go);
    command
        .current_dir(root.join(module.folder))
        .args(["build", "-trimpath", "-buildvcs=false", "-tags", program.tags, "-ldflags"])
        .arg(format!("-s -w {}", program.linker))
        .arg("-o")
        .arg(&partial)
        .arg(program.package)
        .env("CGO_ENABLED", if program.c { "1" } else { "0" })
        .env("GOTOOLCHAIN", "local")
        .env("GOWORK", "off")
        .env_remove("GOFLAGS");
    let log = super::log(root, &format!("go-{}", program.name));
    progress::run_checked(&format!("go build {}", program.name), &mut command, &log)?;
    let done = into.join(program.name);
    fs::rename(&partial, &done).with_context(|| format!("cannot make {}", done.display()))
}

/// The versions, without the `v`, that a module's file requires of others.
pub fn versions<const N: usize>(root: &Path, module: &Module, names: [&str; N]) -> Result<[String; N]> {
    let path = file(root, module);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut found = [const { String::new() }; N];
    for (version, name) in found.iter_mut().zip(names) {
        *version = version_in(&text, name).with_context(|| format!("in {}", path.display()))?;
    }
    Ok(found)
}

fn file(root: &Path, module: &Module) -> PathBuf {
    root.join(module.folder).join("go.mod")
}

fn version_in(module: &str, name: &str) -> Result<String> {
    for line in module.lines() {
        let mut words = line.split_whitespace().skip_while(|&word| word == "require");
        if words.next() == Some(name)
            && let Some(version) = words.next().and_then(|word| word.strip_prefix('v'))
        {
            return Ok(version.to_owned());
        }
    }
    bail!("{name} is not required")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_module_file() {
        let module = "tool (\n\tgo.etcd.io/etcd/server/v3\n)\n\nrequire (\n\tcel.dev/expr v0.25.1 // indirect\n\
                      \tgo.etcd.io/etcd/server/v3 v3.7.0\n)\nrequire k8s.io/kubernetes v1.37.2\n";
        assert_eq!(version_in(module, "go.etcd.io/etcd/server/v3").unwrap(), "3.7.0");
        assert_eq!(version_in(module, "k8s.io/kubernetes").unwrap(), "1.37.2");
        assert!(version_in(module, "k8s.io/api").is_err());
    }
}
