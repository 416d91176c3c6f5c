//! What comes from Debian's packages for 64-bit Arm, unpacked into the cache: the standard library of Debian's compiler and the
//! tools inside virtual machines.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::apt::Apt;
use crate::{architecture::Architecture, cache};

/// The release that the compiler is of, and its updates.
const SUITES: &[&str] = &["bookworm", "bookworm-security"];
/// Libraries of a target below a sysroot.
const LIBRARIES: &str = "lib/rustlib/aarch64-unknown-linux-gnu";

/// The sysroot with the standard library for 64-bit Arm. It is of one version with the installed compiler.
pub fn sysroot() -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("sysroot-arm64-{}", compiler()?)))
}

/// The static busybox for 64-bit Arm.
pub fn busybox() -> Result<PathBuf> {
    Ok(cache::dir()?.join("busybox-arm64"))
}

/// Unpacks what is not there yet.
pub fn ensure(root: &Path) -> Result<()> {
    let (sysroot, busybox) = (sysroot()?, busybox()?);
    if sysroot.join(LIBRARIES).is_dir() && busybox.is_file() {
        return Ok(());
    }
    println!("setup: standard library and busybox for arm64 are missing: unpacking them (not installed)");
    let apt = Apt::of(root, Architecture::Arm64, SUITES)?;
    let unpacked = sysroot.with_extension("unpacked");
    for package in [format!("libstd-rust-web-dev={}", compiler()?), "busybox-static".to_owned()] {
        apt.unpack(root, &package, &unpacked)?;
    }
    fs::copy(unpacked.join("bin/busybox"), &busybox)
        .with_context(|| format!("cannot write {}", busybox.display()))?;
    let libraries = sysroot.join(LIBRARIES);
    let above = libraries.parent().context("the libraries have no folder")?;
    fs::create_dir_all(above).with_context(|| format!("cannot make {}", above.display()))?;
    if !libraries.exists() {
        fs::rename(unpacked.join("usr").join(LIBRARIES), &libraries)
            .with_context(|| format!("cannot make {}", libraries.display()))?;
    }
    fs::remove_dir_all(&unpacked).with_context(|| format!("cannot empty {}", unpacked.display()))
}

/// The version of Debian's compiler.
fn compiler() -> Result<String> {
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Version}", "rustc-web"])
        .output()
        .context("cannot start dpkg-query")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "Debian's compiler (rustc-web) is not installed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
