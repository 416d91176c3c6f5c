//! The kubelet's own counters, as metrics-server reads them (`/metrics/resource`). Pure.

use std::collections::BTreeMap;

use super::{
    reading::{Key, Reading},
    truth::Seconds,
};

const CPU: &str = "container_cpu_usage_seconds_total";
const MEMORY: &str = "container_memory_working_set_bytes";

/// What the kubelet says of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counter {
    /// CPU time, and the instant that it is of.
    pub cpu: Option<(f64, Seconds)>,
    /// Working set, and the instant that it is of.
    pub bytes: Option<(f64, Seconds)>,
}

/// Reads the text of the endpoint.
pub fn counters(text: &str) -> BTreeMap<Key, Counter> {
    let mut counters: BTreeMap<Key, Counter> = BTreeMap::new();
    for line in text.lines() {
        let Some((family, rest)) = line.split_once('{') else { continue };
        let Some((labels, values)) = rest.split_once("} ") else { continue };
        let mut values = values.split_whitespace().map(str::parse::<f64>);
        let (Some(Ok(value)), Some(Ok(milliseconds))) = (values.next(), values.next()) else { continue };
        let Some(key) = key(labels) else { continue };
        let counter = counters.entry(key).or_default();
        match family {
            CPU => counter.cpu = Some((value, milliseconds / 1000.0)),
            MEMORY => counter.bytes = Some((value, milliseconds / 1000.0)),
            _ => {}
        }
    }
    counters
}

fn key(labels: &str) -> Option<Key> {
    let of = |name: &str| {
        let value = labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\""))?;
        value.strip_suffix('"').map(str::to_owned)
    };
    Some(Key { namespace: of("namespace")?, pod: of("pod")?, container: of("container")? })
}

/// Makes rates of counters: between the two newest instants that were seen.
#[derive(Debug, Default)]
pub struct Rates {
    newest: BTreeMap<Key, (f64, Seconds)>,
    rates: BTreeMap<Key, (f64, Seconds)>,
}

impl Rates {
    /// What can be said of these counters.
    pub fn readings(&mut self, counters: BTreeMap<Key, Counter>, asked: Seconds) -> Vec<(Key, Reading)> {
        counters
            .into_iter()
            .filter_map(|(key, counter)| {
                let reading = self.one(&key, counter, asked)?;
                Some((key, reading))
            })
            .collect()
    }

    fn one(&mut self, key: &Key, counter: Counter, asked: Seconds) -> Option<Reading> {
        if let Some((seconds, at)) = counter.cpu {
            match self.newest.get(key).copied() {
                Some((before, then)) if at > then => {
                    // A counter that went back is another container's of the same name.
                    if seconds >= before {
                        self.rates.insert(key.clone(), ((seconds - before) / (at - then) * 1000.0, at));
                    } else {
                        self.rates.remove(key);
                    }
                    self.newest.insert(key.clone(), (seconds, at));
                }
                Some(_) => {}
                None => {
                    self.newest.insert(key.clone(), (seconds, at));
                }
            }
        }
        let rate = self.rates.get(key).copied();
        let stamp = rate.map(|(_, at)| at).or(counter.bytes.map(|(_, at)| at))?;
        let (millicores, bytes) = (rate.map(|(rate, _)| rate), counter.bytes.map(|(bytes, _)| bytes));
        Some(Reading { asked, stamp, millicores, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(cpu: f64, at_ms: u64) -> String {
        format!(
            "# TYPE {CPU} counter\n{CPU}{{container=\"c\",namespace=\"n\",pod=\"p\"}} {cpu} {at_ms}\n\
             {MEMORY}{{container=\"c\",namespace=\"n\",pod=\"p\"}} 4096 {at_ms}\nnode_cpu_usage_seconds_total 3 9\n\
             pod_cpu_usage_seconds_total{{namespace=\"n\",pod=\"p\"}} 9 {at_ms}\n"
        )
    }

    #[test]
    fn rates_are_between_instants_that_differ() {
        let mut rates = Rates::default();
        let mut ask = |cpu, at_ms, asked| rates.readings(counters(&text(cpu, at_ms)), asked);
        let first = ask(1.0, 10_000, 11.0);
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].1.millicores, first[0].1.bytes, first[0].1.stamp), (None, Some(4096.0), 10.0));
        let second = ask(3.0, 20_000, 21.0)[0].1;
        assert_eq!((second.millicores, second.stamp), (Some(200.0), 20.0));
        let same = ask(3.0, 20_000, 26.0)[0].1;
        assert_eq!((same.millicores, same.stamp), (Some(200.0), 20.0));
        let restarted = ask(0.5, 30_000, 31.0)[0].1;
        assert_eq!(restarted.millicores, None);
    }
}
