//! The cgroup tree as directories: which directory has which id and belongs to which pod.
//!
//! A directory's inode number is the cgroup's id, and a directory's entries carry inode numbers: one bounded listing,
//! without a `stat` of each, resolves ids to paths.

use std::ffi::OsStr;
use std::fs::DirEntry;
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fs, io};

use super::CgroupId;
use super::kubepods::Kubepods;
use crate::identify::{Identity, is_class, locate};

/// What a listing found.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Parents before children.
    pub(crate) directories: Vec<Directory>,
    /// Directories that could not be read: what is below them is unknown, not absent.
    pub(crate) unreadable: usize,
}

/// A directory at or below kubepods.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    pub(crate) id: CgroupId,
    pub(crate) path: PathBuf,
    pub(crate) role: Role,
    /// The pod or container whose own cgroup this is.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Inode and number of links from before its entries were read; `None` where entries are not read. A directory's
    /// links change with its subdirectories.
    pub(crate) state: Option<(u64, u64)>,
}

/// What a directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Kubepods,
    /// A quality-of-service class directly below kubepods.
    Class,
    Pod,
    Container,
    /// None of these, such as a container's monitor.
    Other,
}

impl Directory {
    /// A container's.
    pub(crate) fn container(entry: &DirEntry, identity: Arc<Identity>) -> Self {
        let id = CgroupId(entry.ino());
        Self { id, path: entry.path(), role: Role::Container, identity: Some(identity), state: None }
    }
}

impl Listing {
    /// All directories from `kubepods` down to the containers. One that vanishes meanwhile is left out.
    pub(crate) fn of(kubepods: &[Kubepods]) -> Self {
        let mut listing = Self::default();
        for kubepods in kubepods {
            let Kubepods { path, relative, id } = kubepods;
            let top =
                Directory { id: *id, path: path.clone(), role: Role::Kubepods, identity: None, state: None };
            listing.descend(top, relative);
        }
        listing
    }

    /// Appends a directory and what is below it. Depth is counted from the pod: what is below a pod's children belongs
    /// to a container, and what is below anything else that is neither class nor pod holds no pods.
    fn descend(&mut self, mut directory: Directory, relative: &str) {
        let role = directory.role;
        if matches!(role, Role::Container | Role::Other) {
            self.directories.push(directory);
            return;
        }
        directory.state = state(&directory.path).ok();
        let entries = match fs::read_dir(&directory.path) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => {
                self.unreadable += 1;
                None
            }
        };
        self.directories.push(directory);
        for (entry, name) in entries.into_iter().flat_map(named_directories) {
            let relative = format!("{relative}/{name}");
            let identity = identity(&relative);
            let role = match (&identity, role) {
                (Some(identity), _) if identity.container.is_some() => Role::Container,
                (Some(_), _) => Role::Pod,
                (None, Role::Kubepods) if is_class(&name) => Role::Class,
                (None, _) => Role::Other,
            };
            let id = CgroupId(entry.ino());
            self.descend(Directory { id, path: entry.path(), role, identity, state: None }, &relative);
        }
    }

    /// Whether some pod has no container: one that is just being made, one in a sandbox, or one whose containers are
    /// elsewhere.
    pub(crate) fn has_pod_without_containers(&self) -> bool {
        // Parents come before children, and a pod's children directly after it.
        let pods = self.directories.iter().enumerate().filter(|(_, directory)| directory.role == Role::Pod);
        pods.into_iter().any(|(at, _)| {
            let below = self.directories.iter().skip(at + 1);
            !below
                .take_while(|directory| matches!(directory.role, Role::Container | Role::Other))
                .any(|directory| directory.role == Role::Container)
        })
    }
}

/// The pod or container whose own cgroup is at this path below the mount.
pub(crate) fn identity(relative: &str) -> Option<Arc<Identity>> {
    locate(relative).filter(|location| location.below == 0).map(|location| Arc::new(location.identity))
}

/// Inode and links of a directory.
pub(crate) fn state(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::metadata(path)?;
    Ok((metadata.ino(), metadata.nlink()))
}

/// The subdirectories with names that are text; an unreadable directory has none.
pub(crate) fn subdirectories(path: &Path) -> impl Iterator<Item = (DirEntry, String)> {
    fs::read_dir(path).into_iter().flat_map(named_directories)
}

fn named_directories(entries: fs::ReadDir) -> impl Iterator<Item = (DirEntry, String)> {
    entries.flatten().filter_map(|entry| {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let name = entry.file_name();
        let name = OsStr::to_str(&name).filter(|_| is_directory)?.to_owned();
        Some((entry, name))
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const POD: &str = "podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

    pub(crate) fn tree(directories: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for directory in directories {
            fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        root
    }

    fn listing(directories: &[&str]) -> Listing {
        let root = tree(directories);
        Listing::of(&Kubepods::find(root.path()).unwrap())
    }

    fn names(listing: &Listing) -> Vec<(&str, Role)> {
        let name = |d: &'_ Directory| (d.path.file_name().unwrap().to_str().unwrap().to_owned(), d.role);
        let mut all: Vec<_> = listing.directories.iter().map(name).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.into_iter().map(|(name, role)| (&*Box::leak(name.into_boxed_str()), role)).collect()
    }

    #[test]
    fn a_listing_ends_at_the_containers_whatever_the_class() {
        let id = "a".repeat(64);
        for class in ["", "burstable/"] {
            let monitor = format!("crio-conmon-{}.scope", "b".repeat(64));
            let listing = listing(&[
                &format!("kubepods/{class}{POD}/{id}/deeper"),
                &format!("kubepods/{class}{POD}/{monitor}/deeper"),
                "kubepods/other/deeper",
            ]);
            let found = names(&listing);
            let mut expected = vec![
                (&*id, Role::Container),
                (&*monitor, Role::Other),
                ("kubepods", Role::Kubepods),
                ("other", Role::Other),
                (POD, Role::Pod),
            ];
            if !class.is_empty() {
                expected.push(("burstable", Role::Class));
            }
            expected.sort_by(|a, b| a.0.cmp(b.0));
            assert_eq!(found, expected);
            assert!(!listing.has_pod_without_containers());
            assert_eq!(listing.unreadable, 0);
        }
    }

    #[test]
    fn a_pod_without_containers_is_noticed() {
        let id = "a".repeat(64);
        let other = POD.replace("podd6", "podaa");
        assert!(listing(&[&format!("kubepods/{POD}")]).has_pod_without_containers());
        assert!(
            listing(&[&format!("kubepods/{POD}/kata_overhead"), &format!("kubepods/{other}/{id}")])
                .has_pod_without_containers()
        );
        assert!(
            !listing(&[&format!("kubepods/{POD}/{id}"), &format!("kubepods/{other}/{id}")])
                .has_pod_without_containers()
        );
        assert!(!listing(&["kubepods"]).has_pod_without_containers());
    }

    #[test]
    fn ids_are_inode_numbers() {
        let root = tree(&[&format!("kubepods/{POD}")]);
        let found = Kubepods::find(root.path()).unwrap();
        assert!(found.iter().all(Kubepods::is_current));
        let listing = Listing::of(&found);
        let inode = fs::metadata(root.path().join("kubepods").join(POD)).unwrap().ino();
        assert!(listing.directories.iter().any(|d| d.id == CgroupId(inode) && d.identity.is_some()));
    }
}
