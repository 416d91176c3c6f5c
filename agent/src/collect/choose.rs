//! Gathers the facts about a node, lets `select` decide, and opens what was decided.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::adaptive::Adaptive;
use super::bpf::{BpfWalk, LEAST_SLOTS, OpenError};
use super::cgroupfs::Cgroupfs;
use super::select::{Decision, Facts, Mount, Preference, Reason, Refusal, decide};
use super::{CollectError, Collector};

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
    /// The node has no cgroup2 hierarchy there.
    #[error(
        "{root} is no cgroup2 mount (cgroup-v1): boot the node with the unified hierarchy, or name the mount with --cgroup-root"
    )]
    NoCgroup2 {
        /// The directory.
        root: String,
    },
    /// There are no pods' cgroups yet. Worth trying again.
    #[error(transparent)]
    Collect(#[from] CollectError),
    /// `--collector bpf`, and the node does not allow it.
    #[error("the eBPF collector was asked for and cannot run: {0}")]
    Refused(Refusal),
}

/// Chooses and opens a collector, and takes its first snapshot.
///
/// Whatever speaks against the eBPF walk is in the collector's [`Collector::refusals`], by name. Needs `CAP_BPF` and
/// `CAP_PERFMON` for the walk; the collector goes on working when they are dropped. Capabilities belong to threads:
/// call this, then [`crate::privilege::drop_all`], then start threads.
///
/// [`ChooseError::Collect`] with [`CollectError::NoKubepods`] means that the kubelet has made no cgroups yet: try again.
pub fn choose(options: &Options) -> Result<Box<dyn Collector>, ChooseError> {
    let Options { cgroup_root, preference } = options;
    let mount = mount(cgroup_root);
    let root = if mount == Mount::Hybrid { cgroup_root.join("unified") } else { cgroup_root.clone() };
    let refusal = match decide(Facts { preference: *preference, mount }) {
        Decision::Refuse => return Err(ChooseError::NoCgroup2 { root: cgroup_root.display().to_string() }),
        Decision::Files(why) if mount == Mount::Hybrid => Refusal::new(Reason::CgroupHybrid, why),
        Decision::Files(why) => Refusal::new(Reason::Disabled, why),
        Decision::TryBpf => match walk(&root)? {
            Ok(walk) => return Ok(walk),
            Err(refusal) => refusal,
        },
    };
    if *preference == Preference::Bpf {
        return Err(ChooseError::Refused(refusal));
    }
    tracing::info!(%refusal, "cgroups are read from files");
    Ok(Box::new(Cgroupfs::open(&root, vec![refusal])?))
}

fn walk(root: &Path) -> Result<Result<Box<dyn Collector>, Refusal>, CollectError> {
    let walk = match BpfWalk::open(root, LEAST_SLOTS) {
        Ok(walk) => walk,
        Err(OpenError::Refused(refusal)) => return Ok(Err(refusal)),
        Err(OpenError::Collect(error)) => return Err(error),
    };
    let root: Arc<Path> = root.into();
    let open_files = move || -> Result<Box<dyn Collector>, CollectError> {
        Ok(Box::new(Cgroupfs::open(&root, Vec::new())?))
    };
    let mut collector = Adaptive::new(Box::new(walk), Box::new(open_files), processors());
    collector.settle()?;
    Ok(Ok(Box::new(collector)))
}

/// Processors of the machine, whatever this process may use of them.
fn processors() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
    (lines.count() as u64).max(1)
}

/// Magic numbers of `statfs`, from `linux/magic.h`.
const CGROUP2: i128 = 0x6367_7270;
const TMPFS: i128 = 0x0102_1994;

fn mount(root: &Path) -> Mount {
    match filesystem(root) {
        Some(CGROUP2) => Mount::V2,
        Some(TMPFS) if filesystem(&root.join("unified")) == Some(CGROUP2) => Mount::Hybrid,
        Some(TMPFS) => Mount::V1,
        _ => Mount::Other,
    }
}

fn filesystem(path: &Path) -> Option<i128> {
    rustix::fs::statfs(path).ok().map(|found| i128::from(found.f_type))
}
