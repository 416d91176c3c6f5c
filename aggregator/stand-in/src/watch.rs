//! One watch: lines of events from a resource version on, with bookmarks and, where asked for, the initial state.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::{sync::watch, time::Instant};

use crate::{
    answer::{Body, Broken, status_object},
    fault::Fault,
    selector::Filter,
    store::{Change, Compacted, Event, Kind, Store},
};

/// What a watch request asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<String>,
    pub(crate) filter: Filter,
    /// Events after this version; `None`: begin with the present state.
    pub(crate) from: Option<u64>,
    /// Mark the end of the initial state (watch-list).
    pub(crate) initial_end: bool,
    pub(crate) bookmarks: Option<Duration>,
    pub(crate) timeout: Duration,
}

struct Watch {
    wanted: Wanted,
    store: Arc<Store>,
    changes: watch::Receiver<u64>,
    version: u64,
    lines: VecDeque<Bytes>,
    fault: Option<Fault>,
    ended: bool,
    deadline: Instant,
}

/// The body of a watch answer.
pub(crate) fn body(store: Arc<Store>, wanted: Wanted, fault: Option<Fault>) -> Body {
    let changes = store.changes();
    let deadline = Instant::now() + wanted.timeout;
    let mut watch = Watch {
        version: wanted.from.unwrap_or_default(),
        wanted,
        changes,
        lines: VecDeque::new(),
        fault,
        ended: false,
        deadline,
        store,
    };
    if fault == Some(Fault::Gone) {
        watch.gone(Compacted { oldest: watch.store.version() });
    } else if watch.wanted.from.is_none() {
        watch.present_state();
    }
    StreamBody::new(futures_util::stream::unfold(watch, next)).boxed_unsync()
}

async fn next(mut watch: Watch) -> Option<(Result<Frame<Bytes>, Broken>, Watch)> {
    if watch.fault == Some(Fault::Stall) {
        std::future::pending::<()>().await;
    }
    loop {
        if let Some(mut line) = watch.lines.pop_front() {
            if watch.fault == Some(Fault::Cut) {
                if line.is_empty() {
                    return Some((Err(Broken("cut by a fault".to_owned())), watch));
                }
                watch.lines.push_front(Bytes::new());
                line.truncate(line.len() / 2);
            }
            return Some((Ok(Frame::data(line)), watch));
        }
        if watch.ended {
            return None;
        }
        watch.changes.mark_unchanged();
        match watch.store.events_after(watch.wanted.kind, watch.version) {
            Err(compacted) => watch.gone(compacted),
            Ok((events, version)) => {
                watch.version = version;
                for event in &events {
                    watch.event(event);
                }
            }
        }
        if watch.lines.is_empty() {
            watch.wait().await;
        }
    }
}

impl Watch {
    async fn wait(&mut self) {
        let pause = self.wanted.bookmarks.unwrap_or(Duration::from_hours(24));
        tokio::select! {
            changed = self.changes.changed() => self.ended = changed.is_err(),
            () = tokio::time::sleep(pause) => self.bookmark(None),
            () = tokio::time::sleep_until(self.deadline) => self.ended = true,
        }
    }

    fn present_state(&mut self) {
        let (objects, version) = self.store.list(self.wanted.kind, self.wanted.namespace.as_deref());
        for object in objects {
            if self.wanted.filter.matches(&object) {
                self.push("ADDED", &object);
            }
        }
        self.version = version;
        if self.wanted.initial_end {
            self.bookmark(Some("k8s.io/initial-events-end"));
        }
    }

    fn event(&mut self, event: &Event) {
        let selected = |object: &Value| {
            let namespace = object["metadata"]["namespace"].as_str();
            (self.wanted.namespace.is_none() || self.wanted.namespace.as_deref() == namespace)
                && self.wanted.filter.matches(object)
        };
        let before = event.previous.as_deref().is_some_and(selected);
        let after = event.change == Change::Stored && selected(&event.object);
        match (before, after) {
            (false, true) => self.push("ADDED", &event.object),
            (true, true) => self.push("MODIFIED", &event.object),
            (true, false) => self.push("DELETED", &event.object),
            (false, false) => {}
        }
    }

    fn bookmark(&mut self, annotation: Option<&str>) {
        let mut metadata = json!({"resourceVersion": self.version.to_string(), "creationTimestamp": null});
        if let Some(annotation) = annotation {
            metadata["annotations"] = json!({annotation: "true"});
        }
        let kind = self.wanted.kind;
        self.push(
            "BOOKMARK",
            &json!({"kind": kind.name(), "apiVersion": kind.api_version(), "metadata": metadata}),
        );
    }

    /// As kube-apiserver does it: the watch is answered with 200, its only event is the error.
    fn gone(&mut self, compacted: Compacted) {
        let message = format!("too old resource version: {} ({})", self.version, compacted.oldest);
        self.push("ERROR", &status_object(http::StatusCode::GONE, "Expired", &message));
        self.ended = true;
    }

    fn push(&mut self, kind: &str, object: &Value) {
        self.lines.push_back(format!("{}\n", json!({"type": kind, "object": object})).into());
    }
}
