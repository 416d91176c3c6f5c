//! Steps into a cgroup, with no more capabilities than the agent's pod has if asked to, and becomes another program.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result, bail};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::cgroups;

/// Returns only with an error.
pub fn run(cgroup: &str, confined: bool, program: &[String]) -> Result<()> {
    let [path, args @ ..] = program else { bail!("no program to run in cgroup {cgroup}") };
    cgroups::join(cgroup)?;
    if confined {
        let dropped = CapabilitySet::all().difference(CapabilitySet::BPF | CapabilitySet::PERFMON);
        for capability in dropped {
            remove_capability_from_bounding_set(capability)
                .with_context(|| format!("cannot drop {capability:?} from the bounding set"))?;
        }
    }
    Err(Command::new(path).args(args).exec()).with_context(|| format!("cannot run {path}"))
}
