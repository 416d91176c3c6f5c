//! What the checks look at in the running process.

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::{Check, Probe};
use crate::{
    inventory::{Inventory, Pod},
    tls,
    view::{NodeView, Views},
};

/// A fact that somebody else knows.
pub struct Signal(Box<dyn Fn() -> bool + Send + Sync>);

impl Signal {
    /// A fact, asked each time.
    pub fn new(fact: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Box::new(fact))
    }

    fn holds(&self) -> bool {
        (self.0)()
    }
}

/// The conditions of an aggregator.
pub struct Conditions {
    /// Pods and Nodes.
    pub inventory: Inventory,
    /// What is served.
    pub views: Views,
    /// How old what is served may be.
    pub max_age: Duration,
    /// The window of CPU rates: the measure of what is late.
    pub window: Duration,
    /// The Pod watch listed once.
    pub pods_synced: Signal,
    /// The Node watch listed once.
    pub nodes_synced: Signal,
    /// The authentication ConfigMap was loaded.
    pub request_header_config: Signal,
    /// The agents' port is bound and has a certificate.
    pub agent_listener: Signal,
    /// The serving certificates and their CA.
    pub certificates: tls::Checks,
    /// When an agent's snapshot was stored last.
    pub delivered: Box<dyn Fn() -> Option<Instant> + Send + Sync>,
    /// Termination began.
    pub stopping: AtomicBool,
    /// When the runtime last ran the heartbeat.
    pub heartbeat: Mutex<Instant>,
}

impl fmt::Debug for Conditions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Conditions").field("stopping", &self.stopping).finish_non_exhaustive()
    }
}

impl Conditions {
    /// Says that termination began.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Says that the process still turns.
    pub fn beat(&self) {
        *self.heartbeat.lock() = Instant::now();
    }

    fn late(&self) -> Duration {
        self.window.mul_f32(1.5)
    }

    /// Some node, and some running pod, can be served.
    fn servable(&self) -> Result<(), String> {
        let views = || {
            self.inventory.nodes().into_iter().filter_map(|node| Some((self.views.node(&node.name)?, node)))
        };
        let fresh = |seen: Instant| seen.elapsed() <= self.max_age;
        if !views().any(|(view, _)| view.node.as_ref().is_some_and(|entry| fresh(entry.measured.seen))) {
            return Err("no node has values yet".to_owned());
        }
        let pod = |view: &NodeView, node: &str| {
            let served = |pod: &Pod| view.pods.get(pod).is_some_and(|entry| fresh(entry.measured.seen));
            self.inventory.pods_on(node).iter().any(|pod| pod.running && served(pod))
        };
        if !views().any(|(view, node)| pod(&view, &node.name)) {
            return Err("no running pod has values yet".to_owned());
        }
        Ok(())
    }
}

impl Probe for Conditions {
    fn check(&self, check: Check) -> Result<(), String> {
        let that = |holds: bool, cause: &str| if holds { Ok(()) } else { Err(cause.to_owned()) };
        match check {
            Check::Ping | Check::Log | Check::MaxInFlight | Check::StorageTracker => Ok(()),
            Check::StorageReady => {
                self.check(Check::AgentListener)?;
                self.check(Check::ServingCertificate)?;
                self.servable()
            }
            Check::NodesSynced => {
                that(self.nodes_synced.holds(), "nodes are not listed yet")?;
                self.check(Check::RequestHeaderConfig)
            }
            Check::PodsSynced => that(self.pods_synced.holds(), "pods are not listed yet"),
            Check::CollectionTimely => {
                that(self.heartbeat.lock().elapsed() <= self.late(), "the process stood still")
            }
            Check::Shutdown => that(!self.stopping.load(Ordering::Relaxed), "process is shutting down"),
            Check::RequestHeaderConfig => that(
                self.request_header_config.holds(),
                "ConfigMap kube-system/extension-apiserver-authentication is not loaded yet",
            ),
            Check::AgentListener => {
                that(self.agent_listener.holds(), "the agents' port is not bound, or has no certificate yet")
            }
            Check::AgentStream => {
                let timely = (self.delivered)().is_some_and(|seen| seen.elapsed() <= self.late());
                that(timely, "no agent delivered lately")
            }
            Check::ServingCertificate => self.certificates.serving_certificate(Timestamp::now()),
            Check::CaBundle => self.certificates.ca_bundle(),
        }
    }
}
