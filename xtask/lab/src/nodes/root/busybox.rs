//! A node without systemd: busybox, and a script as its first program. Its driver is cgroupfs.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::{Context, Result};

use super::{applets, folders, write};

const FOLDERS: [&str; 7] = ["bin", "dev", "proc", "root", "run", "sys", "tmp"];

/// Makes what everything else is put into.
pub async fn lay_out(tree: &Path) -> Result<()> {
    folders(tree, &FOLDERS)?;
    applets(tree, "bin").await?;
    let init = tree.join("init");
    write(&init, include_str!("../guest/init.sh"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755)).context("cannot make init executable")?;
    write(&tree.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    write(&tree.join("etc/group"), "root:x:0:\n")?;
    write(&tree.join("etc/os-release"), "PRETTY_NAME=\"Waggle's lab\"\n")
}
