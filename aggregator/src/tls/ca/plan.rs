//! What to do next about the CA and the serving certificate: a pure function of the time and of what was seen. Every replica
//! follows the same rules, and the Secret's resource version decides which one of them acts: there is no leader.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    authority::{CaCertificate, Fingerprint},
    contents::{Contents, Next, Old, bundle},
};

/// Spans of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spans {
    /// How long a CA is valid.
    pub ca_life: Duration,
    /// How long a serving certificate is valid.
    pub serving_life: Duration,
    /// How long the slowest reader of the bundle may take to see a change: kubelets refresh ConfigMap volumes within a
    /// minute or two.
    pub overlap: Duration,
}

/// A place that the bundle is published in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// This bundle, PEM; empty where nothing was published yet.
    Bundle(String),
    /// The object does not exist: nobody reads it.
    Absent,
    /// It could not be read.
    Unknown,
}

/// The certificate that this replica serves with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf {
    /// The CA that signed it.
    pub issuer: Fingerprint,
    /// When it was signed.
    pub signed: Timestamp,
    /// The last second in which it is valid.
    pub not_after: Timestamp,
}

/// Everything that a decision is made from.
#[derive(Debug, Clone)]
pub struct Seen<'a> {
    /// The time.
    pub now: Timestamp,
    /// The Secret.
    pub contents: &'a Contents,
    /// The ConfigMap.
    pub config_map: &'a Held,
    /// The APIServices.
    pub api_services: &'a [Held],
    /// What this replica serves with.
    pub leaf: Option<Leaf>,
    /// The CAs that this replica saw in the Secret before, if it did.
    pub remembered: &'a [CaCertificate],
}

/// A place for a new CA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// It signs at once: nobody trusts another one.
    Current,
    /// It signs when everybody can know it.
    Next,
}

/// What to do. After every step but [`Step::Rest`] everything is looked at again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make a CA, put it into this slot of these contents, and write them to the Secret.
    Make(Slot, Contents),
    /// Write these contents to the Secret.
    Write(Contents),
    /// Publish this bundle where another one is.
    Publish(String),
    /// Serve with a new certificate, signed by the CA of this slot.
    Sign(Slot),
    /// Nothing.
    Rest,
}

/// The next step.
pub fn next_step(spans: &Spans, seen: &Seen<'_>) -> Step {
    let wanted = bundle(&seen.contents.trusted());
    if seen.contents.is_empty() {
        return begin(spans, seen);
    }
    let published = is_published(seen, &wanted);
    if let Some(step) = rotate(spans, seen, published) {
        return step;
    }
    let differs = |held: &Held| matches!(held, Held::Bundle(text) if *text != wanted);
    if differs(seen.config_map) || seen.api_services.iter().any(differs) {
        return Step::Publish(wanted);
    }
    sign(seen, published).map_or(Step::Rest, Step::Sign)
}

/// Whether every place that exists holds this bundle.
fn is_published(seen: &Seen<'_>, wanted: &str) -> bool {
    let holds = |held: &Held| match held {
        Held::Bundle(text) => text == wanted,
        Held::Absent => true,
        Held::Unknown => false,
    };
    holds(seen.config_map) && seen.api_services.iter().all(holds)
}

/// The Secret is empty. Where no CA was known before, the first one signs at once. Where one was, its key is lost, but
/// replicas serve with what it signed: it stays trusted until that has ended, and the new one waits for its readers.
fn begin(spans: &Spans, seen: &Seen<'_>) -> Step {
    let mut known: Vec<_> = seen.remembered.to_vec();
    for certificate in both(seen) {
        if !known.contains(&certificate) {
            known.push(certificate);
        }
    }
    known.retain(|certificate| certificate.not_after() >= seen.now);
    if known.is_empty() {
        return Step::Make(Slot::Current, Contents::default());
    }
    let old = Old { certificates: known, until: last_leaf(spans, seen.now) };
    Step::Make(Slot::Next, Contents { old: Some(old), ..Contents::default() })
}

