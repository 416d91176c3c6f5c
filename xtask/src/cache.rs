//! Where things are kept: the workspace, and a cache that outlives it. Knows paths, makes nothing but folders.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The workspace that this binary was built from.
pub fn workspace_root() -> Result<PathBuf> {
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map(Path::to_path_buf).context("the manifest of xtask has no parent folder")
}

/// The folder for what is downloaded or built once: `$XDG_CACHE_HOME/waggle`, else `~/.cache/waggle`.
pub fn dir() -> Result<PathBuf> {
    let base = match env::var_os("XDG_CACHE_HOME").filter(|value| !value.is_empty()) {
        Some(dir) => PathBuf::from(dir),
        None => env::home_dir().context("no home directory: set HOME or XDG_CACHE_HOME")?.join(".cache"),
    };
    Ok(base.join("waggle"))
}

/// The target folder that cargo uses for this workspace.
pub fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

/// Logs and state of runs, inside the target folder.
pub fn state(root: &Path) -> PathBuf {
    target(root).join("waggle")
}
