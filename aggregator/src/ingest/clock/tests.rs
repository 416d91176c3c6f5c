use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::NodeClock;
use crate::units::BootTime;

const SECOND: u64 = 1_000_000_000;
const UPTIME: u64 = 5000 * SECOND;

/// What happens between two messages: milliseconds until the next sample, and its delay. Sometimes the node is paused
/// before.
#[derive(Debug, Clone)]
struct Step {
    pace: u64,
    delay: u64,
    paused: u64,
}

fn steps(paused: impl Strategy<Value = u64>) -> impl Strategy<Value = Vec<Step>> {
    let delay = prop_oneof![6 => 1..20_u64, 1 => 20..900_u64];
    let step = (900..1100_u64, delay, paused);
    let step = step.prop_map(|(pace, delay, paused)| Step { pace, delay, paused });
    prop::collection::vec(step, 1..300)
}

/// One message: when its sample was taken and it was received, ms since the beginning, and its boot time.
struct Message {
    taken_ms: u64,
    received_ms: u64,
    boot: BootTime,
}

/// The node's clock is slewed by `ppm` and stands still while it is paused. Messages keep their order.
fn messages(steps: &[Step], ppm: i64) -> Vec<Message> {
    let (mut taken_ms, mut awake_ms, mut received_ms) = (0, 0, 0);
    let message = |step: &Step| {
        taken_ms += step.pace + step.paused;
        awake_ms += step.pace;
        received_ms = (taken_ms + step.delay).max(received_ms);
        let drift_ns = i64::try_from(awake_ms).unwrap() * ppm;
        let boot = (UPTIME + awake_ms * 1_000_000).checked_add_signed(drift_ns).unwrap();
        Message { taken_ms, received_ms, boot: BootTime(boot) }
    };
    steps.iter().map(message).collect()
}

fn at(start: Instant, ms: u64) -> Instant {
    start + Duration::from_millis(ms)
}

/// Smallest difference that a naive model with the whole history has for the last `span_ms`, ns.
fn naive(history: &[Message], span_ms: u64) -> i128 {
    let now_ms = history.last().unwrap().received_ms;
    let recent = history.iter().filter(|message| message.received_ms + span_ms >= now_ms);
    let difference =
        |message: &Message| i128::from(message.received_ms) * 1_000_000 - i128::from(message.boot.0);
    recent.map(difference).min().unwrap()
}

proptest! {
    #[test]
    fn it_follows_the_smallest_delay_of_the_last_half_minute_to_minute(
        steps in steps(Just(0)),
        ppm in -500..=500_i64,
    ) {
        let start = Instant::now();
        let messages = messages(&steps, ppm);
        let mut clock = NodeClock::new(messages[0].boot, at(start, messages[0].received_ms));
        for count in 1..=messages.len() {
            let (seen, newest) = (&messages[..count], &messages[count - 1]);
            let received = at(start, newest.received_ms);
            clock.observe(newest.boot, received);
            let now = i128::from(newest.received_ms) * 1_000_000;
            let age = i128::try_from(clock.age(newest.boot, received).as_nanos()).unwrap();
            let difference = now - i128::from(newest.boot.0) - age;
            // Halves begin with a message: they are longer than half a minute by up to a pace and a delay.
            prop_assert!(naive(seen, 64_000) <= difference && difference <= naive(seen, 30_000));
        }
    }

    /// Five seconds after a pause at the latest a sample looks older than it is by at most what the clock drifts in a
    /// minute, and younger by at most that and the shortest delay of the last half minute.
    #[test]
    fn a_pause_is_over_within_five_seconds(
        steps in steps(prop_oneof![30 => Just(0), 1 => 2_500..100_000_u64]),
        ppm in -500..=500_i64,
    ) {
        const DRIFT_MS: u64 = 32;
        let start = Instant::now();
        let messages = messages(&steps, ppm);
        let delay_ms = |message: &Message| message.received_ms - message.taken_ms;
        let mut clock = NodeClock::new(messages[0].boot, at(start, messages[0].received_ms));
        let mut resumed = 0;
        for (index, message) in messages.iter().enumerate() {
            if steps[index].paused > 0 {
                resumed = index;
            }
            let received = at(start, message.received_ms);
            clock.observe(message.boot, received);
            let age_ms = u64::try_from(clock.age(message.boot, received).as_millis()).unwrap();
            if message.taken_ms >= messages[resumed].taken_ms + 5_000 {
                let recent = messages[resumed..=index].iter().rev();
                let recent = recent.take_while(|one| one.received_ms + 30_000 >= message.received_ms);
                let shortest_ms = recent.map(delay_ms).min().unwrap();
                let true_ms = delay_ms(message);
                prop_assert!(age_ms <= true_ms + DRIFT_MS, "{age_ms} ms for {true_ms} ms");
                prop_assert!(age_ms + shortest_ms + DRIFT_MS >= true_ms, "{age_ms} ms for {true_ms} ms");
            }
        }
    }

    #[test]
    fn any_boot_times_are_taken(boots in prop::collection::vec((any::<u64>(), 0..100_000_u64), 1..50)) {
        let start = Instant::now();
        let mut clock = NodeClock::new(BootTime(boots[0].0), start);
        let mut now = start;
        for (boot, ms) in boots {
            now += Duration::from_millis(ms);
            clock.observe(BootTime(boot), now);
            prop_assert!(clock.age(BootTime(u64::MAX), now) <= clock.age(BootTime(boot), now));
        }
    }
}

/// Messages that a network held up arrive together: the first of them is old, and looks it.
#[test]
fn a_stall_of_the_network_makes_nothing_look_younger() {
    let start = Instant::now();
    let boot = |second: u64| BootTime(UPTIME + second * SECOND);
    let mut clock = NodeClock::new(boot(0), start);
    for second in 1..=10 {
        clock.observe(boot(second), at(start, second * 1000));
    }
    for second in 11..=35 {
        let received = at(start, 35_000 + second);
        clock.observe(boot(second), received);
        assert_eq!(clock.age(boot(second), received), Duration::from_millis(35_000 + second - second * 1000));
    }
}
