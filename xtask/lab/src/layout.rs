//! Names of pod and container cgroups, as the kubelet and containerd make them under the two cgroup drivers. Pure.

use std::{fmt, str::FromStr};

/// The cgroup driver of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod<uid_>.slice/cri-containerd-<id>.scope`
    Systemd,
    /// `kubepods/burstable/pod<uid>/<id>`
    Cgroupfs,
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "systemd" => Ok(Self::Systemd),
            "cgroupfs" => Ok(Self::Cgroupfs),
            other => Err(format!("unknown layout \"{other}\": systemd or cgroupfs")),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// A pod's quality of service class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qos {
    /// Directly under kubepods.
    Guaranteed,
    /// Under its own node.
    Burstable,
    /// Under its own node.
    BestEffort,
}

impl Qos {
    /// As in `status.qosClass`.
    pub const fn class(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    const fn part(self) -> Option<&'static str> {
        match self {
            Self::Guaranteed => None,
            Self::Burstable => Some("burstable"),
            Self::BestEffort => Some("besteffort"),
        }
    }
}

impl Layout {
    /// As the kubelet's configuration names the driver.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Systemd => "systemd",
            Self::Cgroupfs => "cgroupfs",
        }
    }

    /// The cgroup above all pods.
    pub const fn kubepods(self) -> &'static str {
        match self {
            Self::Systemd => "kubepods.slice",
            Self::Cgroupfs => "kubepods",
        }
    }

    /// A pod's cgroup. `uid` is what the kubelet names it by: `metadata.uid`, or a static pod's configuration hash.
    pub fn pod(self, qos: Qos, uid: &str) -> String {
        match (self, qos.part()) {
            (Self::Systemd, None) => format!("kubepods.slice/kubepods-pod{}.slice", uid.replace('-', "_")),
            (Self::Systemd, Some(part)) => format!(
                "kubepods.slice/kubepods-{part}.slice/kubepods-{part}-pod{}.slice",
                uid.replace('-', "_")
            ),
            (Self::Cgroupfs, None) => format!("kubepods/pod{uid}"),
            (Self::Cgroupfs, Some(part)) => format!("kubepods/{part}/pod{uid}"),
        }
    }

    /// A container's cgroup; the sandbox is a container too.
    pub fn container(self, qos: Qos, uid: &str, id: &str) -> String {
        let pod = self.pod(qos, uid);
        match self {
            Self::Systemd => format!("{pod}/cri-containerd-{id}.scope"),
            Self::Cgroupfs => format!("{pod}/{id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_that_a_real_node_has() {
        assert_eq!(
            Layout::Systemd.container(Qos::Burstable, "0a-1b", "ff"),
            "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod0a_1b.slice/cri-containerd-ff.scope"
        );
        assert_eq!(Layout::Systemd.pod(Qos::Guaranteed, "0a-1b"), "kubepods.slice/kubepods-pod0a_1b.slice");
        assert_eq!(
            Layout::Cgroupfs.container(Qos::BestEffort, "0a-1b", "ff"),
            "kubepods/besteffort/pod0a-1b/ff"
        );
        assert_eq!(Layout::Cgroupfs.pod(Qos::Guaranteed, "0a-1b"), "kubepods/pod0a-1b");
    }
}
