//! The log against every state that ever was.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A label and a value.
type Object = (u8, u32);
type State = BTreeMap<Key, Object>;

impl Item for Object {
    fn is_selected_like(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

#[derive(Debug, Clone)]
enum Change {
    Put(u8, u8),
    Remove(u8),
}

fn key(name: u8) -> Key {
    Key { namespace: format!("ns-{}", name % 2).into(), name: format!("pod-{name}").into() }
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0..5u8, 0..3u8).prop_map(|(name, label)| Change::Put(name, label)),
        2 => (0..5u8).prop_map(Change::Remove),
    ]
}

/// The log, and what it was at each of its versions.
struct World {
    log: Log<Object>,
    states: Vec<State>,
}

impl World {
    fn new(keep: usize) -> Self {
        Self { log: Log::new(keep), states: vec![State::new()] }
    }

    fn take(&mut self, changes: &[Change]) {
        for change in changes {
            self.change(change);
        }
    }

    fn change(&mut self, change: &Change) {
        let mut state = self.now().clone();
        let value = u32::try_from(self.states.len()).unwrap();
        match change {
            Change::Put(name, label) => {
                state.insert(key(*name), (*label, value));
                self.log.put(key(*name), (*label, value));
            }
            Change::Remove(name) => {
                let known = state.remove(&key(*name)).is_some();
                self.log.remove(&key(*name));
                if !known {
                    return;
                }
            }
        }
        self.states.push(state);
    }

    fn now(&self) -> &State {
        self.states.last().unwrap()
    }

    fn at(&self, sequence: u64, label: Option<u8>) -> State {
        let state = &self.states[usize::try_from(sequence).unwrap()];
        state.iter().filter(|(_, object)| selects(label, **object)).map(|(k, o)| (k.clone(), *o)).collect()
    }
}

fn selects(label: Option<u8>, object: Object) -> bool {
    label.is_none_or(|label| object.0 == label)
}

/// The key of an event is not in it: objects are told apart by name in the API, here by the value at which they were put.
fn name_of(world: &World, event: &Event<Object>) -> Key {
    let put = &world.states[event.item.1 as usize];
    put.iter().find(|(_, object)| **object == event.item).map(|(key, _)| key.clone()).unwrap()
}

