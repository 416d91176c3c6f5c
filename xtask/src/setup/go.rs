//! A Go that is new enough for the control plane's module: the machine's own, else Debian's backport, unpacked into the
//! cache (Debian 12 itself has one of 2022).

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::apt::Apt;
use crate::cache;

/// The least that `xtask/control-plane/go.mod` takes.
const LEAST: (u32, u32) = (1, 26);
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
    println!("setup: Go 1.26 is missing: unpacking Debian's backport (it is not installed)");
    fs::create_dir_all(&cached).with_context(|| format!("cannot make {}", cached.display()))?;
    let apt = Apt::of(root, &["trixie-backports"])?;
    for package in PACKAGES {
        apt.unpack(root, package, &cached)?;
    }
    anyhow::ensure!(
        is_new_enough(&program),
        "Debian's golang-1.26-go does not run here: install Go 1.26 or newer so that it is on PATH"
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

/// Major and minor of `go version go1.26.8 linux/amd64`.
fn version(text: &str) -> Option<(u32, u32)> {
    let word = text.split_whitespace().nth(2)?.strip_prefix("go")?;
    let (major, rest) = word.split_once('.')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    Some((major.parse().ok()?, rest.get(..digits)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(version("go version go1.26.8 linux/amd64\n"), Some((1, 26)));
        assert_eq!(version("go version go1.27rc1 linux/amd64"), Some((1, 27)));
        assert_eq!(version("go version devel +ab 2026 linux/amd64"), None);
        assert!((1, 19) < LEAST && (2, 0) > LEAST);
    }
}
