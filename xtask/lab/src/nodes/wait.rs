//! Waiting for something in a cluster of real nodes, with a limit: a kernel that stumbles or a program that ends is told at once, and
//! who waited in vain says what he saw.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::{Machine, RealCluster};
use crate::{central, control_plane::ControlPlane};

const LOOK: Duration = Duration::from_millis(200);
/// How long one question may take: a server that hangs is not waited for.
const ANSWER: Duration = Duration::from_secs(20);

impl RealCluster {
    /// Waits until something holds. An error of the question counts as "not yet".
    pub async fn wait(
        &mut self,
        what: &str,
        limit: Duration,
        holds: impl AsyncFn(&ControlPlane) -> Result<bool>,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            self.check()?;
            let answer = timeout(ANSWER, holds(&self.plane)).await;
            let answer = answer.unwrap_or_else(|_| Err(anyhow!("no answer within {ANSWER:?}")));
            if matches!(answer, Ok(true)) {
                return Ok(());
            }
            if begun.elapsed() > limit {
                let last =
                    answer.err().map_or_else(|| "it does not hold".to_owned(), |error| format!("{error:#}"));
                let seen = self.diagnosis().await;
                return Err(anyhow!("not within {limit:?}: {what}: {last}\n{seen}"));
            }
            sleep(LOOK).await;
        }
    }

    /// An error if a kernel stumbled or a process ended.
    pub fn check(&mut self) -> Result<()> {
        self.machines.iter_mut().try_for_each(Machine::check)?;
        self.dns.check()?;
        self.plane.check()
    }

    /// What there is to see: nodes, pods, events, consoles, and the kubelets' last words.
    pub async fn diagnosis(&self) -> String {
        let mut text = String::new();
        for args in [
            &["get", "nodes", "-o", "wide"] as &[&str],
            &["get", "pods", "-A", "-o", "wide"],
            &["get", "events", "-A", "--sort-by=.lastTimestamp"],
        ] {
            let answer = match timeout(ANSWER, self.plane.kubectl(args)).await {
                Ok(answer) => answer.unwrap_or_else(|error| format!("{error:#}")),
                Err(_) => format!("no answer within {ANSWER:?}"),
            };
            // A write into a String cannot fail.
            let _ = writeln!(text, "$ kubectl {}\n{}", args.join(" "), central::last_lines(&answer));
        }
        for machine in &self.machines {
            let said =
                machine.shell("tail -n 15 /var/log/kubelet.log; tail -n 5 /var/log/containerd.log").await;
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            let console = central::tail(machine.console());
            let _ = writeln!(
                text,
                "console of {name} ({path}):\n{console}\nlogs of {name}:\n{said}",
                name = machine.name(),
                path = machine.console().display(),
            );
        }
        text
    }
}

/// Whether a condition of an object is `True`.
pub fn condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|known| known["type"] == kind && known["status"] == "True")
}