/// What a client makes of an event, whether it is consistent or not.
fn apply(world: &World, client: &mut State, event: &Event<Object>) {
    let key = name_of(world, event);
    match event.kind {
        Kind::Added | Kind::Modified => client.insert(key, event.item),
        Kind::Deleted => client.remove(&key),
    };
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// From any version that can be resumed from, by any selection: the state of now, and each event means what it says.
    #[test]
    fn whoever_applies_the_events_has_the_list(
        changes in prop::collection::vec(change(), 0..40), keep in 0..12usize,
        label in prop::option::of(0..3u8),
    ) {
        let mut world = World::new(keep);
        world.take(&changes);
        let now = world.log.sequence();
        prop_assert_eq!(usize::try_from(now).unwrap(), world.states.len() - 1);
        let mut resumed = 0;
        for seen in 0..=now {
            let Ok(events) = world.log.since(seen, |object| selects(label, *object)) else {
                prop_assert!(seen < world.log.oldest);
                continue;
            };
            resumed += 1;
            prop_assert!(events.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
            let mut client = world.at(seen, label);
            for event in &events {
                prop_assert!(event.sequence > seen && event.sequence <= now);
                let known = client.contains_key(&name_of(&world, event));
                prop_assert_eq!(known, event.kind != Kind::Added, "{:?} from {}", event, seen);
                apply(&world, &mut client, event);
            }
            prop_assert_eq!(&client, &world.at(now, label), "from {}", seen);
        }
        prop_assert!(resumed > 0, "the newest version can always be resumed from");
        prop_assert!(world.log.since(now + 1, |_| true).is_err());
        prop_assert!(world.log.departures.len() <= keep);
        let runs: usize = world.log.records.values().map(Vec::len).sum();
        prop_assert!(runs <= world.now().len() + keep, "memory is bounded");
        prop_assert_eq!(world.log.order.len(), world.log.records.len());
    }

    /// A client that is cut off after any event, more than once, and resumes from the last version it saw.
    #[test]
    fn whoever_is_cut_off_resumes_without_ghosts(
        rounds in prop::collection::vec((prop::collection::vec(change(), 0..12), any::<prop::sample::Index>()), 1..8),
        label in prop::option::of(0..3u8),
    ) {
        let mut world = World::new(1000);
        let (mut client, mut seen) = (State::new(), 0);
        for (changes, cut) in &rounds {
            world.take(changes);
            let events = world.log.since(seen, |object| selects(label, *object)).unwrap();
            for event in &events[..cut.index(events.len() + 1)] {
                apply(&world, &mut client, event);
                seen = event.sequence;
            }
        }
        for event in &world.log.since(seen, |object| selects(label, *object)).unwrap() {
            apply(&world, &mut client, event);
        }
        prop_assert_eq!(client, world.at(world.log.sequence(), label));
    }

    /// The beginning: all that is selected, in an order from which a client may resume too.
    #[test]
    fn all_is_the_list_and_may_be_cut_off(
        before in prop::collection::vec(change(), 0..30), after in prop::collection::vec(change(), 0..30),
        cut: prop::sample::Index, label in prop::option::of(0..3u8),
    ) {
        let mut world = World::new(1000);
        world.take(&before);
        let events = world.log.all(|object| selects(label, *object));
        prop_assert!(events.iter().all(|event| event.kind == Kind::Added));
        let now = world.log.sequence();
        let mut whole = State::new();
        for event in &events {
            apply(&world, &mut whole, event);
        }
        prop_assert_eq!(&whole, &world.at(now, label));
        let listed: Vec<_> = world.log.list(None).map(|(_, object)| *object).collect();
        prop_assert_eq!(listed, world.now().values().copied().collect::<Vec<_>>());

        let (mut client, mut seen) = (State::new(), 0);
        for event in &events[..cut.index(events.len() + 1)] {
            apply(&world, &mut client, event);
            seen = event.sequence;
        }
        world.take(&after);
        for event in &world.log.since(seen, |object| selects(label, *object)).unwrap() {
            apply(&world, &mut client, event);
        }
        prop_assert_eq!(client, world.at(world.log.sequence(), label));
    }
}

#[test]
fn a_namespace_is_listed_alone() {
    let mut log = Log::new(9);
    for name in 0..4 {
        log.put(key(name), (0, u32::from(name)));
    }
    log.remove(&key(3));
    assert_eq!(log.list(Some("ns-1")).collect::<Vec<_>>(), [(2, &(0, 1))]);
    assert_eq!(log.list(Some("ns-0")).count(), 2);
    assert_eq!(log.list(Some("ns")).count(), 0);
    assert_eq!((log.get(&key(2)), log.get(&key(3))), (Some((3, &(0, 2))), None));
}

#[test]
fn what_left_and_came_back_is_told_to_have_left() {
    let mut log = Log::new(9);
    log.put(key(1), (0, 1));
    log.remove(&key(1));
    log.put(key(1), (0, 3));
    log.put(key(1), (0, 4));
    let told = |seen| {
        let events = log.since(seen, |_| true).unwrap();
        events.iter().map(|event| (event.sequence, event.kind, event.item.1)).collect::<Vec<_>>()
    };
    assert_eq!(told(1), [(2, Kind::Deleted, 1), (4, Kind::Added, 4)]);
    assert_eq!(told(2), [(4, Kind::Added, 4)]);
    assert_eq!(told(3), [(4, Kind::Modified, 4)]);
    assert_eq!(told(4), []);
    assert_eq!(log.since(5, |_| true), Err(Expired { asked: 5, oldest: 0 }));
}
