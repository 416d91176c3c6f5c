//! Which samples of a snapshot are containers, and whether all containers of a pod are measured. Pure.

use std::collections::HashMap;

use crate::{
    collect::{CgroupId, Sample},
    identify::PodUid,
};

/// What the identities of the newest snapshot's samples say. They are looked at only when other cgroups come than last
/// time.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// In the samples' order.
    members: Vec<Member>,
    pods: Vec<Pod>,
}

#[derive(Debug)]
struct Member {
    cgroup: CgroupId,
    /// Position of its pod.
    pod: usize,
    is_container: bool,
}

#[derive(Debug, Default)]
struct Pod {
    containers: usize,
    measured: usize,
}

impl Members {
    /// Takes the samples of a new snapshot, none of them measured yet.
    pub(super) fn follow(&mut self, samples: &[Sample]) {
        let known = self.members.iter().map(|member| member.cgroup);
        if !known.eq(samples.iter().map(|sample| sample.cgroup)) {
            self.replace(samples);
        }
        for pod in &mut self.pods {
            pod.measured = 0;
        }
    }

    fn replace(&mut self, samples: &[Sample]) {
        self.members.clear();
        self.pods.clear();
        let mut positions: HashMap<&PodUid, usize> = HashMap::new();
        for sample in samples {
            let pod = *positions.entry(&sample.identity.pod).or_insert(self.pods.len());
            if pod == self.pods.len() {
                self.pods.push(Pod::default());
            }
            let is_container = sample.identity.container.is_some();
            if let Some(pod) = self.pods.get_mut(pod) {
                pod.containers += usize::from(is_container);
            }
            self.members.push(Member { cgroup: sample.cgroup, pod, is_container });
        }
    }

    /// Whether the sample at this position is a container.
    pub(super) fn is_container(&self, at: usize) -> bool {
        self.members.get(at).is_some_and(|member| member.is_container)
    }

    /// The container at this position is measured.
    pub(super) fn measured(&mut self, at: usize) {
        let pod = self.members.get(at).map(|member| member.pod);
        if let Some(pod) = pod.and_then(|pod| self.pods.get_mut(pod)) {
            pod.measured += 1;
        }
    }

    /// Whether the pod at this position has containers, all of them measured.
    pub(super) fn is_whole(&self, at: usize) -> bool {
        let pod = self.members.get(at).and_then(|member| self.pods.get(member.pod));
        pod.is_some_and(|pod| pod.containers > 0 && pod.measured == pod.containers)
    }
}
