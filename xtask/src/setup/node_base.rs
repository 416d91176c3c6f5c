//! The root file system that nodes with systemd as their first program are made from: Debian's smallest, by debootstrap, packed
//! into one file of the cache. The packages come from the mirror that the machine's own sources name.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::{Evidence, Package, apt};
use crate::{cache, progress};

const PACKAGES: &[Package] = &[Package {
    name: "debootstrap",
    evidence: Evidence::Program("debootstrap"),
    why: "the root file system of nodes with systemd",
}];

/// What joins the packages that no Debian can do without.
const INCLUDE: [&str; 2] = ["dbus", "systemd-sysv"];

/// What a node never reads: half of the whole. debootstrap copies this machine's own name and resolver, which are nobody's business.
const LEFT_OUT: [&str; 9] = [
    "./etc/hostname",
    "./etc/machine-id",
    "./etc/resolv.conf",
    "./usr/share/doc/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./var/log/*",
];

/// The archive. Its name has its contents: another set of packages is another file.
pub fn archive() -> Result<PathBuf> {
    Ok(cache::dir()?.join(format!("node-base-{}-{}.tar", apt::RELEASE, INCLUDE.join("-"))))
}

/// Makes it, once.
pub fn ensure(root: &Path) -> Result<()> {
    let archive = archive()?;
    if archive.is_file() {
        return Ok(());
    }
    super::packages(root, PACKAGES)?;
    println!("setup: the root file system of nodes with systemd is missing: making it (about a minute)");
    let (tree, partial) = (archive.with_extension("tree"), archive.with_extension("partial"));
    let log = |name: &str| super::log(root, &format!("node-base-{name}"));
    // What an interrupted run left.
    progress::run_checked("remove what is left of it", &mut remove(&tree), &log("remove"))?;
    // In a mount namespace of its own: debootstrap mounts /proc below the tree, and an interrupted one leaves it there.
    let mut command = apt::as_root("unshare");
    command
        .args(["--mount", "debootstrap", "--variant=minbase"])
        .arg(format!("--include={}", INCLUDE.join(",")))
        .arg(format!("--keyring={}", apt::KEYRING))
        .arg(apt::RELEASE)
        .arg(&tree)
        .arg(apt::main_mirror()?)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    progress::run_checked("debootstrap", &mut command, &log("debootstrap"))?;
    let mut command = apt::as_root("tar");
    command
        .args(["--create", "--numeric-owner", "--one-file-system", "--file"])
        .arg(&partial)
        .arg("--directory")
        .arg(&tree)
        .args(LEFT_OUT.map(|path| format!("--exclude={path}")))
        .arg(".");
    progress::run_checked("pack it", &mut command, &log("pack"))?;
    progress::run_checked("remove the tree", &mut remove(&tree), &log("remove"))?;
    fs::rename(&partial, &archive).with_context(|| format!("cannot make {}", archive.display()))
}

fn remove(tree: &Path) -> Command {
    let mut command = apt::as_root("rm");
    command.args(["--recursive", "--force", "--one-file-system"]).arg(tree);
    command
}
