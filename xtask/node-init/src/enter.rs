//! Joins a cgroup, gives up rights, and becomes another program.

use std::{collections::BTreeMap, fs, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result, bail};
use rustix::{
    io::Errno,
    thread::{CapabilitySet, remove_capability_from_bounding_set, set_no_new_privs},
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use waggle_node_init::control::Rights;

use crate::cgroups;

/// The number of the last capability that the kernel knows.
const LAST: &str = "/proc/sys/kernel/cap_last_cap";
/// The number of `bpf(2)` (`arch/x86/entry/syscalls/syscall_64.tbl`, `include/uapi/asm-generic/unistd.h`).
const SYS_BPF: i64 = if cfg!(target_arch = "x86_64") { 321 } else { 280 };

/// Returns only with an error.
pub fn run(cgroup: &str, rights: Rights, program: &[String]) -> Result<()> {
    let [path, args @ ..] = program else { bail!("no program to run in cgroup {cgroup}") };
    cgroups::join(cgroup)?;
    match rights {
        Rights::Root => {}
        Rights::NoCapabilities => keep(CapabilitySet::empty())?,
        Rights::Agent => keep(CapabilitySet::BPF | CapabilitySet::PERFMON)?,
        Rights::NoBpf => {
            keep(CapabilitySet::BPF | CapabilitySet::PERFMON)?;
            refuse_bpf()?;
        }
    }
    Err(Command::new(path).args(args).exec()).with_context(|| format!("cannot run {path}"))
}

/// Removes all other capabilities from the bounding set: the program that is executed next does not get them.
fn keep(kept: CapabilitySet) -> Result<()> {
    let last = fs::read_to_string(LAST).with_context(|| format!("cannot read {LAST}"))?;
    let last: u32 = last.trim().parse().with_context(|| format!("cannot parse {LAST}: {last}"))?;
    let all = (0..=last).map(|number| CapabilitySet::from_bits_retain(1 << number));
    for capability in all.filter(|one| !kept.contains(*one)) {
        remove_capability_from_bounding_set(capability)
            .with_context(|| format!("cannot drop {capability:?} from the bounding set"))?;
    }
    Ok(())
}

/// What a container runtime's seccomp profile does to `bpf(2)`.
fn refuse_bpf() -> Result<()> {
    let refuse = SeccompAction::Errno(Errno::PERM.raw_os_error().unsigned_abs());
    let architecture = std::env::consts::ARCH.try_into().context("no seccomp for this architecture")?;
    let rules = BTreeMap::from([(SYS_BPF, Vec::new())]);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture);
    let filter: BpfProgram = filter.and_then(TryInto::try_into).context("cannot compile a seccomp filter")?;
    set_no_new_privs(true).context("cannot set no_new_privs")?;
    seccompiler::apply_filter(&filter).context("cannot install a seccomp filter")
}
