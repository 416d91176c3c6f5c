//! Objects with resource versions, and the history that watches read. One version counter for all kinds, as in etcd.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::Error;

/// The kinds that the stand-in keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// v1 Pod.
    Pod,
    /// v1 Node.
    Node,
    /// v1 ConfigMap.
    ConfigMap,
    /// v1 Secret.
    Secret,
    /// apiregistration.k8s.io/v1 APIService.
    ApiService,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Node, Self::Pod, Self::ConfigMap, Self::Secret, Self::ApiService];

    /// The `kind` of an object.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pod => "Pod",
            Self::Node => "Node",
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::ApiService => "APIService",
        }
    }

    /// The resource in paths.
    pub fn resource(self) -> &'static str {
        match self {
            Self::Pod => "pods",
            Self::Node => "nodes",
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
            Self::ApiService => "apiservices",
        }
    }

    /// The API group; empty for the core group.
    pub fn group(self) -> &'static str {
        if self == Self::ApiService { "apiregistration.k8s.io" } else { "" }
    }

    /// The `apiVersion` of an object.
    pub fn api_version(self) -> &'static str {
        if self == Self::ApiService { "apiregistration.k8s.io/v1" } else { "v1" }
    }

    /// Whether objects live in a namespace.
    pub fn namespaced(self) -> bool {
        matches!(self, Self::Pod | Self::ConfigMap | Self::Secret)
    }

    pub(crate) fn of_resource(group: &str, resource: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.group() == group && kind.resource() == resource)
    }

    fn of_object(object: &Value) -> Option<Self> {
        let name = object.get("kind")?.as_str()?;
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// Which way an object changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Stored,
    Deleted,
}

/// One step of history.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) version: u64,
    pub(crate) kind: Kind,
    pub(crate) change: Change,
    /// The object after the change (for a deletion: its last state, with the version of the deletion).
    pub(crate) object: Arc<Value>,
    /// The object before the change.
    pub(crate) previous: Option<Arc<Value>>,
}

/// The history asked for is no longer kept: 410 Gone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compacted {
    pub(crate) oldest: u64,
}

/// An object cannot be changed as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ChangeError {
    /// There is none.
    NotFound,
    /// It was changed since it was read.
    Conflict,
    /// What would be stored is not an object.
    Invalid(String),
}

type Key = (Kind, String, String);

#[derive(Debug)]
struct State {
    version: u64,
    objects: BTreeMap<Key, Arc<Value>>,
    history: VecDeque<Event>,
    compacted: u64,
}

#[derive(Debug)]
pub(crate) struct Store {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
    window: usize,
}