/// The CAs that are published both in the ConfigMap and in an APIService: whoever may write to one of them only cannot slip
/// a CA in here.
fn both(seen: &Seen<'_>) -> Vec<CaCertificate> {
    let read = |held: &Held| match held {
        Held::Bundle(text) => CaCertificate::read_all(text.as_bytes()).unwrap_or_default(),
        Held::Absent | Held::Unknown => Vec::new(),
    };
    let served: Vec<_> = seen.api_services.iter().flat_map(read).collect();
    read(seen.config_map).into_iter().filter(|certificate| served.contains(certificate)).collect()
}

/// A change of the Secret that is due.
fn rotate(spans: &Spans, seen: &Seen<'_>, published: bool) -> Option<Step> {
    let (now, contents) = (seen.now, seen.contents);
    if let Some(old) = &contents.old
        && old.until < now
    {
        return Some(Step::Write(Contents { old: None, ..contents.clone() }));
    }
    let Some(next) = &contents.next else {
        let due = match &contents.current {
            None => true,
            Some(current) => {
                let certificate = current.certificate();
                contents.rotate || two_thirds(certificate.not_before(), certificate.not_after()) <= now
            }
        };
        return due.then(|| Step::Make(Slot::Next, Contents { rotate: false, ..contents.clone() }));
    };
    match next.published {
        None if published => {
            let mut contents = contents.clone();
            contents.next = Some(Next { published: Some(now), ..next.clone() });
            Some(Step::Write(contents))
        }
        Some(since) if after(since, spans.overlap) <= now => {
            let retired = contents.current.iter().map(|current| current.certificate().clone());
            let earlier = contents.old.iter().flat_map(|old| old.certificates.iter().cloned());
            let certificates: Vec<_> = retired.chain(earlier).collect();
            let old = (!certificates.is_empty()).then(|| {
                let until = match (&contents.current, &contents.old) {
                    (None, Some(old)) => old.until,
                    _ => last_leaf(spans, now),
                };
                Old { certificates, until }
            });
            let current = Some(next.authority.clone());
            Some(Step::Write(Contents { current, next: None, old, rotate: contents.rotate }))
        }
        _ => None,
    }
}

/// The CA that a new certificate is to be signed by, where one is due. One of a CA that not everybody may have read yet is
/// served only by a replica that has nothing else. Renewal under the same CA waits for nobody: it is published already.
fn sign(seen: &Seen<'_>, published: bool) -> Option<Slot> {
    let (slot, signer) = match (&seen.contents.current, &seen.contents.next) {
        (Some(current), _) if current.certificate().not_after() >= seen.now => {
            (Slot::Current, current.certificate())
        }
        (_, Some(next)) => (Slot::Next, next.authority.certificate()),
        _ => return None,
    };
    let due = match seen.leaf {
        None => published,
        Some(leaf) => {
            let ended = leaf.not_after < seen.now;
            if leaf.issuer == signer.fingerprint() {
                ended || two_thirds(leaf.signed, leaf.not_after) <= seen.now
            } else {
                published && (ended || slot == Slot::Current)
            }
        }
    };
    due.then_some(slot)
}

/// When the last leaf that is signed now, or by a replica that does not know better for a moment, has surely ended.
fn last_leaf(spans: &Spans, now: Timestamp) -> Timestamp {
    after(after(now, spans.serving_life), spans.overlap)
}

/// The instant at which two thirds of a life are over.
fn two_thirds(begin: Timestamp, end: Timestamp) -> Timestamp {
    let life = Duration::try_from(end.duration_since(begin)).unwrap_or_default();
    after(begin, life / 3 * 2)
}

fn after(instant: Timestamp, span: Duration) -> Timestamp {
    instant.saturating_add(span).unwrap_or(Timestamp::MAX)
}
