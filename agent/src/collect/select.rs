//! Which collector runs, as a pure function of facts; and the names of the reasons against the better one.

use std::fmt;

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

/// What is mounted at the cgroup root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mount {
    /// A cgroup2 hierarchy, or a directory in one.
    V2,
    /// A tmpfs of v1 hierarchies with a cgroup2 at `unified`.
    Hybrid,
    /// v1 hierarchies only.
    V1,
    /// Something else.
    Other,
}

/// What is known before anything is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) preference: Preference,
    pub(crate) mount: Mount,
}

/// What the facts allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Try the eBPF walk.
    TryBpf,
    /// Files, for this reason.
    Files(&'static str),
    /// Nothing: the CPU and memory of pods are not on a cgroup2 hierarchy.
    Refuse,
}

/// The decision.
pub(crate) const fn decide(facts: Facts) -> Decision {
    match (facts.mount, facts.preference) {
        (Mount::V1 | Mount::Other, _) => Decision::Refuse,
        (_, Preference::Cgroupfs) => Decision::Files("--collector cgroupfs"),
        (Mount::Hybrid, _) => {
            Decision::Files("v1 hierarchies hold controllers; only what is on cgroup2 is reported")
        }
        (Mount::V2, _) => Decision::TryBpf,
    }
}

/// Why the eBPF walk is not in use. The names are stable: metric labels and messages carry them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// By setting.
    Disabled,
    /// v1 and v2 hierarchies are mixed.
    CgroupHybrid,
    /// The kernel's BTF cannot be read.
    NoBtf,
    /// The kernel has no cgroup iterator.
    NoCgroupIter,
    /// The kernel's BTF lacks this field.
    FieldMissing(&'static str),
    /// The kernel refused the map.
    MapRefused,
    /// The kernel refused to load the program, for want of permission.
    LoadRefused,
    /// The kernel is locked down: programs may not read its memory.
    Lockdown,
    /// The verifier refused the program.
    VerifierRefused,
    /// The kernel refused the link.
    LinkRefused,
    /// The kernel refused an iterator, or a walk failed again and again.
    IterRefused,
    /// The walk's values are not those of the files, or there was nothing to compare yet.
    ParityFailed,
    /// The array is too small for the tree.
    Truncated,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::CgroupHybrid => "cgroup-hybrid",
            Self::NoBtf => "no-btf",
            Self::NoCgroupIter => "no-cgroup-iter",
            Self::FieldMissing(name) => return write!(f, "field-missing:{name}"),
            Self::MapRefused => "map-refused",
            Self::LoadRefused => "load-refused",
            Self::Lockdown => "lockdown",
            Self::VerifierRefused => "verifier-refused",
            Self::LinkRefused => "link-refused",
            Self::IterRefused => "iter-refused",
            Self::ParityFailed => "parity-failed",
            Self::Truncated => "truncated",
        })
    }
}

/// A reason and what exactly was seen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The name.
    pub reason: Reason,
    /// For people: one line, or the first lines of the verifier's log.
    pub detail: String,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_decide() {
        let decided = |preference, mount| decide(Facts { preference, mount });
        for preference in [Preference::Auto, Preference::Bpf] {
            assert_eq!(decided(preference, Mount::V2), Decision::TryBpf);
            assert!(matches!(decided(preference, Mount::Hybrid), Decision::Files(_)));
        }
        assert!(matches!(decided(Preference::Cgroupfs, Mount::V2), Decision::Files(_)));
        for preference in [Preference::Auto, Preference::Bpf, Preference::Cgroupfs] {
            assert_eq!(decided(preference, Mount::V1), Decision::Refuse);
            assert_eq!(decided(preference, Mount::Other), Decision::Refuse);
        }
    }

    #[test]
    fn the_names_are_those_of_the_contract() {
        let names: Vec<_> = [
            Reason::Disabled,
            Reason::CgroupHybrid,
            Reason::NoBtf,
            Reason::NoCgroupIter,
            Reason::FieldMissing("cgroup.kn"),
            Reason::MapRefused,
            Reason::LoadRefused,
            Reason::Lockdown,
            Reason::VerifierRefused,
            Reason::LinkRefused,
            Reason::IterRefused,
            Reason::ParityFailed,
            Reason::Truncated,
        ]
        .iter()
        .map(Reason::to_string)
        .collect();
        assert_eq!(
            names,
            [
                "disabled",
                "cgroup-hybrid",
                "no-btf",
                "no-cgroup-iter",
                "field-missing:cgroup.kn",
                "map-refused",
                "load-refused",
                "lockdown",
                "verifier-refused",
                "link-refused",
                "iter-refused",
                "parity-failed",
                "truncated",
            ]
        );
    }
}
