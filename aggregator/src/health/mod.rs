//! `/healthz`, `/livez`, `/readyz`: which checks they list, in which order, and the bodies that upstream's end-to-end
//! suite compares byte for byte. What a check looks at is passed in ([`Probe`]).

mod conditions;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt::Write as _};

pub use conditions::{Conditions, Signal};

/// A named check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// `ping`: the process answers.
    Ping,
    /// `log`: log lines are written.
    Log,
    /// `poststarthook/max-in-flight-filter`
    MaxInFlight,
    /// `poststarthook/storage-object-count-tracker-hook`
    StorageTracker,
    /// `metric-storage-ready`: at least one node and one pod can be served, and the ports that feed and serve them
    /// are in order.
    StorageReady,
    /// `metric-informer-sync`: nodes are synced and the authentication configuration is loaded.
    NodesSynced,
    /// `metadata-informer-sync`: pods are synced.
    PodsSynced,
    /// `metric-collection-timely`: the process still turns.
    CollectionTimely,
    /// `shutdown`: fails once termination began.
    Shutdown,
    /// `requestheader-config-sync`, folded into `metric-informer-sync`.
    RequestHeaderConfig,
    /// `agent-listener-ready`, folded into `metric-storage-ready`.
    AgentListener,
    /// `agent-stream-timely`: some agent delivered lately. Listed nowhere: silent agents leave held values to serve.
    AgentStream,
    /// `serving-certificate-valid`, folded into `metric-storage-ready`.
    ServingCertificate,
    /// `ca-bundle-published`: both APIServices carry the current bundle. Listed nowhere: a replica that is not ready would
    /// not publish it either.
    CaBundle,
}

impl Check {
    const ALL: [Self; 14] = [
        Self::Ping,
        Self::Log,
        Self::MaxInFlight,
        Self::StorageTracker,
        Self::StorageReady,
        Self::NodesSynced,
        Self::PodsSynced,
        Self::CollectionTimely,
        Self::Shutdown,
        Self::RequestHeaderConfig,
        Self::AgentListener,
        Self::AgentStream,
        Self::ServingCertificate,
        Self::CaBundle,
    ];

    /// The name in bodies and sub-paths.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ping => "ping",
            Self::Log => "log",
            Self::MaxInFlight => "poststarthook/max-in-flight-filter",
            Self::StorageTracker => "poststarthook/storage-object-count-tracker-hook",
            Self::StorageReady => "metric-storage-ready",
            Self::NodesSynced => "metric-informer-sync",
            Self::PodsSynced => "metadata-informer-sync",
            Self::CollectionTimely => "metric-collection-timely",
            Self::Shutdown => "shutdown",
            Self::RequestHeaderConfig => "requestheader-config-sync",
            Self::AgentListener => "agent-listener-ready",
            Self::AgentStream => "agent-stream-timely",
            Self::ServingCertificate => "serving-certificate-valid",
            Self::CaBundle => "ca-bundle-published",
        }
    }
}

/// An endpoint that lists checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/healthz`
    Healthz,
    /// `/livez`
    Livez,
    /// `/readyz`
    Readyz,
}

impl Endpoint {
    fn from_name(name: &str) -> Option<Self> {
        [Self::Healthz, Self::Livez, Self::Readyz].into_iter().find(|endpoint| endpoint.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Healthz => "healthz",
            Self::Livez => "livez",
            Self::Readyz => "readyz",
        }
    }

    fn checks(self) -> &'static [Check] {
        use Check::{
            CollectionTimely, Log, MaxInFlight, NodesSynced, Ping, PodsSynced, Shutdown, StorageReady,
            StorageTracker,
        };
        match self {
            Self::Healthz => &[Ping, Log, MaxInFlight, StorageTracker, PodsSynced],
            Self::Livez => &[Ping, Log, MaxInFlight, StorageTracker, CollectionTimely, PodsSynced],
            Self::Readyz => {
                &[Ping, Log, MaxInFlight, StorageTracker, StorageReady, NodesSynced, PodsSynced, Shutdown]
            }
        }
    }
}

/// The path of each endpoint, and of each check below those that list it.
pub fn paths() -> impl Iterator<Item = String> {
    [Endpoint::Healthz, Endpoint::Livez, Endpoint::Readyz].into_iter().flat_map(|endpoint| {
        let name = endpoint.name();
        let checks = endpoint.checks().iter().map(move |check| format!("/{name}/{}", check.name()));
        std::iter::once(format!("/{name}")).chain(checks)
    })
}

/// Looks at the process and says whether a check holds, or why not.
pub trait Probe: Send + Sync {
    /// The state of one check now.
    fn check(&self, check: Check) -> Result<(), String>;
}

/// A health answer: text/plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// 200, or 500.
    pub healthy: bool,
    /// The body.
    pub body: String,
}

/// The answer for a path such as `/readyz` or `/readyz/shutdown`; `None` where there is no such check.
pub fn report<'a>(
    probe: &dyn Probe,
    path: &str,
    verbose: bool,
    exclude: impl Iterator<Item = &'a str>,
) -> Option<Report> {
    let path = path.strip_prefix('/')?;
    let Some((endpoint, check)) = path.split_once('/') else {
        return Endpoint::from_name(path).map(|endpoint| whole(probe, endpoint, verbose, exclude));
    };
    Endpoint::from_name(endpoint)?;
    let check = Check::ALL.into_iter().find(|known| known.name() == check)?;
    Some(match probe.check(check) {
        Ok(()) => Report { healthy: true, body: "ok".to_owned() },
        Err(cause) => Report { healthy: false, body: format!("internal server error: {cause}\n") },
    })
}

fn whole<'a>(
    probe: &dyn Probe,
    endpoint: Endpoint,
    verbose: bool,
    exclude: impl Iterator<Item = &'a str>,
) -> Report {
    let mut excluded: BTreeSet<&str> = exclude.collect();
    let mut body = String::new();
    let mut healthy = true;
    for check in endpoint.checks() {
        let name = check.name();
        // Writing into a String cannot fail.
        let _ = if excluded.remove(name) {
            writeln!(body, "[+]{name} excluded: ok")
        } else if probe.check(*check).is_ok() {
            writeln!(body, "[+]{name} ok")
        } else {
            healthy = false;
            writeln!(body, "[-]{name} failed: reason withheld")
        };
    }
    if !excluded.is_empty() {
        let names: Vec<_> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let _ =
            writeln!(body, "warn: some health checks cannot be excluded: no matches for {}", names.join(","));
    }
    let name = endpoint.name();
    let _ = match (healthy, verbose) {
        (true, false) => {
            "ok".clone_into(&mut body);
            Ok(())
        }
        (true, true) => writeln!(body, "{name} check passed"),
        (false, _) => writeln!(body, "{name} check failed"),
    };
    Report { healthy, body }
}
