//! What a source said when it was asked, and how far it was from the truth. Pure.

use std::{cmp::Reverse, collections::BTreeMap, fmt};

use super::{
    truth::{Course, Load, Seconds},
    workloads::NAMESPACE,
};

/// The span that a user expects a CPU value to stand for: what metrics-server's default gives, and Waggle's.
pub const WINDOW: Seconds = 15.0;

/// Questions to two sources that are no further apart than this are of one moment.
const NEAR: Seconds = 0.25;

/// Who was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The node's kubelet, at the endpoint that metrics-server asks.
    Kubelet,
    /// metrics-server.
    MetricsServer,
    /// Waggle.
    Waggle,
}

impl Source {
    /// All, in the order of the table.
    pub const ALL: [Self; 3] = [Self::Kubelet, Self::MetricsServer, Self::Waggle];
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kubelet => "kubelet",
            Self::MetricsServer => "metrics-server",
            Self::Waggle => "Waggle",
        })
    }
}

/// A container, by namespace, pod and name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Namespace.
    pub namespace: String,
    /// Pod.
    pub pod: String,
    /// Container.
    pub container: String,
}

impl Key {
    /// The one container of a pod of a workload.
    pub fn main(pod: &str) -> Self {
        Self { namespace: NAMESPACE.to_owned(), pod: pod.to_owned(), container: "main".to_owned() }
    }
}

/// One answer about one container. All instants are of the node's clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// When the answer was there.
    pub asked: Seconds,
    /// The instant that the value claims to be of.
    pub stamp: Seconds,
    /// CPU, if it was said.
    pub millicores: Option<f64>,
    /// Working set, if it was said.
    pub bytes: Option<f64>,
}

/// All that was said, with the instants of the questions.
#[derive(Debug, Default)]
pub struct Readings {
    /// By source.
    pub asked: BTreeMap<Source, Vec<Seconds>>,
    /// By source and container, in order.
    pub said: BTreeMap<(Source, Key), Vec<Reading>>,
}

impl Readings {
    /// Keeps one answer of a source.
    pub fn keep(&mut self, source: Source, asked: Seconds, answer: Vec<(Key, Reading)>) {
        self.asked.entry(source).or_default().push(asked);
        for (key, reading) in answer {
            self.said.entry((source, key)).or_default().push(reading);
        }
    }

    /// The ages of all values that a source said during some spans.
    pub fn ages(&self, source: Source, spans: &[(Seconds, Seconds)]) -> Vec<Seconds> {
        let of = self.said.iter().filter(|((who, _), _)| *who == source).flat_map(|(_, readings)| readings);
        let of = of.filter(|reading| within(spans, reading.asked));
        of.map(|reading| reading.asked - reading.stamp).collect()
    }

    /// The containers of which a source said values that were older than `limit`: how many, from when to when, and the age of the oldest.
    /// The most come first.
    pub fn old(&self, source: Source, limit: Seconds) -> Vec<Old<'_>> {
        let of = self.said.iter().filter(|((who, _), _)| *who == source);
        let mut all: Vec<Old> = of.filter_map(|((_, key), readings)| Old::of(key, readings, limit)).collect();
        all.sort_by_key(|old| Reverse(old.values));
        all
    }

    /// What a source said of a container.
    pub fn of(&self, source: Source, key: &Key) -> &[Reading] {
        self.said.get(&(source, key.clone())).map_or(&[], Vec::as_slice)
    }
}

/// The old values of one container.
#[derive(Debug, Clone, PartialEq)]
pub struct Old<'a> {
    /// Whose.
    pub key: &'a Key,
    /// How many.
    pub values: usize,
    /// Of how many.
    pub of: usize,
    /// When the first and the last of them were asked for.
    pub span: (Seconds, Seconds),
    /// The age of the oldest.
    pub longest: Seconds,
}

impl<'a> Old<'a> {
    fn of(key: &'a Key, readings: &[Reading], limit: Seconds) -> Option<Self> {
        let old: Vec<&Reading> =
            readings.iter().filter(|reading| reading.asked - reading.stamp >= limit).collect();
        let span = (old.first()?.asked, old.last()?.asked);
        let longest = old.iter().map(|reading| reading.asked - reading.stamp).fold(0.0, f64::max);
        Some(Self { key, values: old.len(), of: readings.len(), span, longest })
    }
}

