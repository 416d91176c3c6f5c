//! When something could first be seen: a new pod, a load that begins. Pure.

use super::{
    reading::{Key, Reading, Readings, Source},
    truth::Seconds,
};

/// From this share of a load on it is seen at all, and seen whole.
pub const SEEN: f64 = 0.1;
/// The rest is what two looks at one use can differ by.
pub const WHOLE: f64 = 0.95;

/// How long after `begun` a source first said anything of a container, if it did until `until`.
pub fn first_value(
    readings: &Readings,
    source: Source,
    key: &Key,
    begun: Seconds,
    until: Seconds,
) -> Option<Seconds> {
    first(readings.of(source, key), begun, until, |reading| reading.millicores.is_some())
}

/// How long after `begun` a source first said at least so much CPU.
pub fn first_at_least(
    readings: &Readings,
    source: Source,
    key: &Key,
    (begun, until): (Seconds, Seconds),
    millicores: f64,
) -> Option<Seconds> {
    first(readings.of(source, key), begun, until, |reading| {
        reading.millicores.is_some_and(|said| said >= millicores)
    })
}

fn first(
    readings: &[Reading],
    begun: Seconds,
    until: Seconds,
    holds: impl Fn(&Reading) -> bool,
) -> Option<Seconds> {
    let within = |reading: &&Reading| (begun..=until).contains(&reading.asked) && holds(reading);
    readings.iter().find(within).map(|reading| reading.asked - begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_that_holds_counts() {
        let key = Key { namespace: "n".to_owned(), pod: "p".to_owned(), container: "c".to_owned() };
        let mut readings = Readings::default();
        for (asked, millicores) in [(9.0, Some(90.0)), (10.5, None), (11.0, Some(5.0)), (13.0, Some(50.0))] {
            let reading = Reading { asked, stamp: asked, millicores, bytes: None };
            readings.keep(Source::Waggle, asked, vec![(key.clone(), reading)]);
        }
        assert_eq!(first_value(&readings, Source::Waggle, &key, 10.0, 20.0), Some(1.0));
        assert_eq!(first_at_least(&readings, Source::Waggle, &key, (10.0, 20.0), 50.0), Some(3.0));
        assert_eq!(first_at_least(&readings, Source::Waggle, &key, (10.0, 12.0), 50.0), None);
        assert_eq!(first_value(&readings, Source::MetricsServer, &key, 10.0, 20.0), None);
    }
}
