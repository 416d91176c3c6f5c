//! The cgroup tree of one node, computed: pods with their containers, each with a CPU counter that also counts in the
//! pod and in the node, as in the kernel's hierarchy. Pure: instants are passed in.

use std::{collections::BTreeMap, sync::Arc};

use waggle_agent::{
    collect::{BootTime, CgroupId, NodeTotals, RealTime, Sample, Snapshot},
    identify::{Identity, locate},
};

use super::load::{CpuCounter, Load, PAGE_SIZE};
use crate::layout::{Layout, Qos};

/// What a pause container holds; it does nothing.
const SANDBOX: Load = Load { nanocores: 0, working_set_bytes: 300 << 10, inactive_file_bytes: 0 };
/// Cgroup ids of a young machine: the root is 1, system services come before pods.
const FIRST_ID: u64 = 1000;

/// A container to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// 64 hexadecimal digits, as the runtime names it.
    pub id: String,
    /// What it uses from its start on.
    pub load: Load,
}

/// Something that was named is not on the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Missing {
    /// No such pod.
    #[error("the node has no pod {0}; was it stopped?")]
    Pod(String),
    /// No such container.
    #[error("the node has no container {0}; was it stopped?")]
    Container(String),
    /// The path that was made of a UID and an id is not one of a container.
    #[error(
        "{0} is not the cgroup of a pod or container; UID and id must be the kubelet's and the runtime's"
    )]
    Identity(String),
}

/// The tree.
#[derive(Debug)]
pub struct Cgroups {
    layout: Layout,
    highest: u64,
    node: CpuCounter,
    system_bytes: u64,
    /// By id, and therefore in the order of a walk.
    tree: BTreeMap<CgroupId, Cgroup>,
    pods: BTreeMap<String, Pod>,
}

#[derive(Debug)]
struct Cgroup {
    identity: Arc<Identity>,
    cpu: CpuCounter,
    load: Load,
}

#[derive(Debug)]
struct Pod {
    cgroup: CgroupId,
    qos: Qos,
    /// By the runtime's id; the sandbox is one of them.
    containers: BTreeMap<String, CgroupId>,
}

impl Cgroups {
    /// A node without pods, whose own services use `system`.
    pub fn new(layout: Layout, system: Load, at: BootTime) -> Self {
        Self {
            layout,
            highest: FIRST_ID,
            node: CpuCounter::new(at, system.nanocores),
            system_bytes: system.working_set_bytes,
            tree: BTreeMap::new(),
            pods: BTreeMap::new(),
        }
    }

    /// Makes the cgroups of a pod and of its sandbox. A pod that is there already stays as it is.
    pub fn start_pod(&mut self, uid: &str, qos: Qos, sandbox: &str, at: BootTime) -> Result<(), Missing> {
        if self.pods.contains_key(uid) {
            return Ok(());
        }
        let path = self.layout.pod(qos, uid);
        let cgroup = self.make(&path, Load::default(), at)?;
        self.pods.insert(uid.to_owned(), Pod { cgroup, qos, containers: BTreeMap::new() });
        self.start_container(uid, &Workload { id: sandbox.to_owned(), load: SANDBOX }, at)
    }

    /// Makes a container's cgroup; its counter is zero now. One that runs already gets the load.
    pub fn start_container(&mut self, uid: &str, workload: &Workload, at: BootTime) -> Result<(), Missing> {
        let pod = self.pods.get(uid).ok_or_else(|| Missing::Pod(uid.to_owned()))?;
        if pod.containers.contains_key(&workload.id) {
            return self.set_load(uid, &workload.id, workload.load, at);
        }
        let path = self.layout.container(pod.qos, uid, &workload.id);
        let id = self.make(&path, Load::default(), at)?;
        if let Some(pod) = self.pods.get_mut(uid) {
            pod.containers.insert(workload.id.clone(), id);
        }
        self.set_load(uid, &workload.id, workload.load, at)
    }

    /// Changes what a container uses, from `at` on.
    pub fn set_load(&mut self, uid: &str, id: &str, load: Load, at: BootTime) -> Result<(), Missing> {
        let pod = self.pods.get(uid).ok_or_else(|| Missing::Pod(uid.to_owned()))?;
        let container = pod.containers.get(id).ok_or_else(|| Missing::Container(id.to_owned()))?;
        let (parent, child) = (pod.cgroup, *container);
        let Some(cgroup) = self.tree.get_mut(&child) else {
            return Err(Missing::Container(id.to_owned()));
        };
        let before = std::mem::replace(&mut cgroup.load, load);
        cgroup.cpu.set(at, load.nanocores);
        if let Some(pod) = self.tree.get_mut(&parent) {
            pod.load = exchanged(pod.load, before, load);
            pod.cpu.set(at, pod.load.nanocores);
        }
        self.node.set(at, self.node.nanocores() - before.nanocores + load.nanocores);
        Ok(())
    }

