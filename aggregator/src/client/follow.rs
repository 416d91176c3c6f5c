//! A watch that survives: errors with back-off, silence by beginning again, expired history by a new list.

use std::{borrow::Cow, fmt::Debug, pin::pin, time::Duration};

use futures_util::StreamExt;
use kube::{
    Api, Resource,
    runtime::watcher::{self, Event, watcher},
};
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// How long silence is believed.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a list, whose answer may be long.
    pub list: Duration,
    /// After which the server ends a watch by agreement; a watch that is silent for longer than this is dead.
    pub watch: Duration,
    /// The first pause after a failure; it doubles up to 30 s.
    pub backoff: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            list: Duration::from_secs(30),
            watch: Duration::from_mins(1),
            backoff: Duration::from_millis(500),
        }
    }
}

const LONGEST_BACKOFF: Duration = Duration::from_secs(30);
impl Patience {
    /// For how long a connection that carries a watch may be silent.
    pub(super) fn read(&self) -> Duration {
        self.watch + MARGIN
    }
}

/// What a server may be late with the agreed end of a watch.
const MARGIN: Duration = Duration::from_secs(10);

type ByResource = Family<[(&'static str, &'static str); 1], Counter>;

/// Counters of all watches, by resource. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Lists that were taken over completely.
    pub lists: ByResource,
    /// Failures, after each of which a pause came.
    pub failures: ByResource,
    /// Lists that fell silent and were begun again.
    pub silences: ByResource,
}

impl Metrics {
    /// Adds all families to `registry`, names beginning with `waggle_watch_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("waggle_watch");
        registry.register("lists", "Lists of the API server taken over", self.lists.clone());
        registry.register("failures", "Failed lists and watches", self.failures.clone());
        registry.register("silences", "Lists given up because nothing came", self.silences.clone());
    }
}

/// What is followed.
#[derive(Debug, Clone)]
pub struct Source<K> {
    /// The objects.
    pub api: Api<K>,
    /// Field selector; empty for none.
    pub fields: Cow<'static, str>,
    /// Name of the resource in logs and metrics.
    pub resource: &'static str,
}

/// Follows objects forever and hands each event on. After every `Init` all objects come as `InitApply`, then `InitDone`:
/// what did not come in between is gone.
pub async fn follow<K>(
    source: Source<K>,
    patience: Patience,
    metrics: Metrics,
    mut on_event: impl FnMut(Event<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let label = [("resource", source.resource)];
    let seconds = u32::try_from(patience.watch.as_secs()).unwrap_or(u32::MAX).max(1);
    let mut config = watcher::Config::default().timeout(seconds);
    if !source.fields.is_empty() {
        config = config.fields(&source.fields);
    }
    let mut pause = patience.backoff;
    loop {
        let mut events = pin!(watcher(source.api.clone(), config.clone()));
        let mut listed = false;
        loop {
            // A quiet watch brings no event for hours: bookmarks and its agreed ends stay inside kube. A dead one is found
            // by the client, which gives up a connection that nothing was read from ([`Patience::read`]).
            let longest = if listed { Duration::MAX } else { patience.list };
            match timeout(longest, events.next()).await {
                Ok(Some(Ok(event))) => {
                    match &event {
                        Event::Init => listed = false,
                        Event::InitDone => {
                            listed = true;
                            metrics.lists.get_or_create(&label).inc();
                        }
                        _ => {}
                    }
                    if listed {
                        pause = patience.backoff;
                    }
                    on_event(event);
                }
                Ok(Some(Err(error))) => {
                    // Forgotten history is what an outage ends with, not another failure: the new list shall not wait for it.
                    if matches!(&error, watcher::Error::WatchError(status) if status.code == 410) {
                        pause = patience.backoff;
                    }
                    metrics.failures.get_or_create(&label).inc();
                    tracing::warn!(resource = source.resource, %error, "watch failed, trying again in about {pause:?}");
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_BACKOFF);
                }
                Ok(None) => break,
                Err(_) => {
                    metrics.silences.get_or_create(&label).inc();
                    tracing::warn!(resource = source.resource, "no list came for {longest:?}, asking anew");
                    break;
                }
            }
        }
    }
}

/// Between half and one and a half.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}
