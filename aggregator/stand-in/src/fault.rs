//! Faults on demand, and counters of what was asked.

use std::{collections::BTreeMap, time::Duration};

use parking_lot::Mutex;

/// Which requests: of a resource (`pods`, `tokenreviews`, or a path such as `/readyz`), with one verb or any. A watch has
/// the verb `watch`. From a text: `"pods"`, `"watch pods"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    verb: Option<String>,
    resource: String,
}

impl From<&str> for Target {
    fn from(text: &str) -> Self {
        match text.split_once(' ') {
            Some((verb, resource)) => Self { verb: Some(verb.to_owned()), resource: resource.to_owned() },
            None => Self { verb: None, resource: text.to_owned() },
        }
    }
}

impl Target {
    fn matches(&self, verb: &str, resource: &str) -> bool {
        self.resource == resource && self.verb.as_deref().is_none_or(|only| only == verb)
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// No answer, ever.
    Hang,
    /// A watch answers with its headers, then nothing comes: neither events nor the end that was agreed on.
    Stall,
    /// This status with a Status object, and `Retry-After` where given.
    Status(u16, Option<Duration>),
    /// 410 Gone: as status of a list, as ERROR event of a watch.
    Gone,
    /// The connection breaks: before the answer, or for a watch in the middle of its first line.
    Cut,
    /// The answer comes this much later.
    Slow(Duration),
}

#[derive(Debug)]
struct Planned {
    target: Target,
    fault: Fault,
    left: usize,
}

/// Planned faults and counted requests.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    counts: Mutex<BTreeMap<(String, String), u64>>,
    planned: Mutex<Vec<Planned>>,
}

impl Traffic {
    pub(crate) fn plan(&self, target: Target, fault: Fault, times: usize) {
        self.planned.lock().push(Planned { target, fault, left: times });
    }

    pub(crate) fn clear(&self) {
        self.planned.lock().clear();
    }

    pub(crate) fn count(&self, target: &Target) -> u64 {
        let counts = self.counts.lock();
        counts.iter().filter(|((verb, resource), _)| target.matches(verb, resource)).map(|(_, n)| n).sum()
    }

    /// Counts a request and says what shall go wrong with it.
    pub(crate) fn arrive(&self, verb: &str, resource: &str) -> Option<Fault> {
        *self.counts.lock().entry((verb.to_owned(), resource.to_owned())).or_default() += 1;
        let mut planned = self.planned.lock();
        let next = planned.iter_mut().find(|plan| plan.left > 0 && plan.target.matches(verb, resource))?;
        next.left -= 1;
        Some(next.fault)
    }
}
