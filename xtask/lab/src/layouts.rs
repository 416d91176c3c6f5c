//! The cgroup layouts that kubelets and container runtimes make, each as a list of cgroups with what runs in them, and
//! what an agent must report of them. Pure.

use crate::{
    control::Work,
    layout::{Layout, Qos},
    scenario::{hex, uid},
};

/// A cgroup of a layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Relative to the cgroup root of the machine.
    pub path: String,
    /// What runs in it; `None`: no process.
    pub work: Option<Work>,
}

/// A pod or container that an agent must report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The pod's UID, with dashes unless it is a static pod's hash.
    pub pod: String,
    /// The container's id; `None`: the pod's own cgroup.
    pub container: Option<String>,
    /// The cgroup whose files are the truth.
    pub path: String,
    /// Whether its memory is measured: a cgroup whose processes are accounted elsewhere must not be reported as 0.
    pub measured: bool,
}

/// One layout, built with random identities.
#[derive(Debug, Clone)]
pub struct Shape {
    /// A name for the test.
    pub name: &'static str,
    /// The agent's cgroup root, relative to the machine's; empty: the same.
    pub root: String,
    /// What is there.
    pub cgroups: Vec<Cgroup>,
    /// What must be reported, and nothing else.
    pub expected: Vec<Expected>,
}

const HOLDER: Work = Work::Hold(6);

impl Shape {
    fn new(name: &'static str) -> Self {
        Self { name, root: String::new(), cgroups: Vec::new(), expected: Vec::new() }
    }

    fn cgroup(&mut self, path: &str, work: Option<Work>) {
        self.cgroups.push(Cgroup { path: path.to_owned(), work });
    }

    /// A pod's own cgroup, without processes.
    fn pod(&mut self, path: &str, uid: &str) {
        self.cgroup(path, None);
        self.expect(path, uid, None, true);
    }

    fn container(&mut self, path: &str, uid: &str, id: &str, work: Work) {
        self.cgroup(path, Some(work));
        self.expect(path, uid, Some(id), true);
    }

    fn expect(&mut self, path: &str, uid: &str, id: Option<&str>, measured: bool) {
        let container = id.map(str::to_owned);
        self.expected.push(Expected { pod: uid.to_owned(), container, path: path.to_owned(), measured });
    }

    /// A pod of the systemd or cgroupfs driver with a pause container, a holder and a burner, whose names `named` makes.
    fn usual(&mut self, above: &str, layout: Layout, class: Qos, uid: &str, named: impl Fn(&str) -> String) {
        let pod = format!("{above}{}", layout.pod(class, uid));
        self.pod(&pod, uid);
        for work in [Work::Sleep, HOLDER, Work::Burn] {
            let id = hex(64);
            self.container(&format!("{pod}/{}", named(&id)), uid, &id, work);
        }
    }
}

fn containerd(id: &str) -> String {
    format!("cri-containerd-{id}.scope")
}

/// All layouts.
pub fn shapes() -> Vec<Shape> {
    let mut all = vec![
        drivers("systemd_containerd", Layout::Systemd, containerd),
        drivers("cgroupfs_containerd", Layout::Cgroupfs, str::to_owned),
        drivers("systemd_cri_dockerd", Layout::Systemd, |id| format!("docker-{id}.scope")),
        drivers("cgroupfs_crio", Layout::Cgroupfs, |id| format!("crio-{id}")),
    ];
    all.extend([crio(), mismatch(), static_pod(), kind("kind_cgroup_root", "")]);
    let outer = format!("system.slice/docker-{}.scope/", hex(64));
    let mut inside = kind("kind_seen_from_inside", &outer);
    outer.trim_end_matches('/').clone_into(&mut inside.root);
    all.extend([kind("kind_seen_from_the_host", &outer), inside, nested_cgroupfs()]);
    all.extend([systemd_inside(), kata(), gvisor(), one_stale(), both_populated(), below_its_namesake()]);
    all
}

