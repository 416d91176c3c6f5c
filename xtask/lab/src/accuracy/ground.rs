//! The kernel's own files on the node, as the judge between sources: whether a truth that was planned came true.

use std::collections::BTreeMap;

use anyhow::{Context, Result};

use super::{
    reading::Key,
    sources::Clock,
    truth::{Course, Seconds},
};
use crate::nodes::Machine;

/// One process reads each kind of file in all cgroups: starting processes is what an emulated machine is slow at.
const SCRIPT: &str = "cd /sys/fs/cgroup; f() { find . -path '*kubepods*' -name $1; }; cat /proc/uptime; \
                      grep -H '^usage_usec' $(f cpu.stat); grep -H . $(f memory.current); \
                      grep -H '^inactive_file' $(f memory.stat)";

/// What the kernel says of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Files {
    /// CPU time.
    pub cpu_seconds: f64,
    /// `memory.current` − `inactive_file` of `memory.stat`.
    pub working_set: f64,
}

/// All containers at one instant.
#[derive(Debug, Default)]
pub struct Ground {
    /// Seconds since the node's start.
    pub uptime: Seconds,
    /// The node's clock when all of it was read.
    pub read: Seconds,
    by_id: BTreeMap<String, Files>,
}

impl Ground {
    /// Reads the node's files.
    pub async fn read(node: &Machine, clock: Clock) -> Result<Self> {
        let mut ground = parse(&node.shell(SCRIPT).await?)?;
        ground.read = clock.now();
        Ok(ground)
    }

    /// Of a container, by its id.
    pub fn of(&self, id: &str) -> Option<Files> {
        self.by_id.get(id).copied()
    }

    /// The mean rate of a container since an earlier look, millicores.
    pub fn rate_since(&self, before: &Self, id: &str) -> Option<f64> {
        let used = self.of(id)?.cpu_seconds - before.of(id)?.cpu_seconds;
        let time = self.uptime - before.uptime;
        (time > 0.0 && used >= 0.0).then(|| used / time * 1000.0)
    }
}

/// How a container's counter grew.
pub fn course(grounds: &[Ground], id: &str) -> Course {
    let started = started(grounds);
    let of = |ground: &Ground| Some((started + ground.uptime, ground.of(id)?.cpu_seconds));
    Course(grounds.iter().filter_map(of).collect())
}

/// From the first look to the last.
pub fn span(grounds: &[Ground]) -> Option<(Seconds, Seconds)> {
    let started = started(grounds);
    let (first, last) = grounds.first().zip(grounds.last())?;
    Some((started + first.uptime, started + last.uptime))
}

/// When the node was started, by its own clock. A shell's answer takes its time: of all, the quickest tells.
fn started(grounds: &[Ground]) -> Seconds {
    grounds.iter().map(|ground| ground.read - ground.uptime).fold(f64::INFINITY, f64::min)
}

fn parse(text: &str) -> Result<Ground> {
    let mut lines = text.lines();
    let uptime = lines.next().and_then(|line| line.split_whitespace().next()?.parse().ok());
    let uptime = uptime.with_context(|| format!("no uptime in {text}"))?;
    let mut ground = Ground { uptime, read: 0.0, by_id: BTreeMap::new() };
    let mut inactive: BTreeMap<String, f64> = BTreeMap::new();
    for line in lines {
        let Some((path, said)) = line.split_once(':') else { continue };
        let (Some(id), Some(value)) = (container(path), said.rsplit(' ').next()) else { continue };
        let value: f64 = value.parse().with_context(|| format!("an odd line: {line}"))?;
        if path.ends_with("/cpu.stat") {
            ground.by_id.entry(id).or_default().cpu_seconds = value / 1e6;
        } else if path.ends_with("/memory.current") {
            ground.by_id.entry(id).or_default().working_set = value;
        } else {
            inactive.insert(id, value);
        }
    }
    for (id, bytes) in inactive {
        ground.by_id.entry(id).or_default().working_set -= bytes;
    }
    Ok(ground)
}

/// The container id in the path of one of its files: 64 hexadecimal digits in the folder's name.
fn container(path: &str) -> Option<String> {
    let folder = path.rsplit('/').nth(1)?;
    folder.split(|c: char| !c.is_ascii_hexdigit()).find(|part| part.len() == 64).map(str::to_owned)
}

/// The ids of the running containers of a list of pods.
pub fn ids(pods: &serde_json::Value) -> BTreeMap<Key, String> {
    let mut ids = BTreeMap::new();
    for pod in pods["items"].as_array().into_iter().flatten() {
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let kinds = ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"];
        for status in kinds.iter().flat_map(|kind| pod["status"][kind].as_array().into_iter().flatten()) {
            if !status["state"]["running"].is_object() {
                continue;
            }
            let key = Key {
                namespace: text(&pod["metadata"]["namespace"]),
                pod: text(&pod["metadata"]["name"]),
                container: text(&status["name"]),
            };
            let id = text(&status["containerID"]);
            ids.insert(key, id.rsplit('/').next().unwrap_or_default().to_owned());
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_read_by_container() {
        let (id, other) = ("a".repeat(64), "b".repeat(64));
        let at = |uptime: &str, usec: u64| {
            format!(
                "{uptime} 5.0\n./kubepods.slice/x/cri-containerd-{id}.scope/cpu.stat:usage_usec {usec}\n\
                 ./kubepods.slice/x/cpu.stat:usage_usec 99\n./kubepods/{other}/memory.current:8192\n\
                 ./kubepods.slice/x/cri-containerd-{id}.scope/memory.current:5000\n\
                 ./kubepods.slice/x/cri-containerd-{id}.scope/memory.stat:inactive_file 904\n"
            )
        };
        let before = parse(&at("10.00", 1_000_000)).unwrap();
        let after = parse(&at("20.00", 2_500_000)).unwrap();
        assert_eq!(after.of(&id), Some(Files { cpu_seconds: 2.5, working_set: 4096.0 }));
        assert!((after.of(&other).unwrap().working_set - 8192.0).abs() < 1e-9);
        assert_eq!(after.rate_since(&before, &id), Some(150.0));
        assert_eq!(after.rate_since(&before, "none"), None);
        assert!(parse("nonsense").is_err());
    }

    #[test]
    fn ids_are_of_running_containers_of_every_kind() {
        let running = |name: &str| json!({"name": name, "containerID": format!("containerd://{name}1"), "state": {"running": {}}});
        let pods = json!({"items": [{"metadata": {"namespace": "n", "name": "p"}, "status": {
            "containerStatuses": [running("a"), {"name": "b", "state": {"waiting": {}}}],
            "initContainerStatuses": [running("c")], "ephemeralContainerStatuses": [running("d")]}}]});
        let ids = ids(&pods);
        assert_eq!(ids.values().map(String::as_str).collect::<Vec<_>>(), ["a1", "c1", "d1"]);
    }
}
