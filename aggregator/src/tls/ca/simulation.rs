//! Several replicas, a store with versions, readers that lag, and everything that happens to them in any order: the rules of
//! [`next_step`] are followed by all, one step at a time, each on what it last saw. What must hold throughout:
//!
//! * a reader that is at most `overlap` late trusts what every replica serves with;
//! * a CA that signs is never replaced but by the one that was published before it;
//! * when it becomes quiet, all replicas serve with leaves of the one CA that signs.

use std::{collections::VecDeque, time::Duration};

use jiff::Timestamp;
use proptest::{prelude::*, sample::Index};

use super::{authority::*, contents::*, plan::*};

const REPLICAS: usize = 3;

fn spans() -> Spans {
    Spans {
        ca_life: Duration::from_hours(24 * 3650),
        serving_life: Duration::from_hours(24 * 90),
        overlap: Duration::from_mins(10),
    }
}

/// An object: its version counts its changes.
#[derive(Debug, Clone, Default)]
struct Versioned<T> {
    version: u64,
    value: T,
}

impl<T> Versioned<T> {
    /// Whether the write was taken.
    fn write(&mut self, read: u64, value: T) -> bool {
        let current = self.version == read;
        if current {
            *self = Self { version: read + 1, value };
        }
        current
    }
}

/// What a replica read, places before the Secret.
#[derive(Debug, Clone)]
struct Read {
    places: [Versioned<String>; 3],
    contents: Versioned<Contents>,
}

#[derive(Debug, Clone, Default)]
struct Replica {
    leaf: Option<Leaf>,
    remembered: Vec<CaCertificate>,
    /// Read, and not acted upon yet.
    read: Option<Read>,
    /// Since when.
    since: Option<Timestamp>,
}

/// The ConfigMap first, then both APIServices.
struct Cluster {
    now: Timestamp,
    secret: Versioned<Contents>,
    places: [Versioned<String>; 3],
    /// What was in the ConfigMap, and until when: readers may still have it.
    earlier: VecDeque<(Timestamp, String)>,
    replicas: [Replica; REPLICAS],
}

#[derive(Debug, Clone)]
enum Event {
    /// Time goes by, in seconds.
    Wait(u32),
    /// A replica looks.
    Look(usize),
    /// A replica does what follows from what it saw last, however old that is by then.
    Act(usize),
    /// A replica begins again, with nothing in memory.
    Restart(usize),
    /// Somebody asks for a rotation.
    Rotate,
    /// Somebody empties the Secret.
    Empty,
    /// Something resets the bundle of one of the APIServices.
    Drift,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => (1..120_u32).prop_map(Event::Wait),
        2 => (300..1200_u32).prop_map(Event::Wait),
        1 => (86_400..86_400 * 40_u32).prop_map(Event::Wait),
        12 => (0..REPLICAS).prop_map(Event::Look),
        12 => (0..REPLICAS).prop_map(Event::Act),
        1 => (0..REPLICAS).prop_map(Event::Restart),
        1 => Just(Event::Rotate),
        1 => Just(Event::Empty),
        1 => Just(Event::Drift),
    ]
}