fn drivers(name: &'static str, layout: Layout, named: fn(&str) -> String) -> Shape {
    let mut shape = Shape::new(name);
    for class in [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort] {
        shape.usual("", layout, class, &uid(), named);
    }
    shape
}

/// CRI-O with systemd: the sandbox without `.scope`, the monitors beside, and crun's child in the container.
fn crio() -> Shape {
    let mut shape = Shape::new("systemd_crio_crun");
    let (uid, sandbox, id) = (uid(), hex(64), hex(64));
    let pod = Layout::Systemd.pod(Qos::Burstable, &uid);
    shape.pod(&pod, &uid);
    shape.container(&format!("{pod}/crio-{sandbox}"), &uid, &sandbox, Work::Sleep);
    shape.cgroup(&format!("{pod}/crio-conmon-{id}.scope"), Some(Work::Sleep));
    let container = format!("{pod}/crio-{id}.scope");
    shape.cgroup(&container, None);
    shape.cgroup(&format!("{container}/container"), Some(HOLDER));
    shape.expect(&container, &uid, Some(&id), true);
    shape
}

/// The kubelet uses the systemd driver, containerd does not: the containers are outside of kubepods.
fn mismatch() -> Shape {
    let mut shape = Shape::new("driver_mismatch");
    let (uid, id) = (uid(), hex(64));
    let pod = Layout::Systemd.pod(Qos::Burstable, &uid);
    // Nothing runs in the pod's own cgroup.
    shape.cgroup(&pod, None);
    shape.expect(&pod, &uid, None, false);
    let slice = pod.rsplit('/').next().unwrap_or_default().to_owned();
    let container = format!("system.slice/containerd.service/{slice}:cri-containerd:{id}");
    shape.container(&container, &uid, &id, HOLDER);
    shape
}

/// A static pod is named by 32 hexadecimal digits.
fn static_pod() -> Shape {
    let mut shape = Shape::new("static_pod");
    shape.usual("", Layout::Systemd, Qos::Burstable, &hex(32), containerd);
    shape.usual("", Layout::Systemd, Qos::Guaranteed, &uid(), containerd);
    shape
}

/// `--cgroup-root=/kubelet` with the systemd driver, as in kind: each component carries the one above.
fn kind(name: &'static str, above: &str) -> Shape {
    let mut shape = Shape::new(name);
    let (uid, id) = (uid(), hex(64));
    let pod = format!(
        "{above}kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/\
         kubelet-kubepods-burstable-pod{}.slice",
        uid.replace('-', "_")
    );
    shape.pod(&pod, &uid);
    shape.container(&format!("{pod}/{}", containerd(&id)), &uid, &id, HOLDER);
    if !above.is_empty() {
        shape.cgroup(&format!("{above}init.scope"), Some(Work::Hold(3)));
    }
    shape
}

/// The same with the cgroupfs driver: `--cgroup-root=/kubelet` of a node in a container.
fn nested_cgroupfs() -> Shape {
    let mut shape = Shape::new("nested_cgroupfs");
    let above = format!("kubelet/docker/{}/kubelet/", hex(64));
    shape.usual(&above, Layout::Cgroupfs, Qos::Burstable, &uid(), str::to_owned);
    shape
}

/// systemd in a container makes cgroups below the container's: they are part of it.
fn systemd_inside() -> Shape {
    let mut shape = Shape::new("systemd_in_a_container");
    let (uid, id) = (uid(), hex(64));
    let pod = Layout::Systemd.pod(Qos::Guaranteed, &uid);
    shape.pod(&pod, &uid);
    let container = format!("{pod}/{}", containerd(&id));
    shape.cgroup(&container, None);
    shape.cgroup(&format!("{container}/init.scope"), Some(Work::Sleep));
    shape.cgroup(&format!("{container}/system.slice/web.service"), Some(HOLDER));
    shape.cgroup(&format!("{container}/system.slice/cri-containerd-{}.scope", hex(64)), Some(Work::Hold(2)));
    shape.expect(&container, &uid, Some(&id), true);
    shape
}

