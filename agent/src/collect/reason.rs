//! Why the eBPF walk is not in use, or not for every field: stable names with a detail that ends in the remedy.

use std::fmt;

/// The names are stable: metric labels and messages carry them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// By setting.
    Disabled,
    /// Memory is on a v1 hierarchy.
    CgroupV1,
    /// v1 and v2 hierarchies are mixed, with memory on v1.
    CgroupHybrid,
    /// The kernel's BTF cannot be read.
    NoBtf,
    /// The kernel has no cgroup iterator.
    NoCgroupIter,
    /// The kernel's BTF lacks this field.
    FieldMissing(&'static str),
    /// The kernel refused a map.
    MapRefused,
    /// The kernel refused to load the program, for want of permission.
    LoadRefused,
    /// The kernel is locked down: programs may not read its memory.
    Lockdown,
    /// The verifier refused the program.
    VerifierRefused,
    /// The kernel refused the link.
    LinkRefused,
    /// The kernel refused an iterator, or walks failed repeatedly.
    IterRefused,
    /// A field of the walk differs from its file.
    ParityFailed(&'static str),
    /// The array is too small for the tree.
    Truncated,
    /// Containers have their cgroups outside kubepods.
    DriverMismatch,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::CgroupV1 => "cgroup-v1",
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
            Self::ParityFailed(field) => return write!(f, "parity-failed:{field}"),
            Self::Truncated => "truncated",
            Self::DriverMismatch => "driver-mismatch",
        })
    }
}

/// A reason, what exactly was seen, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// The name.
    pub reason: Reason,
    /// One line for people.
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
    fn the_names_are_those_of_the_contract() {
        for (reason, name) in [
            (Reason::Disabled, "disabled"),
            (Reason::CgroupV1, "cgroup-v1"),
            (Reason::CgroupHybrid, "cgroup-hybrid"),
            (Reason::NoBtf, "no-btf"),
            (Reason::NoCgroupIter, "no-cgroup-iter"),
            (Reason::FieldMissing("cgroup.kn"), "field-missing:cgroup.kn"),
            (Reason::MapRefused, "map-refused"),
            (Reason::LoadRefused, "load-refused"),
            (Reason::Lockdown, "lockdown"),
            (Reason::VerifierRefused, "verifier-refused"),
            (Reason::LinkRefused, "link-refused"),
            (Reason::IterRefused, "iter-refused"),
            (Reason::ParityFailed("cpu"), "parity-failed:cpu"),
            (Reason::Truncated, "truncated"),
            (Reason::DriverMismatch, "driver-mismatch"),
        ] {
            assert_eq!(reason.to_string(), name);
        }
    }
}
