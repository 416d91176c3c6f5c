//! Where the kubelet keeps its pods: the kubepods cgroups of a node, found by name below the hierarchy's mount.
//!
//! Usually there is one. After a change of the cgroup driver there are two, and pods may run in both until the node is
//! drained, so all of a level are taken.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::tree::{self, Directory, subdirectories};
use super::{CgroupId, CollectError};
use crate::identify::{is_class, is_kubepods, locate};

/// Levels below the mount at which kubepods is looked for: 1 is usual, 2 is `--cgroup-root` of the kubelet, 3 to 5
/// are nodes that run in containers themselves.
const KUBEPODS_DEPTH: u32 = 5;
/// Levels below the mount at which containers outside kubepods are looked for: `/system.slice/containerd.service/<name>`
/// is 3, `/<name>` is 1.
const MISMATCH_DEPTH: u32 = 3;

/// A kubepods cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubepods {
    /// Its directory.
    pub path: PathBuf,
    /// The same below the hierarchy's mount, for [`locate`].
    pub relative: String,
    /// Its id.
    pub id: CgroupId,
}

/// What is known of the pods directly below a kubepods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pods {
    None,
    /// None of them has a process.
    Empty,
    Populated,
}

impl Kubepods {
    /// Finds the kubepods cgroups below the mount at `root`: all of the shallowest level that has running pods, else
    /// of the shallowest that has pods, else of the shallowest that has a directory of the name.
    pub fn find(root: &Path) -> Result<Vec<Self>, CollectError> {
        let mut best: Option<(Pods, Vec<Self>)> = None;
        let mut level = vec![(root.to_owned(), String::new())];
        for _ in 0..KUBEPODS_DEPTH {
            let mut found = Vec::new();
            let mut next = Vec::new();
            for (path, relative) in &level {
                for (entry, name) in subdirectories(path) {
                    let relative = format!("{relative}/{name}");
                    // What is below a pod belongs to its containers, a cluster in a container included.
                    if locate(&relative).is_some() {
                        continue;
                    }
                    if is_kubepods(&name) {
                        let id = CgroupId(std::os::unix::fs::DirEntryExt::ino(&entry));
                        found.push(Self { path: entry.path(), relative: relative.clone(), id });
                    }
                    next.push((entry.path(), relative));
                }
            }
            found.sort_by(|a, b| a.relative.cmp(&b.relative));
            if let Some(pods) = found.iter().map(Self::pods).max()
                && best.as_ref().is_none_or(|(most, _)| pods > *most)
            {
                best = Some((pods, found));
            }
            if best.as_ref().is_some_and(|(pods, _)| *pods == Pods::Populated) {
                break;
            }
            level = next;
        }
        best.map(|(_, found)| found)
            .ok_or_else(|| CollectError::NoKubepods { root: root.display().to_string() })
    }

    /// Whether this very cgroup is still there.
    pub(crate) fn is_current(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.id.0)
    }

    /// The pods that are directly below or below a quality-of-service class.
    fn pods(&self) -> Pods {
        let mut most = Pods::None;
        for (entry, name) in subdirectories(&self.path) {
            if most == Pods::Populated {
                break;
            }
            let path = format!("{}/{name}", self.relative);
            if locate(&path).is_some() {
                most = most.max(populated(&entry.path()));
            } else if is_class(&name) {
                for (pod, name) in subdirectories(&entry.path()) {
                    if most == Pods::Populated {
                        break;
                    }
                    if locate(&format!("{path}/{name}")).is_some() {
                        most = most.max(populated(&pod.path()));
                    }
                }
            }
        }
        most
    }
}

/// A pod that was left behind by a change of the cgroup driver has no process.
fn populated(pod: &Path) -> Pods {
    match fs::read(pod.join("cgroup.events")) {
        Ok(text) if super::files::value(&text, "populated") == Some(0) => Pods::Empty,
        Ok(_) => Pods::Populated,
        Err(_) => Pods::Empty,
    }
}

/// Removed cgroups below kubepods that the kernel still holds.
pub(crate) fn dying(kubepods: &[Kubepods]) -> u64 {
    let of = |kubepods: &Kubepods| {
        let text = fs::read(kubepods.path.join("cgroup.stat")).ok()?;
        super::files::value(&text, "nr_dying_descendants")
    };
    kubepods.iter().filter_map(of).sum()
}

