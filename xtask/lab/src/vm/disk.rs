//! The machines' disks: sparse files of the host.

use std::{fs::File, path::Path};

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

const BYTES: u64 = 512 << 20;

/// An empty disk.
pub fn make(path: &Path) -> Result<()> {
    File::create(path)
        .and_then(|file| file.set_len(BYTES))
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Gives the machine a disk.
pub fn add(command: &mut Command, device: &str, name: &str, path: &Path) {
    command.arg("-drive").arg(format!("file={},if=none,id={name},format=raw", path.display()));
    command.arg("-device").arg(format!("{device},drive={name}"));
}

/// Makes XFS on a disk.
pub async fn format(path: &Path) -> Result<()> {
    let mut command = Command::new("mkfs.xfs");
    let output = command.arg("-q").arg(path).output().await;
    let output = output.context("cannot start mkfs.xfs: run cargo xtask setup")?;
    ensure!(output.status.success(), "mkfs.xfs: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
