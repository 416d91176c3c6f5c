use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::prelude::*;

use super::{Column, Key, Moment, Reading, SLOTS, Shard, Totals};
use crate::units::{BootId, BootTime, CgroupId, ContainerId, NanoCores, RealTime};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const WINDOW: Duration = Duration::from_secs(15);

pub(super) fn moment(boot_ns: u64) -> Moment {
    Moment { boot: BootTime(boot_ns), real: RealTime(boot_ns), seen: Instant::now() }
}

pub(super) fn key(cgroup: u64, absent: Option<u64>) -> Arc<Key> {
    Arc::new(Key {
        cgroup: CgroupId(cgroup),
        pod: "pod".into(),
        container: ContainerId([u8::try_from(cgroup % 256).unwrap(); 32]),
        absent: absent.map(BootTime),
    })
}

pub(super) fn reading(key: &Arc<Key>, cpu_ns: u64) -> Reading<'_> {
    Reading { key, cpu_ns, working_set_pages: 7, swap_pages: None }
}

pub(super) fn one(shard: &mut Shard, boot_ns: u64, key: &Arc<Key>, cpu_ns: u64) {
    shard.apply(moment(boot_ns), None, [reading(key, cpu_ns)].into_iter()).unwrap();
}

pub(super) fn first_rate(shard: &Shard) -> Option<(u64, Duration)> {
    shard.rate(&shard.columns()[0]).map(|rate| (rate.cpu.0, rate.window))
}

#[test]
fn the_base_is_the_oldest_sample_inside_the_window() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, None));
    for second in 1..=20 {
        one(&mut shard, second * SECOND, &key, second * second * 1000);
    }
    // Newest at 20 s, base at 5 s: (400 − 25) × 1000 ns over 15 s.
    assert_eq!(first_rate(&shard), Some((25_000, WINDOW)));
}

#[test]
fn a_rate_is_truncated_and_takes_the_true_span() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, None));
    one(&mut shard, SECOND, &key, 0);
    one(&mut shard, 4 * SECOND, &key, 2);
    assert_eq!(first_rate(&shard), Some((0, Duration::from_secs(3))));
    one(&mut shard, 4 * SECOND + 1, &key, 1_000_000_000);
    assert_eq!(first_rate(&shard), Some((333_333_333, Duration::from_nanos(3_000_000_001))));
}

#[test]
fn an_absence_is_a_base_until_it_leaves_the_window() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, Some(9 * SECOND)));
    one(&mut shard, 10 * SECOND, &key, SECOND / 2);
    assert_eq!(first_rate(&shard), Some((500_000_000, Duration::from_secs(1))));
    one(&mut shard, 24 * SECOND, &key, 15 * SECOND);
    assert_eq!(first_rate(&shard), Some((1_000_000_000, WINDOW)));
    one(&mut shard, 25 * SECOND, &key, 15 * SECOND + SECOND / 2);
    assert_eq!(first_rate(&shard), Some((1_000_000_000, WINDOW)));
}

#[test]
fn a_first_sample_without_absence_has_no_rate() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, None));
    one(&mut shard, SECOND, &key, 5);
    assert_eq!(first_rate(&shard), None);
}

#[test]
fn a_counter_that_went_back_starts_anew() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, Some(SECOND)));
    one(&mut shard, 2 * SECOND, &key, 100);
    one(&mut shard, 3 * SECOND, &key, 99);
    assert_eq!(first_rate(&shard), None);
    one(&mut shard, 5 * SECOND, &key, 2099);
    assert_eq!(first_rate(&shard), Some((1000, Duration::from_secs(2))));
}

#[test]
fn after_a_gap_longer_than_the_window_the_next_sample_closes_it() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, None));
    one(&mut shard, SECOND, &key, 0);
    one(&mut shard, 2 * SECOND, &key, 10);
    one(&mut shard, 42 * SECOND, &key, 40 * SECOND + 10);
    assert_eq!(first_rate(&shard), Some((SECOND, Duration::from_secs(40))));
    one(&mut shard, 43 * SECOND, &key, 40 * SECOND + 10);
    assert_eq!(first_rate(&shard), Some((0, Duration::from_secs(1))));
}

#[test]
fn samples_out_of_order_change_nothing() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, None));
    one(&mut shard, SECOND, &key, 0);
    one(&mut shard, 2 * SECOND, &key, 10);
    for late in [0, SECOND, 2 * SECOND] {
        let refused = shard.apply(moment(late), None, [reading(&key, 11)].into_iter()).unwrap_err();
        assert_eq!((refused.offered, refused.newest), (BootTime(late), BootTime(2 * SECOND)));
    }
    assert_eq!(first_rate(&shard), Some((10, Duration::from_secs(1))));
}

#[test]
fn a_new_boot_clears() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, None));
    let boot = |c: &str| BootId::parse(&c.repeat(36)).unwrap();
    assert!(shard.begin(&boot("a")));
    one(&mut shard, 50 * SECOND, &key, 0);
    assert!(!shard.begin(&boot("a")));
    assert!(shard.newest().is_some());
    let composition = shard.composition();
    assert!(shard.begin(&boot("b")));
    assert_eq!(shard.newest(), None);
    assert!(shard.columns().is_empty() && shard.composition() > composition);
    one(&mut shard, SECOND, &key, 0);
}