/// Container cgroups outside kubepods: the kubelet uses the systemd driver and the runtime does not, so that it takes
/// `<slice>:cri-containerd:<id>` for a literal name.
pub(crate) fn outside_kubepods(root: &Path) -> Vec<Directory> {
    let mut found = Vec::new();
    let mut level = vec![(root.to_owned(), String::new())];
    for _ in 0..MISMATCH_DEPTH {
        let mut next = Vec::new();
        for (path, relative) in level {
            for (entry, name) in subdirectories(&path) {
                let relative = format!("{relative}/{name}");
                if is_kubepods(&name) {
                    continue;
                }
                match tree::identity(&relative) {
                    Some(identity) => found.push(Directory::container(&entry, identity)),
                    None => next.push((entry.path(), relative)),
                }
            }
        }
        level = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::tree::tests::{POD, tree};

    fn found(directories: &[&str], populated: &[&str]) -> Vec<String> {
        let root = tree(directories);
        for pod in populated {
            fs::write(root.path().join(pod).join("cgroup.events"), "populated 1\nfrozen 0\n").unwrap();
        }
        let found = Kubepods::find(root.path()).unwrap_or_default();
        found.into_iter().map(|kubepods| kubepods.relative).collect()
    }

    #[test]
    fn kubepods_is_found_where_kubelets_put_it() {
        assert_eq!(found(&["system.slice", "kubepods.slice"], &[]), ["/kubepods.slice"]);
        assert_eq!(found(&["kubepods/burstable"], &[]), ["/kubepods"]);
        let kind = "kubelet.slice/kubelet-kubepods.slice";
        assert_eq!(found(&[kind], &[]), ["/kubelet.slice/kubelet-kubepods.slice"]);
        let nested = "docker/abc/kubelet/kubepods";
        assert_eq!(found(&[nested], &[]), ["/docker/abc/kubelet/kubepods"], "a node in a container");
        assert_eq!(found(&["a/b/c/d/e/kubepods"], &[]), [""; 0]);
        assert_eq!(found(&["system.slice"], &[]), [""; 0]);
    }

    #[test]
    fn kubepods_below_another_directory_of_the_name_is_the_one_with_pods() {
        let pod = format!("kubepods/kubepods/burstable/{POD}");
        assert_eq!(found(&[&pod], &[]), ["/kubepods/kubepods"]);
        assert_eq!(found(&[&pod], &[&pod]), ["/kubepods/kubepods"]);
        assert_eq!(found(&["kubepods/kubepods"], &[]), ["/kubepods"], "no pods yet");
    }

    #[test]
    fn a_cluster_inside_a_pod_is_not_the_nodes_own() {
        let inner = format!("kubepods/{POD}/{}/kubepods/x", "a".repeat(64));
        assert_eq!(found(&[&inner], &[]), ["/kubepods"]);
        let docker = format!("docker/abc/kubepods/{POD}");
        let own = format!("kubepods/{POD}");
        assert_eq!(found(&[&docker, &own], &[&docker, &own]), ["/kubepods"], "the shallowest with pods");
    }

    #[test]
    fn after_a_change_of_the_cgroup_driver_both_are_read() {
        let old = format!("kubepods/burstable/{POD}");
        let new = format!("kubepods.slice/kubepods-{}.slice", POD.replace('-', "_"));
        let both = ["/kubepods", "/kubepods.slice"];
        assert_eq!(found(&[&old, &new], &[&old, &new]), both, "pods of both drivers run");
        assert_eq!(found(&[&old, &new], &[&new]), both, "those left behind have no processes");
        assert_eq!(found(&[&old, "kubepods.slice"], &[]), both, "the new one has no pods yet");
    }

    #[test]
    fn a_stale_kubepods_does_not_hide_a_deeper_one_with_running_pods() {
        let stale = format!("kubepods/{POD}");
        let live = format!("kubelet/kubepods/{POD}");
        assert_eq!(found(&[&stale, &live], &[&live]), ["/kubelet/kubepods"]);
    }

    #[test]
    fn containers_outside_kubepods_are_found_by_their_literal_names() {
        let name =
            format!("kubepods-burstable-{}.slice:cri-containerd:{}", POD.replace('-', "_"), "a".repeat(64));
        for below in ["", "system.slice/containerd.service/", "system.slice/"] {
            let root = tree(&[&format!("{below}{name}/deeper"), "kubepods.slice", "system.slice/x.service"]);
            let found = outside_kubepods(root.path());
            let [directory] = &found[..] else { panic!("{below}: {found:?}") };
            assert!(directory.path.ends_with(&name));
            assert!(directory.identity.as_ref().unwrap().container.is_some());
        }
        assert!(outside_kubepods(tree(&["system.slice/docker.service"]).path()).is_empty());
    }
}
