//! Which collector runs: gathers the facts about a node, decides, and opens what was decided.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::bpf::{BpfWalk, LEAST_SLOTS};
use super::cgroupfs::{Cgroupfs, MEMORY_PACE};
use super::fallback::{OpenFiles, WalkWithFallback};
use super::{Collector, Reason, Refusal, clock, processors};

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preference {
    /// The eBPF walk if the node allows it, otherwise files.
    #[default]
    Auto,
    /// The eBPF walk or nothing.
    Bpf,
    /// Files.
    Cgroupfs,
}

/// Where to look and what to prefer.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where cgroup2 is mounted, or a directory in it.
    pub cgroup_root: PathBuf,
    /// What the user asked for.
    pub preference: Preference,
}

/// No collector can run.
#[derive(Debug, thiserror::Error)]
pub enum ChooseError {
    /// Nothing is mounted there that has cgroups.
    #[error(
        "{root} is not a cgroup mount: mount the host's /sys/fs/cgroup there or name it with --cgroup-root"
    )]
    NotCgroups {
        /// The directory.
        root: String,
    },
    /// Memory of pods is not on a cgroup2 hierarchy. Only a reboot of the node can change that.
    #[error("no collector can run on this node: {0}")]
    Unsupported(Refusal),
    /// `--collector bpf`, and the node does not allow it.
    #[error("the eBPF collector was requested and cannot run: {0}")]
    Refused(Refusal),
}

/// What is mounted at the cgroup root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mount {
    /// A cgroup2 hierarchy, or a directory in one.
    V2,
    /// A tmpfs of v1 hierarchies, with a cgroup2 at `unified` that has the memory controller or not.
    Hybrid { memory: bool },
    /// v1 hierarchies only.
    V1,
    /// Something else.
    Other,
}

/// What the facts allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Decision {
    /// Try the eBPF walk.
    TryBpf,
    /// Files, by setting.
    Files,
    /// Nothing: the memory of pods is not on a cgroup2 hierarchy.
    Unsupported,
    /// Nothing: there are no cgroups at all.
    NotCgroups,
}

const fn decide(mount: Mount, preference: Preference) -> Decision {
    match (mount, preference) {
        (Mount::Other, _) => Decision::NotCgroups,
        (Mount::V1 | Mount::Hybrid { memory: false }, _) => Decision::Unsupported,
        (_, Preference::Cgroupfs) => Decision::Files,
        (Mount::V2 | Mount::Hybrid { memory: true }, _) => Decision::TryBpf,
    }
}

/// Chooses a collector and loads what it needs. The node may have no kubepods yet: snapshots fail with
/// [`CollectError::NoKubepods`](super::CollectError::NoKubepods) until it has.
///
/// Whatever rules out the eBPF walk is in the collector's [`Collector::refusals`], by name. Needs `CAP_BPF` and
/// `CAP_PERFMON` for the walk; the collector goes on working when they are dropped. Capabilities belong to threads:
/// call this, then [`crate::privilege::drop_all`], then start threads.
pub fn choose(options: &Options) -> Result<Box<dyn Collector>, ChooseError> {
    let Options { cgroup_root, preference } = options;
    let mount = mount(cgroup_root);
    let root =
        if matches!(mount, Mount::Hybrid { .. }) { cgroup_root.join("unified") } else { cgroup_root.clone() };
    let refusal = match decide(mount, *preference) {
        Decision::NotCgroups => {
            return Err(ChooseError::NotCgroups { root: cgroup_root.display().to_string() });
        }
        Decision::Unsupported => return Err(ChooseError::Unsupported(unsupported(mount))),
        Decision::Files => Refusal::new(Reason::Disabled, "by the setting --collector cgroupfs"),
        Decision::TryBpf => match BpfWalk::open(&root, LEAST_SLOTS) {
            Ok(walk) => return Ok(with_fallback(walk, &root)),
            Err(refusal) => refusal,
        },
    };
    if *preference == Preference::Bpf {
        return Err(ChooseError::Refused(refusal));
    }
    tracing::info!(%refusal, "cgroups are read from files");
    Ok(Box::new(Cgroupfs::new(&root, vec![refusal], MEMORY_PACE)))
}

fn unsupported(mount: Mount) -> Refusal {
    let remedy =
        "boot the node with systemd.unified_cgroup_hierarchy=1; Kubernetes 1.35 and newer refuse cgroup v1";
    match mount {
        Mount::Hybrid { .. } => {
            let detail = format!("the memory of pods is on a v1 hierarchy beside cgroup2: {remedy}");
            Refusal::new(Reason::CgroupHybrid, detail)
        }
        _ => Refusal::new(Reason::CgroupV1, format!("the node has cgroup v1 only: {remedy}")),
    }
}

fn with_fallback(walk: BpfWalk, root: &Path) -> Box<dyn Collector> {
    let root: Arc<Path> = root.into();
    let open_files: OpenFiles = Box::new(move || Box::new(Cgroupfs::new(&root, Vec::new(), MEMORY_PACE)));
    Box::new(WalkWithFallback::new(Box::new(walk), open_files, Box::new(clock::boot), processors()))
}

/// Magic numbers of `statfs`, from `linux/magic.h`.
const CGROUP2: i128 = 0x6367_7270;
const TMPFS: i128 = 0x0102_1994;

fn mount(root: &Path) -> Mount {
    let unified = root.join("unified");
    match filesystem(root) {
        Some(CGROUP2) => Mount::V2,
        Some(TMPFS) if filesystem(&unified) == Some(CGROUP2) => {
            let controllers = fs::read_to_string(unified.join("cgroup.controllers")).unwrap_or_default();
            Mount::Hybrid { memory: controllers.split_whitespace().any(|name| name == "memory") }
        }
        Some(TMPFS) => Mount::V1,
        _ => Mount::Other,
    }
}

fn filesystem(path: &Path) -> Option<i128> {
    rustix::fs::statfs(path).ok().map(|found| i128::from(found.f_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Preference; 3] = [Preference::Auto, Preference::Bpf, Preference::Cgroupfs];

    #[test]
    fn facts_decide() {
        for preference in ALL {
            let expected =
                if preference == Preference::Cgroupfs { Decision::Files } else { Decision::TryBpf };
            assert_eq!(decide(Mount::V2, preference), expected);
            assert_eq!(decide(Mount::Hybrid { memory: true }, preference), expected);
            assert_eq!(decide(Mount::V1, preference), Decision::Unsupported);
            assert_eq!(decide(Mount::Other, preference), Decision::NotCgroups);
        }
    }

    /// With CPU alone every pod would be incomplete, so the agent must stay unready and report the reason.
    #[test]
    fn a_node_with_memory_on_v1_is_refused_by_name_with_the_remedy() {
        let mount = Mount::Hybrid { memory: false };
        for preference in ALL {
            assert_eq!(decide(mount, preference), Decision::Unsupported);
        }
        let refusal = unsupported(mount);
        assert_eq!(refusal.reason, Reason::CgroupHybrid);
        assert!(refusal.detail.contains("systemd.unified_cgroup_hierarchy=1"), "{refusal}");
        assert_eq!(unsupported(Mount::V1).reason, Reason::CgroupV1);
    }

    #[test]
    fn a_directory_that_is_no_mount_is_an_error_with_a_remedy() {
        let root = tempfile::tempdir().unwrap();
        let options = Options { cgroup_root: root.path().join("none"), preference: Preference::Auto };
        let error = choose(&options).err().unwrap();
        assert!(error.to_string().contains("--cgroup-root"), "{error}");
    }
}
