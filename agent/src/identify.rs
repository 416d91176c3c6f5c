//! From a cgroup path to the pod and container that it belongs to. Pure: no I/O, no names, no Kubernetes.
//!
//! The kubelet names a pod's cgroup `pod<UID>`; the runtime names a container's by its id. How both are decorated
//! depends on the cgroup driver, the runtime and whatever the node itself runs in; [`locate`] knows the layouts.

use std::fmt;

/// A pod's UID as the cgroup path has it: lower-case, dashes instead of underscores; 36 characters for API pods,
/// 32 hex digits without dashes for static pods.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(Box<str>);

/// A container id: the 64 hex digits of the runtime, as 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId([u8; 32]);

/// A parsed cgroup path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The pod.
    pub pod: PodUid,
    /// The container, or `None` for the pod's own cgroup.
    pub container: Option<ContainerId>,
}

/// An identity and how far above the path's end it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The pod, and the container if the path is inside one.
    pub identity: Identity,
    /// Components below the one that names the pod or container; 0: the path is that very cgroup.
    pub below: usize,
}

/// Whether `component` is a name that the kubelet gives the root of all pods.
pub fn is_kubepods(component: &str) -> bool {
    component == "kubepods" || component == "kubepods.slice" || component.ends_with("-kubepods.slice")
}

/// Whether `component` is a name that the kubelet gives the cgroup of a quality-of-service class: `burstable`,
/// `kubepods-besteffort.slice`, `kubelet-kubepods-burstable.slice`.
pub fn is_class(component: &str) -> bool {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let name = name.rsplit_once("kubepods-").map_or(name, |(_, last)| last);
    matches!(name, "burstable" | "besteffort")
}

/// Finds pod and container of a cgroup path, `None` if it belongs to no pod.
///
/// In order: the **last** kubepods component (a node may itself run in a container), the first component below it
/// that names a pod, the first below that which names a container. What lies below a container is part of it.
///
/// ```
/// use waggle_agent::identify::locate;
///
/// let pod = locate("/kubepods/burstable/podd6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b").unwrap();
/// assert_eq!(pod.identity.pod.as_str(), "d6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b");
/// assert!(locate("/system.slice/sshd.service").is_none());
/// ```
pub fn locate(path: &str) -> Option<Location> {
    let components: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(kubepods) = components.iter().rposition(|part| is_kubepods(part)) {
        let below = components.get(kubepods + 1..)?;
        let (at, pod) = below.iter().enumerate().find_map(|(at, part)| Some((at, pod_uid(part)?)))?;
        let inside = below.get(at + 1..)?;
        let container = inside.iter().enumerate().find_map(|(at, part)| Some((at, container_id(part)?)));
        return Some(match container {
            Some((at, id)) => Location {
                identity: Identity { pod, container: Some(id) },
                below: inside.len().saturating_sub(at + 1),
            },
            None => Location { identity: Identity { pod, container: None }, below: inside.len() },
        });
    }
    components.iter().enumerate().find_map(|(at, part)| {
        Some(Location { identity: mismatched(part)?, below: components.len().saturating_sub(at + 1) })
    })
}

/// Kubelet with the systemd driver, runtime without: one literal directory
/// `kubepods-…-pod<uid>.slice:cri-containerd:<id>`.
fn mismatched(component: &str) -> Option<Identity> {
    let (slice, rest) = component.split_once(':')?;
    if !slice.starts_with("kubepods-") && !slice.contains("-kubepods-") {
        return None;
    }
    Some(Identity { pod: pod_uid(slice)?, container: Some(container_id(rest)?) })
}

/// `(^|-)pod<uid>(.slice)?`
fn pod_uid(component: &str) -> Option<PodUid> {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let uid = if let Some(uid) = name.strip_prefix("pod") { uid } else { name.rsplit_once("-pod")?.1 };
    is_uid(uid.as_bytes()).then(|| PodUid::from(uid))
}

/// 8-4-4-4-12 hex digits with dashes or underscores, or 32 hex digits.
fn is_uid(text: &[u8]) -> bool {
    match text.len() {
        32 => text.iter().all(|byte| is_hex(*byte)),
        36 => text.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => matches!(byte, b'-' | b'_'),
            _ => is_hex(*byte),
        }),
        _ => false,
    }
}

const fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

fn container_id(component: &str) -> Option<ContainerId> {
    if component.starts_with("crio-conmon-") {
        return None;
    }
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let name = name.rsplit_once(':').map_or(name, |(_, last)| last);
    let name = name.rsplit_once('-').map_or(name, |(_, last)| last);
    ContainerId::from_hex(name)
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

    /// From exactly 64 lower-case hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(bytes))
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
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

#[cfg(test)]
mod tests;
