//! A client like the HPA controller, through kube-apiserver: lists the pods of a namespace again and again while a step goes on, and
//! remembers each answer that was none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{task::JoinHandle, time::MissedTickBehavior};

use super::world::World;

const EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);
/// The API version that the HPA controller reads.
const LIST: &str = "/apis/metrics.k8s.io/v1beta1/namespaces/default/pods";

/// Asks until it is ended.
pub struct Asker {
    seen: Arc<Mutex<Asked>>,
    task: JoinHandle<()>,
}

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Asked {
    /// Requests.
    pub count: u64,
    /// What went wrong, with the second at which it did.
    pub failures: Vec<String>,
    /// The longest time from one good answer to the next.
    pub gap: Duration,
}

impl Asker {
    /// Begins.
    pub async fn start(world: &World) -> Result<Self> {
        let client = world.cluster.plane.client().await?;
        let seen = Arc::new(Mutex::new(Asked::default()));
        let task = tokio::spawn(ask(client, Arc::clone(&seen)));
        Ok(Self { seen, task })
    }

    /// Ends it.
    pub fn end(self) -> Asked {
        self.task.abort();
        self.seen.lock().clone()
    }
}

impl Asked {
    /// An error if a request failed, or so few were made that nothing is proved.
    pub fn none_failed(&self) -> Result<String> {
        let Self { count, failures, gap } = self;
        ensure!(
            failures.is_empty(),
            "{} of {count} list requests failed; the first: {}",
            failures.len(),
            failures.first().map(String::as_str).unwrap_or_default()
        );
        ensure!(*count >= 10, "only {count} list requests were made");
        Ok(format!("none of {count} list requests failed (longest time between two answers {gap:.1?})"))
    }
}

async fn ask(client: kube::Client, seen: Arc<Mutex<Asked>>) {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_good = begun;
    loop {
        ticks.tick().await;
        let outcome = match tokio::time::timeout(PATIENCE, once(&client)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {PATIENCE:?}")),
        };
        let mut seen = seen.lock();
        seen.count += 1;
        match outcome {
            Ok(()) => {
                seen.gap = seen.gap.max(last_good.elapsed());
                last_good = Instant::now();
            }
            Err(error) => seen.failures.push(format!("at {:.1} s: {error}", begun.elapsed().as_secs_f64())),
        }
    }
}

async fn once(client: &kube::Client) -> Result<(), String> {
    let request = http::Request::get(LIST).body(Vec::new()).map_err(|error| error.to_string())?;
    let list = client.request::<Value>(request).await.map_err(|error| error.to_string())?;
    match list["items"].as_array() {
        Some(items) if !items.is_empty() => Ok(()),
        _ => Err(format!("an empty list: {list}")),
    }
}
