//! All simulated nodes of a cluster: which pods run on which, and what they use. Owns no connection: what the API server
//! says and hears is `kubelet`'s part.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;

use super::{Demand, Load, Missing, SimulatedNode, Workload, kubelet::Assigned};
use crate::layout::Layout;

/// An application of a namespace, and one of its pods' containers.
type Part = (String, String, String);

/// The nodes.
#[derive(Debug)]
pub struct Machines {
    nodes: BTreeMap<String, SimulatedNode>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By uid: where a pod was bound to.
    bound: HashMap<String, String>,
    /// By uid.
    pods: HashMap<String, Assigned>,
    demands: HashMap<Part, Demand>,
}

impl Machines {
    /// Nodes without pods. Every second one names its cgroups the other way.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let layouts = [Layout::Systemd, Layout::Cgroupfs].into_iter().cycle();
        let nodes = names.into_iter().zip(layouts);
        Self {
            nodes: nodes.map(|(name, layout)| (name, SimulatedNode::new(layout))).collect(),
            state: Mutex::default(),
        }
    }

    /// A node's cgroups.
    pub fn node(&self, name: &str) -> Option<&SimulatedNode> {
        self.nodes.get(name)
    }

    /// The names of all nodes.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(String::as_str)
    }

    /// The node that a pod shall run on: that with the fewest pods, and the same one when asked again.
    pub fn place(&self, uid: &str) -> Option<String> {
        let mut state = self.state.lock();
        if let Some(node) = state.bound.get(uid) {
            return Some(node.clone());
        }
        let mut counts: BTreeMap<&str, usize> = self.names().map(|name| (name, 0)).collect();
        for node in state.bound.values() {
            if let Some(count) = counts.get_mut(node.as_str()) {
                *count += 1;
            }
        }
        let node = counts.into_iter().min_by_key(|(_, count)| *count)?.0.to_owned();
        state.bound.insert(uid.to_owned(), node.clone());
        Some(node)
    }

    /// Starts a pod; whether it was not there yet. One that is there gets what its annotations say now.
    pub fn begin(&self, pod: &Assigned) -> Result<bool, Missing> {
        let node = self.nodes.get(&pod.node).ok_or_else(|| Missing::Pod(pod.uid.clone()))?;
        let mut state = self.state.lock();
        state.bound.insert(pod.uid.clone(), pod.node.clone());
        let fresh = if let Some(known) = state.pods.get_mut(&pod.uid) {
            known.loads.clone_from(&pod.loads);
            false
        } else {
            let workloads =
                pod.containers.iter().map(|(_, id)| Workload { id: id.clone(), load: Load::default() });
            node.start_pod(&pod.uid, pod.qos, &pod.sandbox, &workloads.collect::<Vec<_>>())?;
            state.pods.insert(pod.uid.clone(), pod.clone());
            true
        };
        self.share(&state, &pod.namespace, &pod.app)?;
        Ok(fresh)
    }

    /// Ends a pod; whether it was there.
    pub fn end(&self, uid: &str) -> Result<bool, Missing> {
        let mut state = self.state.lock();
        state.bound.remove(uid);
        let Some(pod) = state.pods.remove(uid) else { return Ok(false) };
        if let Some(node) = self.nodes.get(&pod.node) {
            node.stop_pod(uid)?;
        }
        self.share(&state, &pod.namespace, &pod.app)?;
        Ok(true)
    }

    /// Where a pod runs, or is going to.
    pub fn node_of(&self, uid: &str) -> Option<String> {
        self.state.lock().bound.get(uid).cloned()
    }

    /// The uids of all pods that run.
    pub fn pods(&self) -> Vec<String> {
        self.state.lock().pods.keys().cloned().collect()
    }

    /// What a container of each pod of an application uses from now on. An annotation of a pod counts more.
    pub fn demand(
        &self,
        (namespace, app, container): (&str, &str, &str),
        demand: Demand,
    ) -> Result<(), Missing> {
        let mut state = self.state.lock();
        let part = (namespace.to_owned(), app.to_owned(), container.to_owned());
        state.demands.insert(part, demand);
        self.share(&state, namespace, app)
    }

    /// Gives the pods of an application that run what they are to use.
    fn share(&self, state: &State, namespace: &str, app: &str) -> Result<(), Missing> {
        let of_app = |pod: &&Assigned| pod.namespace == namespace && pod.app == app;
        let pods = state.pods.values().filter(of_app).count();
        for pod in state.pods.values().filter(of_app) {
            let Some(node) = self.nodes.get(&pod.node) else { continue };
            for (name, id) in &pod.containers {
                let part = (namespace.to_owned(), app.to_owned(), name.clone());
                let demand = state.demands.get(&part).copied().unwrap_or_default();
                let load = pod.loads.get(name).copied().unwrap_or_else(|| demand.of_one(pods));
                node.set_load(&pod.uid, id, load)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use waggle_agent::collect::{Collector as _, Snapshot};

    use super::*;
    use crate::{
        layout::Qos,
        scenario::{hex, uid},
    };

    fn pod(app: &str, node: &str) -> Assigned {
        Assigned {
            namespace: "shop".to_owned(),
            name: format!("{app}-1"),
            uid: uid(),
            app: app.to_owned(),
            account: "default".to_owned(),
            node: node.to_owned(),
            qos: Qos::Burstable,
            sandbox: hex(64),
            containers: vec![("web".to_owned(), hex(64))],
            loads: BTreeMap::new(),
        }
    }

    /// Pages of the working sets of all containers but sandboxes on a node.
    fn pages(machines: &Machines, node: &str) -> Vec<u64> {
        let mut snapshot = Snapshot::default();
        machines.node(node).unwrap().clone().snapshot(&mut snapshot).unwrap();
        let containers = snapshot.samples.iter().filter(|sample| sample.identity.container.is_some());
        containers.map(|s| s.memory.unwrap().working_set_pages()).filter(|pages| *pages != 75).collect()
    }

    #[test]
    fn pods_go_where_the_fewest_are_and_stay() {
        let machines = Machines::new(["a", "b"].map(str::to_owned));
        let [one, two, three] = [uid(), uid(), uid()];
        assert_eq!(machines.place(&one).as_deref(), Some("a"));
        assert_eq!(machines.place(&two).as_deref(), Some("b"));
        assert_eq!(machines.place(&one).as_deref(), Some("a"));
        machines.end(&one).unwrap();
        assert_eq!(machines.place(&three).as_deref(), Some("a"));
        assert_eq!(Machines::new([]).place(&one), None);
    }

    #[test]
    fn pods_use_what_is_demanded_of_their_application_or_what_their_annotation_says() {
        let machines = Machines::new(["a".to_owned()]);
        let each = |mebibytes| Demand::each(Load::new(0, mebibytes));
        machines.demand(("shop", "cart", "web"), each(1)).unwrap();
        machines.demand(("shop", "till", "web"), each(9)).unwrap();
        let mut first = pod("cart", "a");
        assert!(machines.begin(&first).unwrap());
        assert!(machines.begin(&pod("cart", "a")).unwrap());
        assert_eq!(pages(&machines, "a"), [256, 256]);
        first.loads.insert("web".to_owned(), Load::new(0, 3));
        assert!(!machines.begin(&first).unwrap(), "it is there already");
        assert_eq!(pages(&machines, "a"), [768, 256]);
        machines.demand(("shop", "cart", "web"), each(2)).unwrap();
        assert_eq!(pages(&machines, "a"), [768, 512]);
        assert!(machines.end(&first.uid).unwrap());
        assert!(!machines.end(&first.uid).unwrap());
        assert_eq!((pages(&machines, "a"), machines.pods().len()), (vec![512], 1));
    }
}