/// What is known of a container.
#[derive(Debug, Clone, PartialEq)]
pub enum Truth {
    /// Its CPU: what it used over the window before a question.
    Cpu(Load),
    /// Its CPU, which did not come to what was planned: what the kernel counted over the window before a question.
    Counted(Course),
    /// Its CPU, which is the same all the time that it is judged.
    Rate(f64),
    /// Its working set, bytes.
    Memory(f64),
}

/// How good a source's answers were.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The mean of what was said, millicores or bytes.
    pub said: f64,
    /// The mean distance from the truth.
    pub error: f64,
    /// How many answers had a value, of those that should have.
    pub answers: (usize, usize),
    /// now − timestamp: median and 95th percentile.
    pub age: (Seconds, Seconds),
}

/// A container with its truth.
pub type Known<'a> = (&'a Key, &'a Truth);

/// Judges what was said of some containers during some spans, all in one; `None` where nothing was said.
pub fn judge(
    readings: &Readings,
    source: Source,
    known: &[Known],
    spans: &[(Seconds, Seconds)],
) -> Option<Verdict> {
    let asked = readings.asked.get(&source);
    let asked = asked.map_or(0, |all| all.iter().filter(|&&at| within(spans, at)).count());
    let mut ages = Vec::new();
    let (mut said, mut error) = (Vec::new(), Vec::new());
    for &(key, truth) in known {
        for reading in readings.of(source, key).iter().filter(|reading| within(spans, reading.asked)) {
            let (from, to) = (reading.asked - WINDOW, reading.asked);
            let (value, true_value) = match truth {
                Truth::Cpu(load) => (reading.millicores, Some(load.mean(from, to))),
                Truth::Counted(course) => (reading.millicores, course.mean(from, to)),
                Truth::Rate(millicores) => (reading.millicores, Some(*millicores)),
                Truth::Memory(bytes) => (reading.bytes, Some(*bytes)),
            };
            let (Some(value), Some(true_value)) = (value, true_value) else { continue };
            said.push(value);
            error.push((value - true_value).abs());
            ages.push(reading.asked - reading.stamp);
        }
    }
    let answers = (said.len(), asked * known.len());
    Some(Verdict {
        said: mean(&said)?,
        error: mean(&error)?,
        answers,
        age: (quantile(&mut ages, 0.5)?, quantile(&mut ages, 0.95)?),
    })
}

/// Judges metrics-server and Waggle by what they said when metrics-server said anything, where that was not always: a source that is silent
/// while a value is hard to know has no errors then. `None` where it was never silent, or always.
pub fn judge_both(
    readings: &Readings,
    known: &[Known],
    spans: &[(Seconds, Seconds)],
) -> Option<(Verdict, Verdict)> {
    let whole = judge(readings, Source::MetricsServer, known, spans)?;
    if whole.answers.0 == whole.answers.1 {
        return None;
    }
    let said = known.iter().flat_map(|(key, _)| readings.of(Source::MetricsServer, key));
    let said = said.filter(|reading| within(spans, reading.asked));
    let near: Vec<_> = said.map(|reading| (reading.asked - NEAR, reading.asked + NEAR)).collect();
    judge(readings, Source::MetricsServer, known, &near).zip(judge(readings, Source::Waggle, known, &near))
}

