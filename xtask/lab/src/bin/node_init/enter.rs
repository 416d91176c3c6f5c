//! Steps into a cgroup, with no more capabilities than the agent's pod has if asked to, and becomes another program.

use std::{fs, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result, bail};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

use crate::cgroups;

/// The number of the last capability that the kernel knows.
const LAST: &str = "/proc/sys/kernel/cap_last_cap";

/// Returns only with an error.
pub fn run(cgroup: &str, confined: bool, program: &[String]) -> Result<()> {
    let [path, args @ ..] = program else { bail!("no program to run in cgroup {cgroup}") };
    cgroups::join(cgroup)?;
    if confined {
        let last = fs::read_to_string(LAST).with_context(|| format!("cannot read {LAST}"))?;
        let last: u32 = last.trim().parse().with_context(|| format!("{LAST} is odd: {last}"))?;
        let all = (0..=last).map(|number| CapabilitySet::from_bits_retain(1 << number));
        for capability in all.filter(|one| !(CapabilitySet::BPF | CapabilitySet::PERFMON).contains(*one)) {
            remove_capability_from_bounding_set(capability)
                .with_context(|| format!("cannot drop {capability:?} from the bounding set"))?;
        }
    }
    Err(Command::new(path).args(args).exec()).with_context(|| format!("cannot run {path}"))
}
