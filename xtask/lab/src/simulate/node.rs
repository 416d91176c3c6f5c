//! One node's cgroups behind a lock: acted upon by whoever simulates, walked by the node's agent.

use std::sync::Arc;

use parking_lot::Mutex;
use waggle_agent::collect::{self, BootTime, CollectError, Collector, Snapshot};

use super::{
    cgroups::{Cgroups, Missing, Workload},
    load::Load,
};
use crate::layout::{Layout, Qos};

/// What the node's own services use beside the pods: 50 millicores and 300 MiB.
const SYSTEM: Load = Load::new(50, 300);

/// A node. Clones are the same node. Everything happens at the moment of the call, on this machine's boot clock.
#[derive(Debug, Clone)]
pub struct SimulatedNode {
    cgroups: Arc<Mutex<Cgroups>>,
}

impl SimulatedNode {
    /// A node without pods.
    pub fn new(layout: Layout) -> Self {
        Self { cgroups: Arc::new(Mutex::new(Cgroups::new(layout, SYSTEM, now()))) }
    }

    /// Starts a pod with its sandbox and containers, all at one instant.
    pub fn start_pod(
        &self,
        uid: &str,
        qos: Qos,
        sandbox: &str,
        containers: &[Workload],
    ) -> Result<(), Missing> {
        let mut cgroups = self.cgroups.lock();
        let at = now();
        cgroups.start_pod(uid, qos, sandbox, at)?;
        containers.iter().try_for_each(|workload| cgroups.start_container(uid, workload, at))
    }

    /// Starts a container of a pod that runs.
    pub fn start_container(&self, uid: &str, workload: &Workload) -> Result<(), Missing> {
        self.cgroups.lock().start_container(uid, workload, now())
    }

    /// Changes what a container uses.
    pub fn set_load(&self, uid: &str, container: &str, load: Load) -> Result<(), Missing> {
        self.cgroups.lock().set_load(uid, container, load, now())
    }

    /// Ends a container.
    pub fn stop_container(&self, uid: &str, container: &str) -> Result<(), Missing> {
        self.cgroups.lock().stop_container(uid, container, now())
    }

    /// Ends a pod.
    pub fn stop_pod(&self, uid: &str) -> Result<(), Missing> {
        self.cgroups.lock().stop_pod(uid, now())
    }
}

impl Collector for SimulatedNode {
    fn snapshot(&mut self, into: &mut Snapshot) -> Result<(), CollectError> {
        let cgroups = self.cgroups.lock();
        // Read under the lock: an act is wholly before the walk or wholly after it.
        let (boot, real) = collect::clocks();
        cgroups.read(boot, real, into);
        Ok(())
    }

    fn name(&self) -> &'static str {
        "simulated"
    }
}

fn now() -> BootTime {
    collect::clocks().0
}