/// A virtual machine as sandbox: everything runs in the pod's cgroup.
fn kata() -> Shape {
    let mut shape = Shape::new("kata");
    let uid = uid();
    let pod = Layout::Systemd.pod(Qos::Burstable, &uid);
    shape.cgroup(&pod, Some(HOLDER));
    shape.expect(&pod, &uid, None, true);
    shape
}

/// gVisor: the container's cgroup is there, its processes are in the sandbox's.
fn gvisor() -> Shape {
    let mut shape = Shape::new("gvisor");
    let (uid, sandbox, id) = (uid(), hex(64), hex(64));
    let pod = Layout::Systemd.pod(Qos::Burstable, &uid);
    shape.pod(&pod, &uid);
    shape.container(&format!("{pod}/{}", containerd(&sandbox)), &uid, &sandbox, HOLDER);
    let container = format!("{pod}/{}", containerd(&id));
    shape.cgroup(&container, None);
    shape.expect(&container, &uid, Some(&id), false);
    shape
}

/// After a change of the cgroup driver: the old tree is left without pods.
fn one_stale() -> Shape {
    let mut shape = Shape::new("other_driver_stale");
    shape.cgroup("kubepods/burstable", None);
    shape.cgroup("kubepods/besteffort", None);
    shape.usual("", Layout::Systemd, Qos::Burstable, &uid(), containerd);
    shape
}

/// The same with pods in both.
fn both_populated() -> Shape {
    let mut shape = Shape::new("both_drivers_populated");
    shape.usual("", Layout::Systemd, Qos::Burstable, &uid(), containerd);
    shape.usual("", Layout::Cgroupfs, Qos::BestEffort, &uid(), str::to_owned);
    shape
}

/// kubepods below another directory of that name.
fn below_its_namesake() -> Shape {
    let mut shape = Shape::new("kubepods_below_kubepods");
    shape.usual("kubepods/", Layout::Cgroupfs, Qos::Burstable, &uid(), str::to_owned);
    shape.usual("kubepods/", Layout::Cgroupfs, Qos::Guaranteed, &uid(), str::to_owned);
    shape
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_each_layout_expects_something() {
        let all = shapes();
        let names: BTreeSet<&str> = all.iter().map(|shape| shape.name).collect();
        assert_eq!(names.len(), all.len());
        for shape in &all {
            assert!(shape.expected.iter().any(|expected| expected.measured), "{}", shape.name);
        }
    }

    #[test]
    fn what_is_expected_is_there_below_the_agents_root() {
        for shape in shapes() {
            for expected in &shape.expected {
                assert!(shape.cgroups.iter().any(|cgroup| cgroup.path == expected.path), "{expected:?}");
                assert!(expected.path.starts_with(&shape.root), "{expected:?}");
            }
        }
    }

    /// The kernel allows no process in a cgroup that gives controllers to its children.
    #[test]
    fn no_process_is_above_another_cgroup() {
        for shape in shapes() {
            for above in shape.cgroups.iter().filter(|cgroup| cgroup.work.is_some()) {
                let inside = format!("{}/", above.path);
                let below = shape.cgroups.iter().find(|cgroup| cgroup.path.starts_with(&inside));
                assert_eq!(below, None, "{}: below {}", shape.name, above.path);
            }
        }
    }

    #[test]
    fn paths_are_those_that_real_nodes_have() {
        let shapes = shapes();
        let path = |name: &str, at: usize| {
            let shape = shapes.iter().find(|shape| shape.name == name).unwrap();
            shape.expected[at].path.clone()
        };
        let outside = path("driver_mismatch", 1);
        assert!(outside.starts_with("system.slice/containerd.service/kubepods-burstable-pod"), "{outside}");
        assert!(outside.contains(".slice:cri-containerd:"), "{outside}");
        let kind = path("kind_cgroup_root", 1);
        assert!(
            kind.starts_with("kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-burstable.slice/"),
            "{kind}"
        );
        assert!(path("kubepods_below_kubepods", 0).starts_with("kubepods/kubepods/burstable/pod"));
    }
}