impl Cluster {
    fn new() -> Self {
        Self {
            now: "2026-11-22T12:00:00Z".parse().unwrap(),
            secret: Versioned::default(),
            places: Default::default(),
            earlier: VecDeque::new(),
            replicas: Default::default(),
        }
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Wait(seconds) => {
                self.now = self.now.checked_add(Duration::from_secs(u64::from(*seconds))).unwrap();
                // A replica reads and acts within the time limits of its calls; it does not hold what it read for days. And it
                // looks each minute: one that does not is not part of this (its leaf lives on by `old.until`).
                for replica in &mut self.replicas {
                    replica.read = None;
                }
                for number in 0..REPLICAS {
                    self.settle(number);
                }
            }
            Event::Look(number) => self.look(*number),
            Event::Act(number) => {
                if let Some(read) = self.replicas[*number].read.take() {
                    self.act(*number, &read);
                }
            }
            Event::Restart(number) => self.replicas[*number] = Replica::default(),
            Event::Rotate => {
                let mut contents = self.secret.value.clone();
                contents.rotate = true;
                let version = self.secret.version;
                self.secret.write(version, contents);
            }
            Event::Empty => {
                let version = self.secret.version;
                self.secret.write(version, Contents::default());
            }
            Event::Drift => {
                let [_, place, _] = &mut self.places;
                let version = place.version;
                place.write(version, String::new());
            }
        }
    }

    fn look(&mut self, number: usize) {
        let read = Read { places: self.places.clone(), contents: self.secret.clone() };
        self.replicas[number].read = Some(read);
    }

    fn seen_step(&self, number: usize, read: &Read) -> Step {
        let [config_map, first, second] = read.places.clone().map(|place| Held::Bundle(place.value));
        let replica = &self.replicas[number];
        next_step(
            &spans(),
            &Seen {
                now: self.now,
                contents: &read.contents.value,
                config_map: &config_map,
                api_services: &[first, second],
                leaf: replica.leaf,
                remembered: &replica.remembered,
            },
        )
    }

    /// Does one step; whether it was not the last.
    fn act(&mut self, number: usize, read: &Read) -> bool {
        let step = self.seen_step(number, read);
        let again = step != Step::Rest;
        match step {
            Step::Make(slot, mut contents) => {
                let authority = Authority::make(self.now, spans().ca_life).unwrap();
                match slot {
                    Slot::Current => contents.current = Some(authority),
                    Slot::Next => contents.next = Some(Next { authority, published: None }),
                }
                self.secret.write(read.contents.version, contents);
            }
            Step::Write(contents) => {
                self.secret.write(read.contents.version, contents);
            }
            Step::Publish(bundle) => {
                for (number, seen) in read.places.iter().enumerate() {
                    if seen.value == bundle {
                        continue;
                    }
                    let before = self.places[number].value.clone();
                    if self.places[number].write(seen.version, bundle.clone()) && number == 0 {
                        self.earlier.push_back((self.now, before));
                    }
                }
            }
            Step::Sign(slot) => {
                let contents = &read.contents.value;
                let issuer = match slot {
                    Slot::Current => contents.current.as_ref().unwrap(),
                    Slot::Next => &contents.next.as_ref().unwrap().authority,
                };
                let issuer = issuer.certificate().fingerprint();
                let not_after = self.now.checked_add(spans().serving_life).unwrap();
                let replica = &mut self.replicas[number];
                // One that serves with nothing, or with what has ended, harms nobody by a CA that not everybody knows.
                let harmless = replica.leaf.is_none_or(|leaf| leaf.not_after < self.now);
                replica.since = harmless.then_some(self.now).or(replica.since);
                replica.leaf = Some(Leaf { issuer, signed: self.now, not_after });
            }
            Step::Rest => {}
        }
        if !read.contents.value.is_empty() {
            self.replicas[number].remembered = read.contents.value.trusted();
        }
        again
    }

    fn settle(&mut self, number: usize) {
        for _ in 0..16 {
            self.look(number);
            let read = self.replicas[number].read.take().unwrap();
            if !self.act(number, &read) {
                return;
            }
        }
        panic!("replica {number} does not come to rest");
    }

    /// Every leaf that is valid is trusted by every reader that is at most `overlap` late.
    fn check(&self) -> Result<(), TestCaseError> {
        let late = |since: &Timestamp| self.now.duration_since(*since) < jiff::SignedDuration::from_mins(10);
        let bundles = self.earlier.iter().filter(|(until, _)| late(until)).map(|(_, bundle)| bundle);
        for bundle in bundles.chain([&self.places[0].value]).filter(|bundle| !bundle.is_empty()) {
            let trusted = CaCertificate::read_all(bundle.as_bytes()).unwrap();
            for replica in &self.replicas {
                let Some(leaf) = replica.leaf.filter(|leaf| leaf.not_after >= self.now) else { continue };
                // It began with nothing, lately: see `act`.
                if replica.since.as_ref().is_some_and(late) {
                    continue;
                }
                prop_assert!(
                    trusted.iter().any(|certificate| certificate.fingerprint() == leaf.issuer),
                    "a reader does not trust what a replica serves with"
                );
            }
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn replicas_agree_and_readers_trust_them(
        events in proptest::collection::vec(event(), 1..120),
        order in any::<Index>(),
    ) {
        let mut cluster = Cluster::new();
        for event in &events {
            let before = cluster.secret.value.clone();
            cluster.happen(event);
            let after = &cluster.secret.value;
            if let (Some(old), Some(new)) = (&before.current, &after.current)
                && old != new
                && !matches!(event, Event::Wait(_))
            {
                let next = before.next.as_ref().map(|next| (&next.authority, next.published.is_some()));
                prop_assert_eq!(next, Some((new, true)), "replaced by a CA that was not announced");
            }
            cluster.check()?;
        }
        for _ in 0..4 {
            cluster.happen(&Event::Wait(700));
            cluster.check()?;
        }
        let first = order.index(REPLICAS);
        for step in 0..REPLICAS {
            cluster.settle((first + step) % REPLICAS);
        }
        let contents = &cluster.secret.value;
        prop_assert!(contents.next.is_none() && !contents.rotate);
        let current = contents.current.as_ref().unwrap().certificate().fingerprint();
        for replica in &cluster.replicas {
            prop_assert_eq!(replica.leaf.unwrap().issuer, current);
        }
        for place in &cluster.places {
            prop_assert_eq!(&place.value, &bundle(&contents.trusted()));
        }
    }
}