    /// Ends a container: its cgroup goes, what it used stays in the counters above it.
    pub fn stop_container(&mut self, uid: &str, id: &str, at: BootTime) -> Result<(), Missing> {
        self.set_load(uid, id, Load::default(), at)?;
        if let Some(id) = self.pods.get_mut(uid).and_then(|pod| pod.containers.remove(id)) {
            self.tree.remove(&id);
        }
        Ok(())
    }

    /// Ends a pod with all its containers.
    pub fn stop_pod(&mut self, uid: &str, at: BootTime) -> Result<(), Missing> {
        let pod = self.pods.get(uid).ok_or_else(|| Missing::Pod(uid.to_owned()))?;
        let (cgroup, containers) = (pod.cgroup, pod.containers.keys().cloned().collect::<Vec<_>>());
        for id in containers {
            self.stop_container(uid, &id, at)?;
        }
        self.tree.remove(&cgroup);
        self.pods.remove(uid);
        Ok(())
    }

    /// What a walk at this instant finds.
    pub fn read(&self, boot: BootTime, real: RealTime, into: &mut Snapshot) {
        into.boot = boot;
        into.real = real;
        let held: u64 = self.pods.values().filter_map(|pod| self.tree.get(&pod.cgroup)).map(bytes).sum();
        into.node = NodeTotals {
            cpu_ns: Some(self.node.cpu_ns(boot)),
            working_set_bytes: Some(self.system_bytes + held),
            swap_bytes: None,
        };
        into.samples.clear();
        into.samples.extend(self.tree.iter().map(|(id, cgroup)| Sample {
            cgroup: *id,
            identity: Arc::clone(&cgroup.identity),
            cpu_ns: Some(cgroup.cpu.cpu_ns(boot)),
            memory: Some(cgroup.load.memory()),
            late: false,
        }));
    }

    fn make(&mut self, path: &str, load: Load, at: BootTime) -> Result<CgroupId, Missing> {
        let found = locate(&format!("/{path}")).filter(|found| found.below == 0);
        let identity = Arc::new(found.ok_or_else(|| Missing::Identity(path.to_owned()))?.identity);
        self.highest += 1;
        let id = CgroupId(self.highest);
        self.tree.insert(id, Cgroup { identity, cpu: CpuCounter::new(at, load.nanocores), load });
        Ok(id)
    }
}

/// A sum in which `before` is replaced by `after`.
fn exchanged(sum: Load, before: Load, after: Load) -> Load {
    Load {
        nanocores: sum.nanocores - before.nanocores + after.nanocores,
        working_set_bytes: sum.working_set_bytes - before.working_set_bytes + after.working_set_bytes,
        inactive_file_bytes: sum.inactive_file_bytes - before.inactive_file_bytes + after.inactive_file_bytes,
    }
}