impl Store {
    /// `window`: how many steps of history are kept before they are compacted.
    pub(crate) fn new(window: usize) -> Self {
        // Like a real cluster, the counter does not start at 1: a client that takes "1" for "the beginning" is wrong.
        let version = 1_000;
        let state = State { version, objects: BTreeMap::new(), history: VecDeque::new(), compacted: version };
        Self { state: Mutex::new(state), changed: watch::channel(version).0, window }
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Stores an object: fills in uid, creation time and version; an unchanged object makes no event.
    pub(crate) fn apply(&self, object: Value) -> Result<u64, Error> {
        self.apply_locked(&mut self.state.lock(), object)
    }

    /// Changes an object that exists. Where the changed object names a resource version, it must be the stored one's.
    pub(crate) fn change(
        &self,
        (kind, namespace, name): (Kind, &str, &str),
        change: impl FnOnce(&Value) -> Value,
    ) -> Result<Arc<Value>, ChangeError> {
        let key = (kind, namespace.to_owned(), name.to_owned());
        let mut state = self.state.lock();
        let stored = state.objects.get(&key).cloned().ok_or(ChangeError::NotFound)?;
        let mut object = change(&stored);
        let wanted = object["metadata"]["resourceVersion"].clone();
        if !wanted.is_null() && wanted != "" && wanted != stored["metadata"]["resourceVersion"] {
            return Err(ChangeError::Conflict);
        }
        // What a path names cannot be renamed by a body.
        object["kind"] = json!(kind.name());
        for field in ["name", "namespace"] {
            object["metadata"][field] = stored["metadata"][field].clone();
        }
        self.apply_locked(&mut state, object).map_err(|error| ChangeError::Invalid(error.to_string()))?;
        state.objects.get(&key).cloned().ok_or(ChangeError::NotFound)
    }

    fn apply_locked(&self, state: &mut State, mut object: Value) -> Result<u64, Error> {
        let kind = Kind::of_object(&object)
            .ok_or_else(|| Error::Object(format!("unknown kind {}", object["kind"])))?;
        let name = text(&object, "name")
            .ok_or_else(|| Error::Object(format!("{} without metadata.name", kind.name())))?;
        let namespace = if kind.namespaced() {
            text(&object, "namespace").unwrap_or_else(|| "default".to_owned())
        } else {
            String::new()
        };
        let key = (kind, namespace.clone(), name);
        let previous = state.objects.get(&key).cloned();
        object["apiVersion"] = json!(kind.api_version());
        let metadata = &mut object["metadata"];
        if kind.namespaced() {
            metadata["namespace"] = json!(namespace);
        }
        let inherited = |field: &str| previous.as_ref().and_then(|old| text(old, field));
        if metadata["uid"].is_null() {
            metadata["uid"] = json!(inherited("uid").map_or_else(crate::random::uuid, Ok)?);
        }
        if metadata["creationTimestamp"].is_null() {
            let now = || jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            metadata["creationTimestamp"] = json!(inherited("creationTimestamp").unwrap_or_else(now));
        }
        if let Some(previous) = &previous {
            metadata["resourceVersion"] = previous["metadata"]["resourceVersion"].clone();
            if **previous == object {
                return Ok(state.version);
            }
        }
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let object = Arc::new(object);
        state.objects.insert(key, Arc::clone(&object));
        let event = Event { version: state.version, kind, change: Change::Stored, object, previous };
        Ok(self.record(state, event))
    }

    /// Deletes an object; whether there was one.
    pub(crate) fn delete(&self, kind: Kind, namespace: &str, name: &str) -> bool {
        let mut state = self.state.lock();
        let Some(previous) = state.objects.remove(&(kind, namespace.to_owned(), name.to_owned())) else {
            return false;
        };
        state.version += 1;
        let mut object = (*previous).clone();
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        let event = Event {
            version: state.version,
            kind,
            change: Change::Deleted,
            object: Arc::new(object),
            previous: Some(previous),
        };
        self.record(&mut state, event);
        true
    }

    pub(crate) fn get(&self, kind: Kind, namespace: &str, name: &str) -> Option<Arc<Value>> {
        self.state.lock().objects.get(&(kind, namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All objects of a kind (in one namespace), by namespace and name, with the version of the whole store.
    pub(crate) fn list(&self, kind: Kind, namespace: Option<&str>) -> (Vec<Arc<Value>>, u64) {
        let state = self.state.lock();
        let objects = state
            .objects
            .iter()
            .filter(|((k, ns, _), _)| *k == kind && namespace.is_none_or(|wanted| wanted == ns))
            .map(|(_, object)| Arc::clone(object))
            .collect();
        (objects, state.version)
    }

    /// The history of a kind after a version, and the version that it reaches to.
    pub(crate) fn events_after(&self, kind: Kind, version: u64) -> Result<(Vec<Event>, u64), Compacted> {
        let state = self.state.lock();
        if version < state.compacted {
            return Err(Compacted { oldest: state.compacted });
        }
        let events =
            state.history.iter().filter(|e| e.kind == kind && e.version > version).cloned().collect();
        Ok((events, state.version))
    }

    pub(crate) fn version(&self) -> u64 {
        self.state.lock().version
    }

    /// Forgets the whole history: every older resource version is 410 Gone from now on.
    pub(crate) fn compact(&self) {
        let mut state = self.state.lock();
        // A step of its own, so that also a watcher that has seen everything so far is too old.
        state.version += 1;
        state.history.clear();
        state.compacted = state.version;
        self.changed.send_replace(state.version);
    }

    fn record(&self, state: &mut State, event: Event) -> u64 {
        let version = event.version;
        state.history.push_back(event);
        while state.history.len() > self.window {
            if let Some(gone) = state.history.pop_front() {
                state.compacted = gone.version;
            }
        }
        self.changed.send_replace(version);
        version
    }
}

fn text(object: &Value, field: &str) -> Option<String> {
    Some(object.get("metadata")?.get(field)?.as_str()?.to_owned())
}
