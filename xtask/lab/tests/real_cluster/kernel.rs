//! The kernel's own files on a node, read by its shell, and the kubelet's formulas on them.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::Value;
use waggle_lab::{
    layout::{Layout, Qos},
    nodes::Machine,
};

use super::world::container_id;

/// One process reads each kind of file in all cgroups: starting processes is what an emulated machine is slow at.
const SCRIPT: &str = "cat /proc/uptime; adjtimex | grep time.tv; cd /sys/fs/cgroup; \
                      grep -H '^usage_usec ' cpu.stat; grep -HE '^(anon|file|inactive_file) ' memory.stat; \
                      f() { find kubepods* -name $1; }; grep -H '^usage_usec ' $(f cpu.stat); \
                      grep -H . $(f memory.current); grep -H '^inactive_file ' $(f memory.stat)";

/// What the kubelet makes of the files of a cgroup, or of a node's root.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// `usage_usec` of `cpu.stat`.
    pub cpu_seconds: f64,
    /// `memory.current` − `inactive_file` of `memory.stat`; of the root, which has no `memory.current`, `anon` + `file` −
    /// `inactive_file`.
    pub working_set: f64,
}

/// A node and all cgroups of its pods at one moment.
#[derive(Debug)]
pub struct Look {
    /// Seconds since the node's start.
    pub uptime: f64,
    /// Seconds since the Unix epoch, by the node's clock.
    pub clock: f64,
    /// Of the root.
    pub node: Figures,
    /// By path below `/sys/fs/cgroup`.
    pub cgroups: BTreeMap<String, Figures>,
}

/// Looks at every machine, at the same time; in their order.
pub async fn look(machines: &[Machine]) -> Vec<Look> {
    join_all(machines.iter().map(Look::at)).await
}

impl Look {
    async fn at(machine: &Machine) -> Self {
        let text = machine.shell(SCRIPT).await.unwrap();
        Self::parse(&text).unwrap_or_else(|| panic!("{} says: {text}", machine.name()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let uptime = lines.next()?.split_whitespace().next()?.parse().ok()?;
        let mut part = || lines.next()?.rsplit(':').next()?.trim().parse::<f64>().ok();
        let (seconds, micros) = (part()?, part()?);
        let mut figures: BTreeMap<String, Figures> = BTreeMap::new();
        for line in lines {
            // What ended between two looks at it is an error of grep's, without a value.
            let Some((path, said)) = line.split_once(':') else { continue };
            let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
            let (field, value) = said.rsplit_once(' ').unwrap_or(("", said));
            let Ok(value) = value.parse::<f64>() else { continue };
            let of = figures.entry(folder.to_owned()).or_default();
            match (file, field) {
                ("cpu.stat", "usage_usec") => of.cpu_seconds = value / 1e6,
                ("memory.current", "") | ("memory.stat", "anon" | "file") => of.working_set += value,
                ("memory.stat", "inactive_file") => of.working_set -= value,
                _ => {}
            }
        }
        let node = figures.remove("")?;
        Some(Self { uptime, clock: seconds + micros / 1e6, node, cgroups: figures })
    }

    /// What a cgroup has used since then, in thousandths of a processor.
    pub fn millicores_since(&self, earlier: &Self, cgroup: &str) -> f64 {
        let used = self.cgroups[cgroup].cpu_seconds - earlier.cgroups[cgroup].cpu_seconds;
        used / (self.uptime - earlier.uptime) * 1000.0
    }
}

/// What a cgroup used between two instants of the node's clock, in thousandths of a processor, as if it used it evenly between two
/// looks.
pub fn millicores(looks: &[Look], of: impl Fn(&Look) -> f64, (from, to): (f64, f64)) -> f64 {
    let at = |instant: f64| {
        let after = looks.iter().position(|look| look.clock >= instant);
        let after = after.filter(|&after| after > 0).unwrap_or_else(|| panic!("no look around {instant}"));
        let (before, after) = (&looks[after - 1], &looks[after]);
        let share = (instant - before.clock) / (after.clock - before.clock);
        of(before) + (of(after) - of(before)) * share
    };
    (at(to) - at(from)) / (to - from) * 1000.0
}

/// The cgroup of a pod, as the kubelet names it under this driver. That of a static pod has the hash of its file.
pub fn pod_cgroup(driver: Layout, pod: &Value) -> String {
    driver.pod(quality(pod), uid(pod))
}

/// The cgroup of a pod's container.
pub fn container_cgroup(driver: Layout, pod: &Value, container: &str) -> String {
    driver.container(quality(pod), uid(pod), &container_id(pod, container))
}

fn uid(pod: &Value) -> &str {
    let hash = &pod["metadata"]["annotations"]["kubernetes.io/config.hash"];
    hash.as_str().or_else(|| pod["metadata"]["uid"].as_str()).unwrap()
}

fn quality(pod: &Value) -> Qos {
    let class = pod["status"]["qosClass"].as_str().unwrap();
    let classes = [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort];
    classes.into_iter().find(|qos| qos.class() == class).unwrap()
}
