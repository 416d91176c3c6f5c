//! From a cgroup path to the pod and container that it belongs to. Pure: no I/O, no names, no Kubernetes.

use std::fmt;

/// A pod's UID as the cgroup path has it: lower-case, dashes instead of underscores; 36 characters for API pods,
/// 32 hex digits without dashes for static pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(Box<str>);

/// A container id: the 64 hex digits of the runtime, as 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId([u8; 32]);

/// What a cgroup path says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The pod.
    pub pod: PodUid,
    /// The container, or `None` for the pod's own cgroup.
    pub container: Option<ContainerId>,
}

impl PodUid {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ContainerId {
    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// From 32 bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl From<&str> for PodUid {
    fn from(text: &str) -> Self {
        Self(text.replace('_', "-").into_boxed_str())
    }
}
