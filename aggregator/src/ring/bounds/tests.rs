use std::time::Duration;

use proptest::prelude::*;

use super::Bounds;
use crate::{
    ring::{
        Reading, SLOTS, Shard, Totals,
        tests::{SECOND, WINDOW, first_rate, key, moment, one, reading},
    },
    units::{Bytes, NanoCores},
};

/// One core; a second of CPU time and a kibibyte are believed.
const BOUNDS: Bounds = Bounds { cpu: NanoCores(SECOND), late_ns: SECOND, memory: Bytes(1024), page_size: 64 };

#[test]
fn a_cpu_difference_beyond_its_bound_starts_the_counter_again() {
    let (mut shard, honest, liar) = (Shard::new(WINDOW), key(1, None), key(2, None));
    shard.bound(BOUNDS);
    let mut at = |second: u64, cpu_ns: u64| {
        let readings = [reading(&honest, second * 1000), reading(&liar, cpu_ns)];
        shard.apply(moment(second * SECOND), None, readings.into_iter()).unwrap();
        let rates = shard.columns().iter().map(|column| shard.rate(column).map(|rate| rate.cpu.0));
        let first = shard.implausible().first.as_ref().map(|value| (value.value, value.bound));
        (rates.collect::<Vec<_>>(), shard.implausible().cpu, first)
    };
    assert_eq!(at(1, 0), (vec![None, None], 0, None));
    assert_eq!(at(2, 2 * SECOND), (vec![Some(1000), Some(2 * SECOND)], 0, None), "a second late");
    let (value, bound) = (2 * SECOND + 1, 2 * SECOND);
    assert_eq!(at(3, 4 * SECOND + 1), (vec![Some(1000), None], 1, Some((value, bound))));
    assert_eq!(at(4, 4 * SECOND + 8), (vec![Some(1000), Some(7)], 0, None), "from the sample that jumped");
}

#[test]
fn an_absence_is_no_base_of_a_counter_beyond_its_bound() {
    for (cpu_ns, rate) in [(2 * SECOND, Some((2 * SECOND, Duration::from_secs(1)))), (2 * SECOND + 1, None)] {
        let (mut shard, key) = (Shard::new(WINDOW), key(1, Some(SECOND)));
        shard.bound(BOUNDS);
        one(&mut shard, 2 * SECOND, &key, cpu_ns);
        assert_eq!((first_rate(&shard), shard.implausible().cpu), (rate, u64::from(rate.is_none())));
    }
}

#[test]
fn a_working_set_beyond_its_bound_is_unknown_until_the_next() {
    let (mut shard, key) = (Shard::new(WINDOW), key(1, None));
    shard.bound(BOUNDS);
    for (second, pages, known) in [(1, 16, true), (2, 17, false), (3, 16, true)] {
        let totals = Totals { cpu_ns: 0, working_set_bytes: u64::from(pages) * 64, swap_bytes: None };
        let reading = Reading { working_set_pages: pages, ..reading(&key, 0) };
        shard.apply(moment(second * SECOND), Some(totals), [reading].into_iter()).unwrap();
        assert_eq!(shard.columns()[0].working_set_pages(), Some(pages).filter(|_| known));
        assert_eq!(shard.node().is_some(), known && second > 1);
        assert_eq!(shard.implausible().memory, if known { 0 } else { 2 });
    }
    assert_eq!(first_rate(&shard).unwrap().1, Duration::from_secs(2), "CPU time was known throughout");
}

proptest! {
    /// Whatever one container claims: no rate of it exceeds the bounds of its window's samples, and the other's values
    /// are what they are without it.
    #[test]
    fn a_liar_exceeds_no_bound_and_costs_its_neighbour_nothing(
        steps in prop::collection::vec(
            (1..3 * SECOND, 0..SECOND, prop_oneof![3 => 0..3 * SECOND, 1 => any::<u64>()]),
            1..60,
        )
    ) {
        let (honest, liar) = (key(1, None), key(2, None));
        let (mut shard, mut alone) = (Shard::new(WINDOW), Shard::new(WINDOW));
        shard.bound(BOUNDS);
        alone.bound(BOUNDS);
        let (mut boot_ns, mut used_ns, mut claimed_ns) = (0, 0, 0_u64);
        for (span, used, claimed) in steps {
            boot_ns += span;
            used_ns += used.min(span);
            claimed_ns = claimed_ns.wrapping_add(claimed);
            let both = [reading(&honest, used_ns), reading(&liar, claimed_ns)];
            shard.apply(moment(boot_ns), None, both.into_iter()).unwrap();
            one(&mut alone, boot_ns, &honest, used_ns);
            prop_assert_eq!(first_rate(&shard), first_rate(&alone));
            if let Some(rate) = shard.rate(&shard.columns()[1]) {
                // At most one late second for each sample of the window.
                let most = rate.window.as_nanos() + u128::from(SECOND) * SLOTS as u128;
                prop_assert!(u128::from(rate.cpu.0) * rate.window.as_nanos() <= most * u128::from(SECOND));
            }
        }
    }
}
