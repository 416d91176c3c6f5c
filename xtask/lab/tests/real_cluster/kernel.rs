//! The kernel's own counters on the node, read by its shell.

use std::collections::BTreeMap;

use waggle_lab::nodes::RealCluster;

/// CPU time of each container, by its id, at one moment.
#[derive(Debug)]
pub struct Counters {
    uptime_seconds: f64,
    usage_seconds: BTreeMap<String, f64>,
}

impl Counters {
    /// Reads them.
    pub async fn read(cluster: &RealCluster) -> Self {
        let script = "cat /proc/uptime; for file in $(find /sys/fs/cgroup/kubepods -name cpu.stat); do \
                      echo $file $(head -n 1 $file); done";
        let text = cluster.machines[0].shell(script).await.unwrap();
        let mut lines = text.lines();
        let uptime = lines.next().and_then(|line| line.split_whitespace().next());
        let uptime_seconds = uptime.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{text}"));
        let usage_seconds = lines
            .filter_map(|line| {
                let (path, usage) = line.split_once("/cpu.stat usage_usec ")?;
                let id = path.rsplit('/').next()?;
                Some((id.to_owned(), usage.parse::<f64>().ok()? / 1e6))
            })
            .collect();
        Self { uptime_seconds, usage_seconds }
    }

    /// What a container has used since then, in thousandths of a processor.
    pub fn millicores_since(&self, earlier: &Self, id: &str) -> f64 {
        let used = self.usage_seconds[id] - earlier.usage_seconds[id];
        used / (self.uptime_seconds - earlier.uptime_seconds) * 1000.0
    }
}