fn within(spans: &[(Seconds, Seconds)], instant: Seconds) -> bool {
    spans.iter().any(|&(from, to)| (from..=to).contains(&instant))
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The least value that at least this share of them does not exceed.
pub fn quantile(values: &mut [f64], share: f64) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    let last = values.len().checked_sub(1)?;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share between 0 and 1 of a small number"
    )]
    let position = (share * values.len() as f64).ceil() as usize;
    values.get(position.saturating_sub(1).min(last)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key { namespace: "n".to_owned(), pod: "p".to_owned(), container: "c".to_owned() }
    }

    fn at(asked: Seconds, age: Seconds, millicores: f64) -> Reading {
        Reading { asked, stamp: asked - age, millicores: Some(millicores), bytes: Some(100.0) }
    }

    #[test]
    fn errors_are_from_the_truth_at_the_question_and_missing_answers_are_counted() {
        let mut readings = Readings::default();
        for (asked, millicores) in [(100.0, 100.0), (110.0, 120.0)] {
            readings.keep(Source::Waggle, asked, vec![(key(), at(asked, 1.0, millicores))]);
        }
        readings.keep(Source::Waggle, 120.0, Vec::new());
        readings.keep(Source::Waggle, 500.0, vec![(key(), at(500.0, 1.0, 7.0))]);
        // From 105 on nothing is used: at 110 a third of the window's use is gone.
        let truth = Truth::Cpu(Load { millicores: 150.0, spans: vec![(0.0, Some(105.0))] });
        let verdict = judge(&readings, Source::Waggle, &[(&key(), &truth)], &[(0.0, 200.0)]).unwrap();
        assert_eq!(verdict.answers, (2, 3));
        assert!((verdict.said - 110.0).abs() < 1e-9);
        assert!((verdict.error - 35.0).abs() < 1e-9, "{verdict:?}");
        let memory = Truth::Memory(90.0);
        let memory = judge(&readings, Source::Waggle, &[(&key(), &memory)], &[(0.0, 105.0), (106.0, 200.0)]);
        assert!((memory.unwrap().error - 10.0).abs() < 1e-9);
        let rate = Truth::Rate(100.0);
        let rate = judge(&readings, Source::Waggle, &[(&key(), &rate)], &[(0.0, 105.0)]).unwrap();
        assert!(rate.error.abs() < 1e-9 && rate.answers == (1, 1));
        assert_eq!(judge(&readings, Source::Kubelet, &[(&key(), &truth)], &[(0.0, 200.0)]), None);
    }

    #[test]
    fn two_sources_are_compared_when_both_spoke() {
        let mut readings = Readings::default();
        for (asked, waggle, other) in [(10.0, 20.0, None), (11.0, 40.0, Some(48.0)), (12.0, 49.0, Some(53.0))]
        {
            readings.keep(Source::Waggle, asked, vec![(key(), at(asked, 1.0, waggle))]);
            let other = other.map(|millicores| (key(), at(asked - 0.1, 20.0, millicores)));
            readings.keep(Source::MetricsServer, asked - 0.1, other.into_iter().collect());
        }
        let truth = Truth::Rate(50.0);
        let errors = |spans: &[_]| {
            let (other, waggle) = judge_both(&readings, &[(&key(), &truth)], spans)?;
            Some((other.error, other.answers, waggle.error, waggle.answers))
        };
        assert_eq!(errors(&[(0.0, 20.0)]), Some((2.5, (2, 2), 5.5, (2, 2))));
        assert_eq!(errors(&[(10.5, 20.0)]), None, "it was never silent");
        assert_eq!(errors(&[(9.5, 10.5)]), None, "it never spoke");
    }

    #[test]
    fn old_values_are_counted_by_container() {
        let mut readings = Readings::default();
        let other = Key { pod: "q".to_owned(), ..key() };
        for (asked, age) in [(10.0, 1.9), (11.0, 2.0), (12.0, 7.5), (13.0, 1.0)] {
            let fresh = (other.clone(), at(asked, 0.5, 1.0));
            readings.keep(Source::Waggle, asked, vec![(key(), at(asked, age, 1.0)), fresh]);
            readings.keep(Source::MetricsServer, asked, vec![(key(), at(asked, 30.0, 1.0))]);
        }
        let expected = Old { key: &key(), values: 2, of: 4, span: (11.0, 12.0), longest: 7.5 };
        assert_eq!(readings.old(Source::Waggle, 2.0), [expected]);
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let mut twenty: Vec<f64> = (1..=20).map(f64::from).collect();
        assert_eq!(quantile(&mut twenty, 0.5), Some(10.0));
        assert_eq!(quantile(&mut twenty, 0.95), Some(19.0));
        assert_eq!(quantile(&mut twenty, 1.0), Some(20.0));
        assert_eq!(quantile(&mut [3.0], 0.95), Some(3.0));
        assert_eq!(quantile(&mut [], 0.5), None);
    }
}
