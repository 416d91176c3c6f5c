//! What was seen last, for health checks and metrics.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{CaCertificate, Held, Leaf, Metrics, Seen, contents::bundle};

/// What health checks ask for. Clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Status {
    facts: Arc<Facts>,
}

#[derive(Debug, Default)]
struct Facts {
    matches: AtomicBool,
    published: AtomicBool,
}

impl Status {
    /// The issuer of the serving certificate is in the bundle that agents read, as it was seen last.
    pub fn serving_matches(&self) -> bool {
        self.facts.matches.load(Ordering::Relaxed)
    }

    /// Both APIServices carry the current bundle, as they were seen last.
    pub fn is_published(&self) -> bool {
        self.facts.published.load(Ordering::Relaxed)
    }

    /// Takes down what was seen.
    pub(super) fn take(&self, seen: &Seen<'_>, metrics: &Metrics) {
        let trusted = seen.contents.trusted();
        let known = |leaf: Leaf| match seen.config_map {
            Held::Bundle(text) => CaCertificate::read_all(text.as_bytes())
                .unwrap_or_default()
                .iter()
                .any(|certificate| certificate.fingerprint() == leaf.issuer),
            Held::Absent => false,
            // As it was seen last: a moment without an answer does not make a good certificate bad.
            Held::Unknown => self.serving_matches(),
        };
        let wanted = bundle(&trusted);
        let carries = |held: &Held| matches!(held, Held::Bundle(text) if *text == wanted);
        let published = if seen.api_services.contains(&Held::Unknown) {
            self.is_published()
        } else {
            !trusted.is_empty() && seen.api_services.iter().all(carries)
        };
        self.facts.matches.store(seen.leaf.is_some_and(known), Ordering::Relaxed);
        self.facts.published.store(published, Ordering::Relaxed);
        metrics.published.set(i64::from(published));
        metrics.trusted.set(i64::try_from(trusted.len()).unwrap_or(i64::MAX));
        if let Some(current) = &seen.contents.current {
            metrics.not_after.set(current.certificate().not_after().as_second());
        }
    }
}