#[test]
fn node_totals_have_rates_and_a_missing_reading_has_none() {
    let mut shard = Shard::new(WINDOW);
    let mut at = |second: u64, cpu_ns: Option<u64>| {
        let totals = cpu_ns.map(|cpu_ns| Totals { cpu_ns, working_set_bytes: 9, swap_bytes: Some(1) });
        shard.apply(moment(second * SECOND), totals, std::iter::empty()).unwrap();
        shard.node().map(|(totals, rate)| (totals.cpu_ns, rate.cpu, rate.window.as_secs()))
    };
    assert_eq!(at(1, Some(0)), None);
    assert_eq!(at(2, Some(500)), Some((500, NanoCores(500), 1)));
    assert_eq!(at(3, None), None);
    assert_eq!(at(4, Some(900)), None);
    assert_eq!(at(5, Some(901)), Some((901, NanoCores(1), 1)));
}

#[test]
fn a_container_costs_less_than_a_kibibyte() {
    let key = size_of::<Key>() + 36 + 2 * size_of::<usize>();
    let all = size_of::<Column>() + key;
    assert!(all < 512, "{all} bytes");
}

/// What happens at one instant of the property tests: time since the one before, and each container's CPU since then
/// (`None`: the container is not there).
type Step = (u64, Vec<Option<u32>>);

fn steps(pace_ms: std::ops::Range<u64>) -> impl Strategy<Value = Vec<Step>> {
    let containers = prop::collection::vec(prop::option::weighted(0.9, 0..4_000_000_000u32), 4);
    prop::collection::vec((pace_ms.prop_map(|ms| ms * 1_000_000), containers), 1..120)
}

/// Every sample that ever was, for each life of each cgroup.
#[derive(Default)]
struct Model {
    boot_ns: u64,
    /// By container: cgroup id and samples `(boot ns, cumulative ns)` of its present life.
    lives: BTreeMap<usize, (u64, Vec<(u64, u64)>)>,
    next: u64,
}

impl Model {
    fn step(&mut self, shard: &mut Shard, (pace, containers): &Step) {
        self.boot_ns += pace;
        for (name, used) in containers.iter().enumerate() {
            let Some(used) = used else {
                self.lives.remove(&name);
                continue;
            };
            let next = &mut self.next;
            let (_, samples) = self.lives.entry(name).or_insert_with(|| {
                *next += 1;
                (*next, Vec::new())
            });
            let cpu_ns = samples.last().map_or(0, |(_, cpu)| *cpu) + u64::from(*used);
            samples.push((self.boot_ns, cpu_ns));
        }
        let keys: Vec<_> = self.lives.values().map(|(id, samples)| (key(*id, None), samples)).collect();
        let readings = keys.iter().map(|(key, samples)| reading(key, samples.last().unwrap().1));
        shard.apply(moment(self.boot_ns), None, readings).unwrap();
    }

    fn samples(&self, id: CgroupId) -> &[(u64, u64)] {
        &self.lives.values().find(|(of, _)| *of == id.0).unwrap().1
    }

    /// The rule of `metrics-api.md`, said naively.
    fn rate(&self, id: CgroupId, window: Duration) -> Option<(u64, Duration)> {
        let samples = self.samples(id);
        let (newest, before) = samples.split_last()?;
        let inside = before.iter().find(|base| u128::from(newest.0 - base.0) <= window.as_nanos());
        inside.or(before.last()).map(|base| between(base, newest))
    }
}

fn between(base: &(u64, u64), newest: &(u64, u64)) -> (u64, Duration) {
    let span = newest.0 - base.0;
    let cpu = u128::from(newest.1 - base.1) * 1_000_000_000 / u128::from(span);
    (u64::try_from(cpu).unwrap(), Duration::from_nanos(span))
}

proptest! {
    /// Where the slots hold every sample of the window, rates are those of the naive model.
    #[test]
    fn rates_equal_a_naive_model(steps in steps(500..20_000)) {
        let (mut shard, mut model) = (Shard::new(WINDOW), Model::default());
        for step in &steps {
            model.step(&mut shard, step);
            prop_assert_eq!(shard.columns().len(), model.lives.len());
            for column in shard.columns() {
                let rate = shard.rate(column).map(|rate| (rate.cpu.0, rate.window));
                prop_assert_eq!(rate, model.rate(column.key().cgroup, WINDOW));
            }
        }
    }

    /// At any pace the base is a sample that was, inside the window, and the slots cover the window.
    #[test]
    fn thinned_slots_cover_the_window(steps in steps(1..3_000), window in 1..300u64) {
        let window = Duration::from_secs(window);
        let (mut shard, mut model) = (Shard::new(window), Model::default());
        let slack = window / 8 + Duration::from_secs(3);
        for step in &steps {
            model.step(&mut shard, step);
            for column in shard.columns() {
                let samples = model.samples(column.key().cgroup);
                let newest = samples.last().unwrap();
                let rate = shard.rate(column).map(|rate| (rate.cpu.0, rate.window));
                let Some((_, naive)) = model.rate(column.key().cgroup, window) else {
                    prop_assert_eq!(rate, None);
                    continue;
                };
                let Some(rate) = rate else { return Err(TestCaseError::fail("no rate")) };
                prop_assert!(samples.iter().rev().skip(1).any(|base| between(base, newest) == rate));
                prop_assert!(rate.1 <= naive && rate.1 + slack >= naive, "{:?} for {:?}", rate.1, naive);
            }
        }
        prop_assert!(shard.slots.len() <= SLOTS);
    }
}
