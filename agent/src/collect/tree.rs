//! The cgroup tree as directories: where kubepods is, and which directory has which id.
//!
//! A directory's inode number is the cgroup's id, and a directory's entries carry inode numbers: so one bounded walk
//! of directories, without a `stat` of each, resolves ids to paths.

use std::ffi::OsStr;
use std::fs::DirEntry;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::{CgroupId, CollectError};
use crate::identify::{Identity, is_kubepods, locate};

/// Levels from kubepods to containers: quality-of-service class, pod, container. What is deeper belongs to a container.
pub const CONTAINER_DEPTH: u32 = 3;

/// Levels below the hierarchy's mount at which kubepods is looked for: 1 is usual, 2 is `--cgroup-root` of the
/// kubelet, 3 and 4 are nodes that run in containers themselves.
const KUBEPODS_DEPTH: u32 = 4;

/// The node's kubepods cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubepods {
    /// Its directory.
    pub path: PathBuf,
    /// The same below the hierarchy's mount, for [`locate`].
    pub relative: String,
    /// Its id.
    pub id: CgroupId,
}

/// A directory below kubepods, kubepods itself included.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) id: CgroupId,
    pub(crate) path: PathBuf,
    /// The pod or container whose own cgroup this is.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Inode and number of links before its entries were read; `None` for containers, whose entries are not read.
    /// A directory's links change with its subdirectories.
    pub(crate) state: Option<(u64, u64)>,
}

impl Kubepods {
    /// Finds it below the mount at `root`: the shallowest directory of such a name, of several the one that has pods.
    pub fn find(root: &Path) -> Result<Self, CollectError> {
        let mut level = vec![(root.to_owned(), String::new())];
        for _ in 0..KUBEPODS_DEPTH {
            let mut found = Vec::new();
            let mut next = Vec::new();
            for (path, relative) in &level {
                for (entry, name) in subdirectories(path) {
                    let relative = format!("{relative}/{name}");
                    if is_kubepods(&name) {
                        found.push(Self { path: entry.path(), relative, id: CgroupId(entry.ino()) });
                    } else {
                        next.push((entry.path(), relative));
                    }
                }
            }
            found.sort_by(|a, b| a.relative.cmp(&b.relative));
            let with_pods = found.iter().position(Self::has_pods).unwrap_or_default();
            if let Some(kubepods) = found.into_iter().nth(with_pods) {
                return Ok(kubepods);
            }
            level = next;
        }
        Err(CollectError::NoKubepods { root: root.display().to_string() })
    }

    /// Whether this very cgroup is still there.
    pub(crate) fn is_current(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.id.0)
    }

    fn has_pods(&self) -> bool {
        self.directories().iter().any(|directory| directory.identity.is_some())
    }

    /// All directories down to the containers. One that vanishes meanwhile is left out.
    pub(crate) fn directories(&self) -> Vec<Directory> {
        let mut all = Vec::new();
        let top = Directory { id: self.id, path: self.path.clone(), identity: None, state: None };
        descend(top, &self.relative, 0, &mut all);
        all
    }
}

/// Appends a directory and what is below it.
fn descend(mut directory: Directory, relative: &str, depth: u32, all: &mut Vec<Directory>) {
    let is_container = directory.identity.as_ref().is_some_and(|identity| identity.container.is_some());
    if depth < CONTAINER_DEPTH && !is_container {
        directory.state = state(&directory.path).ok();
        for (entry, name) in subdirectories(&directory.path) {
            let relative = format!("{relative}/{name}");
            let identity = locate(&relative)
                .filter(|location| location.below == 0)
                .map(|location| Arc::new(location.identity));
            let below = Directory { id: CgroupId(entry.ino()), path: entry.path(), identity, state: None };
            descend(below, &relative, depth + 1, all);
        }
    }
    all.push(directory);
}

/// Inode and links of a directory.
pub(crate) fn state(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.ino(), metadata.nlink()))
}

/// The subdirectories with names that are text; an unreadable directory has none.
fn subdirectories(path: &Path) -> impl Iterator<Item = (DirEntry, String)> {
    fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name();
        let name = OsStr::to_str(&name).filter(|_| is_directory)?.to_owned();
        Some((entry, name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

    fn tree(directories: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        root
    }

    fn found(directories: &[&str]) -> Option<String> {
        Kubepods::find(tree(directories).path()).ok().map(|kubepods| kubepods.relative)
    }

    #[test]
    fn kubepods_is_found_where_kubelets_put_it() {
        assert_eq!(found(&["system.slice", "kubepods.slice"]).as_deref(), Some("/kubepods.slice"));
        assert_eq!(found(&["kubepods/burstable"]).as_deref(), Some("/kubepods"));
        let kind = "kubelet.slice/kubelet-kubepods.slice";
        assert_eq!(found(&[kind]).as_deref(), Some("/kubelet.slice/kubelet-kubepods.slice"));
        assert_eq!(
            found(&["docker/abc/kubelet/kubepods"]).as_deref(),
            Some("/docker/abc/kubelet/kubepods"),
            "a node in a container"
        );
        assert_eq!(found(&["a/b/c/d/kubepods"]), None);
        assert_eq!(found(&["system.slice"]), None);
    }

    #[test]
    fn the_shallowest_counts_and_then_the_one_with_pods() {
        assert_eq!(found(&["kubepods", "docker/abc/kubepods/x"]).as_deref(), Some("/kubepods"));
        let switched = [&format!("kubepods.slice/{POD}")[..], "kubepods"];
        assert_eq!(found(&switched).as_deref(), Some("/kubepods.slice"));
    }

    #[test]
    fn directories_end_at_the_containers() {
        let id = "a".repeat(64);
        let root =
            tree(&[&format!("kubepods/burstable/{POD}/{id}/deeper"), &format!("kubepods/{POD}2/{id}")]);
        let kubepods = Kubepods::find(root.path()).unwrap();
        assert!(kubepods.is_current());
        let all = kubepods.directories();
        let names: Vec<_> = all.iter().map(|d| d.path.file_name().unwrap().to_str().unwrap()).collect();
        assert!(!names.contains(&"deeper"), "{names:?}");
        let identified: Vec<_> = all.iter().filter_map(|d| d.identity.as_deref()).collect();
        assert_eq!(
            identified.len(),
            2,
            "a pod and its container; the second pod's name is no UID: {identified:?}"
        );
        let inode = fs::metadata(&kubepods.path).unwrap().ino();
        assert!(all.iter().any(|d| d.id == CgroupId(inode)), "kubepods itself is among them");
    }
}
