//! Looks, several times a second, at what is served for an application, at its replicas and at its autoscaler, and
//! remembers all of it with its moment.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{task::JoinHandle, time::Instant};
use waggle_lab::metrics::Item;

use super::app::{App, NAMESPACE};

/// Pause between two looks.
pub const PAUSE: Duration = Duration::from_millis(100);

/// One look.
#[derive(Debug, Clone)]
pub struct Look {
    /// Before anything of it was asked.
    pub begun: Instant,
    /// After the last answer.
    pub ended: Instant,
    /// Replicas that the autoscaler is to want for what was served; `None` where not just the replicas were served.
    pub wanted: Option<i64>,
    /// `spec.replicas` of the Deployment.
    pub replicas: i64,
    /// Status and reason of the autoscaler's condition `ScalingActive`.
    pub active: Option<(bool, String)>,
    /// The shortest window of what was served.
    pub window: Duration,
}

/// Looks until it is dropped.
pub struct Observer {
    pub app: App,
    looks: Arc<Mutex<Vec<Look>>>,
    task: JoinHandle<()>,
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Observer {
    pub fn start(client: kube::Client, app: App) -> Self {
        let looks = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&looks);
        let task = tokio::spawn(async move {
            loop {
                match look(&client, app).await {
                    Ok(look) => seen.lock().push(look),
                    Err(error) => println!("{}: {error:#}", app.name),
                }
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { app, looks, task }
    }

    /// All looks that began at `since` or later.
    pub fn since(&self, since: Instant) -> Vec<Look> {
        self.looks.lock().iter().filter(|look| look.begun >= since).cloned().collect()
    }

    /// Waits for a look, begun at `since` or later, that is as wanted.
    pub async fn wait(&self, since: Instant, limit: Duration, wanted: impl Fn(&Look) -> bool) -> Look {
        loop {
            let looks = self.since(since);
            if let Some(look) = looks.iter().find(|look| wanted(look)) {
                return look.clone();
            }
            assert!(since.elapsed() < limit, "{} after {limit:?}: {:?}", self.app.name, looks.last());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until there were this many replicas at every look of the last `span`.
    pub async fn settles(&self, replicas: i64, span: Duration, limit: Duration) {
        let begun = Instant::now();
        loop {
            let since = Instant::now().checked_sub(span).unwrap_or(begun);
            let looks = self.since(since);
            let oldest = self.looks.lock().first().is_some_and(|first| first.begun < since);
            if oldest && !looks.is_empty() && looks.iter().all(|look| look.replicas == replicas) {
                return;
            }
            assert!(begun.elapsed() < limit, "{} after {limit:?}: {:?}", self.app.name, looks.last());
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn look(client: &kube::Client, app: App) -> Result<Look> {
    let begun = Instant::now();
    let name = app.name;
    let list = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{name}");
    let served = match get(client, &list).await {
        Ok(list) => {
            let items = list["items"].as_array().context("no items")?;
            items.iter().map(Item::read).collect::<Result<Vec<_>>>()?
        }
        // Nobody serves, and that is part of the test.
        Err(kube::Error::Api(_)) => Vec::new(),
        Err(error) => return Err(error).context(list),
    };
    let deployment = get(client, &format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{name}")).await?;
    let replicas = deployment["spec"]["replicas"].as_i64().context("no replicas")?;
    let path = format!("/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers/{name}");
    let autoscaler = get(client, &path).await?;
    let conditions = autoscaler["status"]["conditions"].as_array();
    let active = conditions.into_iter().flatten().find(|condition| condition["type"] == "ScalingActive");
    let reason = |condition: &Value| condition["reason"].as_str().unwrap_or_default().to_owned();
    Ok(Look {
        begun,
        ended: Instant::now(),
        wanted: (i64::try_from(served.len()) == Ok(replicas)).then(|| app.wanted(&served)),
        replicas,
        active: active.map(|condition| (condition["status"] == "True", reason(condition))),
        window: served.iter().map(|item| item.window).min().unwrap_or_default(),
    })
}

async fn get(client: &kube::Client, path: &str) -> Result<Value, kube::Error> {
    let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
    client.request(request).await
}