fn bytes(cgroup: &Cgroup) -> u64 {
    cgroup.load.memory().working_set_pages() * u64::from(PAGE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const UID: &str = "d6b3f2a0-1c2d-4e5f-8a9b-0c1d2e3f4a5b";

    fn id(letter: &str) -> String {
        letter.repeat(64)
    }

    fn workload(letter: &str, millicores: u64, mebibytes: u64) -> Workload {
        Workload { id: id(letter), load: Load::new(millicores, mebibytes) }
    }

    fn read(cgroups: &Cgroups, second: u64) -> Snapshot {
        let mut snapshot = Snapshot::default();
        cgroups.read(BootTime(second * SECOND), RealTime(second * SECOND), &mut snapshot);
        assert!(snapshot.samples.is_sorted_by_key(|sample| sample.cgroup));
        snapshot
    }

    fn cpu(snapshot: &Snapshot, letter: &str) -> Option<u64> {
        let wanted = id(letter);
        let of = |sample: &&Sample| sample.identity.container.is_some_and(|c| c.to_string() == wanted);
        snapshot.samples.iter().find(of).and_then(|sample| sample.cpu_ns)
    }

    fn tree(layout: Layout) -> Cgroups {
        let mut cgroups = Cgroups::new(layout, Load::new(100, 10), BootTime(0));
        cgroups.start_pod(UID, Qos::Burstable, &id("0"), BootTime(SECOND)).unwrap();
        cgroups.start_container(UID, &workload("a", 500, 64), BootTime(SECOND)).unwrap();
        cgroups.start_container(UID, &workload("b", 250, 32), BootTime(2 * SECOND)).unwrap();
        cgroups
    }

    #[test]
    fn a_walk_finds_pod_sandbox_and_containers_in_both_layouts() {
        for layout in [Layout::Systemd, Layout::Cgroupfs] {
            let snapshot = read(&tree(layout), 3);
            assert_eq!(snapshot.samples.len(), 4, "{layout:?}");
            assert!(snapshot.samples.iter().all(|sample| sample.identity.pod.as_str() == UID));
            assert_eq!(snapshot.samples.iter().filter(|s| s.identity.container.is_none()).count(), 1);
        }
    }

    #[test]
    fn time_counts_in_the_container_the_pod_and_the_node() {
        let mut cgroups = tree(Layout::Systemd);
        let third = read(&cgroups, 3);
        assert_eq!((cpu(&third, "a"), cpu(&third, "b")), (Some(SECOND), Some(SECOND / 4)));
        let pod = third.samples.iter().find(|sample| sample.identity.container.is_none()).unwrap();
        assert_eq!(pod.cpu_ns, Some(SECOND + SECOND / 4));
        assert_eq!(third.node.cpu_ns, Some(3 * SECOND / 10 + SECOND + SECOND / 4));

        cgroups.set_load(UID, &id("a"), Load::new(2000, 64), BootTime(3 * SECOND)).unwrap();
        cgroups.stop_container(UID, &id("b"), BootTime(4 * SECOND)).unwrap();
        let fifth = read(&cgroups, 5);
        assert_eq!((cpu(&fifth, "a"), cpu(&fifth, "b")), (Some(5 * SECOND), None));
        let pod = fifth.samples.iter().find(|sample| sample.identity.container.is_none()).unwrap();
        assert_eq!(pod.cpu_ns, Some(5 * SECOND + SECOND / 2), "what is gone was used all the same");
        assert_eq!(fifth.node.cpu_ns, Some(SECOND / 2 + 5 * SECOND + SECOND / 2));

        cgroups.stop_pod(UID, BootTime(6 * SECOND)).unwrap();
        let seventh = read(&cgroups, 7);
        assert!(seventh.samples.is_empty());
        assert_eq!(seventh.node.cpu_ns, Some(7 * SECOND / 10 + 7 * SECOND + SECOND / 2));
        assert_eq!(cgroups.stop_pod(UID, BootTime(8 * SECOND)), Err(Missing::Pod(UID.to_owned())));
    }

    #[test]
    fn memory_is_that_of_all_pods_and_of_the_system() {
        let cgroups = tree(Layout::Cgroupfs);
        assert_eq!(read(&cgroups, 3).node.working_set_bytes, Some((10 + 64 + 32) << 20 | 300 << 10));
    }

    #[test]
    fn a_container_that_comes_back_is_another_cgroup_from_zero() {
        let mut cgroups = tree(Layout::Systemd);
        let ids = |snapshot: &Snapshot| snapshot.samples.iter().map(|s| s.cgroup.0).max().unwrap();
        let before = ids(&read(&cgroups, 3));
        cgroups.stop_container(UID, &id("a"), BootTime(4 * SECOND)).unwrap();
        cgroups.start_container(UID, &workload("c", 500, 64), BootTime(4 * SECOND)).unwrap();
        let after = read(&cgroups, 6);
        assert_eq!((cpu(&after, "a"), cpu(&after, "c")), (None, Some(SECOND)));
        assert!(ids(&after) > before);
    }

    #[test]
    fn what_no_kubelet_names_is_refused() {
        let mut cgroups = Cgroups::new(Layout::Systemd, Load::default(), BootTime(0));
        let odd = cgroups.start_pod("not-a-uid", Qos::Guaranteed, &id("0"), BootTime(0));
        assert!(matches!(odd, Err(Missing::Identity(_))), "{odd:?}");
        cgroups.start_pod(UID, Qos::Guaranteed, &id("0"), BootTime(0)).unwrap();
        let short = Workload { id: "abc".to_owned(), load: Load::default() };
        let odd = cgroups.start_container(UID, &short, BootTime(0));
        assert!(matches!(odd, Err(Missing::Identity(_))), "{odd:?}");
    }
}
