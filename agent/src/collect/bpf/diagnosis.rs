//! What a refused `bpf()` call means, from what this process may do: a missing capability, a seccomp filter, `SELinux`.
//! Whichever call fails first, the text names the cause and the remedy.

use std::fs;
use std::io;

use rustix::thread::{CapabilitySet, capabilities};

use crate::collect::{CollectError, Reason, Refusal};

/// What this process may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "four independent facts, not states")]
struct Rights {
    bpf: bool,
    perfmon: bool,
    /// A seccomp filter is installed.
    filtered: bool,
    selinux: bool,
}

impl Rights {
    fn of_process() -> Self {
        // A process that cannot read its own capabilities has none that matter.
        let held = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
        // `CAP_SYS_ADMIN` implies both (`bpf_capable`, `perfmon_capable` in `include/linux/capability.h`).
        let admin = held.contains(CapabilitySet::SYS_ADMIN);
        let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        Self {
            bpf: admin || held.contains(CapabilitySet::BPF),
            perfmon: admin || held.contains(CapabilitySet::PERFMON),
            filtered: status.lines().any(|line| line == "Seccomp:\t2"),
            selinux: fs::metadata("/sys/fs/selinux/enforce").is_ok(),
        }
    }

    fn explain(self, error: &io::Error) -> &'static str {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        match self {
            _ if !denied => "see the kernel's log",
            Self { bpf: false, perfmon: false, .. } => {
                "CAP_BPF and CAP_PERFMON are missing: add both to securityContext.capabilities and run as uid 0"
            }
            Self { bpf: false, .. } => "CAP_BPF is missing: add it to securityContext.capabilities",
            Self { perfmon: false, .. } => "CAP_PERFMON is missing: add it to securityContext.capabilities",
            // SELinux answers EACCES, seccomp filters EPERM.
            Self { selinux: true, .. }
                if error.raw_os_error() == Some(rustix::io::Errno::ACCESS.raw_os_error()) =>
            {
                "SELinux denies it: set seLinuxOptions.type to spc_t, or allow the class bpf in a policy module"
            }
            Self { filtered: true, .. } => {
                "a seccomp profile denies it: use RuntimeDefault of containerd 1.7 or newer, or a Localhost profile that \
                 allows bpf()"
            }
            Self { selinux: true, .. } => {
                "the capabilities are there, a security module denies it: set seLinuxOptions.type to spc_t"
            }
            _ => {
                "the capabilities are there, a security module or a user namespace denies it: set hostUsers to true"
            }
        }
    }
}

/// A refusal of `what` by the kernel.
pub(super) fn refused(reason: Reason, what: &str, error: &io::Error) -> Refusal {
    Refusal::new(
        reason,
        format!("the kernel refused {what}: {error}; {}", Rights::of_process().explain(error)),
    )
}

/// A refusal of the link.
pub(super) fn link_refused(error: &CollectError) -> Refusal {
    match error {
        CollectError::Read { what, source } => refused(Reason::LinkRefused, what, source),
        other => Refusal::new(Reason::LinkRefused, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Rights = Rights { bpf: true, perfmon: true, filtered: false, selinux: false };

    #[test]
    fn the_cause_is_named_whichever_call_fails() {
        let eperm = || io::Error::from_raw_os_error(1);
        let eacces = || io::Error::from_raw_os_error(13);
        for (rights, error, text) in [
            (
                Rights { bpf: false, perfmon: false, filtered: true, selinux: true },
                eperm(),
                "CAP_BPF and CAP_PERFMON",
            ),
            (Rights { bpf: false, ..ALL }, eperm(), "CAP_BPF is missing"),
            (Rights { perfmon: false, ..ALL }, eacces(), "CAP_PERFMON is missing"),
            (Rights { selinux: true, filtered: true, ..ALL }, eacces(), "SELinux denies it"),
            (Rights { selinux: true, filtered: true, ..ALL }, eperm(), "seccomp"),
            (Rights { filtered: true, ..ALL }, eperm(), "seccomp"),
            (ALL, eperm(), "hostUsers"),
            (ALL, io::Error::from_raw_os_error(12), "kernel's log"),
        ] {
            let found = rights.explain(&error);
            assert!(found.contains(text), "{rights:?} {error}: {found}");
        }
        let refusal = refused(Reason::MapRefused, "a map", &eperm());
        assert!(refusal.to_string().starts_with("map-refused: the kernel refused a map: "), "{refusal}");
    }
}
