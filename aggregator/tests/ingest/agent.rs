//! An agent with synthetic cgroups.

use std::sync::Arc;

use tokio::task::JoinHandle;
use waggle_agent::{
    collect::{self, CgroupId, Memory, NodeTotals, Sample, Snapshot},
    identify::{ContainerId, Identity, PodUid},
    report::Publisher,
};

use crate::world::{SECOND, id, uid};

pub struct Agent {
    node: String,
    pub publisher: Publisher,
    task: JoinHandle<()>,
    cpu_ns: u64,
    /// Samples beside that of the workload.
    pub beside: Vec<Sample>,
}

impl Agent {
    /// On `node`; `task` reports what is published.
    pub fn new(node: &str, publisher: Publisher, task: JoinHandle<()>) -> Self {
        Self { node: node.into(), publisher, task, cpu_ns: 0, beside: Vec::new() }
    }

    pub fn stop(self) {
        self.task.abort();
    }

    /// Publishes a walk of `boot_ns`, in which the workload used `cpu_ns` more than before.
    pub fn walk_at(&mut self, boot_ns: u64, cpu_ns: u64) {
        self.cpu_ns += cpu_ns;
        let (boot, real) = collect::clocks();
        let age = boot.0 - boot_ns;
        let snapshot = Snapshot {
            boot: collect::BootTime(boot_ns),
            real: collect::RealTime(real.0 - age),
            node: NodeTotals {
                cpu_ns: Some(self.cpu_ns + SECOND),
                working_set_bytes: Some(1 << 30),
                swap_bytes: None,
            },
            samples: [&[sample(1, &uid(&self.node), id(&self.node), self.cpu_ns)], &*self.beside].concat(),
        };
        self.publisher.publish(&snapshot);
    }

    /// Walks now.
    pub fn walk(&mut self, cpu_ns: u64) {
        self.walk_at(collect::clocks().0.0, cpu_ns);
    }
}

pub fn sample(cgroup: u64, pod: &str, container: u8, cpu_ns: u64) -> Sample {
    Sample {
        cgroup: CgroupId(cgroup),
        identity: Arc::new(Identity {
            pod: PodUid::from(pod),
            container: Some(ContainerId::from_bytes([container; 32])),
        }),
        cpu_ns: Some(cpu_ns),
        late: false,
        memory: Some(Memory { usage_pages: 300, inactive_file_pages: 44, swap_pages: None }),
    }
}
