//! A Go that is new enough for the control plane's module: the machine's own, else Debian's backport, unpacked into the
//! cache (Debian 12 itself has one of 2022).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::apt::Apt;
use crate::{architecture::Architecture, cache};

/// The least that all of `xtask/*/go.mod` take.
const LEAST: (u32, u32, u32) = (1, 26, 6);
const PACKAGES: [&str; 2] = ["golang-1.26-go", "golang-1.26-src"];

/// The program go, found or unpacked.
pub fn ensure(root: &Path) -> Result<PathBuf> {
    let cached = cache::dir()?.join("go");
    let program = cached.join("usr/lib/go-1.26/bin/go");
    let own = super::find_program("go");
    let found = own.into_iter().chain([PathBuf::from("/usr/local/go/bin/go"), program.clone()]);
    if let Some(go) = found.into_iter().find(|go| is_new_enough(go)) {
        return Ok(go);
    }
    println!("setup: Go 1.26.6 is missing: unpacking Debian's backport (it is not installed)");
    fs::create_dir_all(&cached).with_context(|| format!("cannot make {}", cached.display()))?;
    let apt = Apt::of(root, Architecture::Amd64, &["trixie-backports"])?;
    for package in PACKAGES {
        apt.unpack(root, package, &cached)?;
    }
    anyhow::ensure!(
        is_new_enough(&program),
        "Debian's golang-1.26-go is not 1.26.6 or newer, or does not run here: install such a Go so that it is on PATH"
    );
    Ok(program)
}

fn is_new_enough(go: &Path) -> bool {
    // Never a download of another version: what is there counts.
    let output = Command::new(go).arg("version").env("GOTOOLCHAIN", "local").output();
    output.is_ok_and(|output| {
        version(&String::from_utf8_lossy(&output.stdout)).is_some_and(|version| version >= LEAST)
    })
}

/// Major, minor and patch of `go version go1.26.8 linux/amd64`.
fn version(text: &str) -> Option<(u32, u32, u32)> {
    let word = text.split_whitespace().nth(2)?.strip_prefix("go")?;
    let (major, rest) = word.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (minor, rest) = rest.split_at(digits);
    let patch = rest.strip_prefix('.').unwrap_or("0");
    Some((major.parse().ok()?, minor.parse().ok()?, patch.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("go version go1.26.8 linux/amd64\n"), Some((1, 26, 8)));
        assert_eq!(version("go version go1.27rc1 linux/amd64"), Some((1, 27, 0)));
        assert_eq!(version("go version devel +ab 2026 linux/amd64"), None);
        assert_eq!(version("go version go1.26 linux/amd64"), Some((1, 26, 0)));
        assert!(version("go version go1.26.3 linux/amd64") < Some(LEAST));
    }

    #[test]
    fn the_least_is_what_the_modules_of_this_repository_ask_for() {
        let xtask = cache::workspace_root().unwrap().join("xtask");
        let modules = fs::read_dir(xtask).unwrap().map(|entry| entry.unwrap().path().join("go.mod"));
        let asked = modules.filter_map(|module| fs::read_to_string(module).ok()).map(|module| {
            let line = module.lines().find_map(|line| line.strip_prefix("go ")).unwrap().to_owned();
            version(&format!("go version go{line} linux/amd64")).unwrap()
        });
        assert_eq!(asked.max(), Some(LEAST));
    }
}
