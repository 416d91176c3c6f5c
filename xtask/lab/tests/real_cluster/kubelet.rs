//! What is served against the kubelet's own counters on the same machine, over the same span.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};
use waggle_lab::{
    metrics::Item,
    nodes::{RealCluster, name},
};

use super::{loads, world::inside};

/// At least this long is the span of the kubelet's counters.
const SPAN_MS: i64 = 60_000;
const LIMIT: Duration = Duration::from_mins(3);
/// Longer than the kubelet lets a counter grow old.
const BEFORE: Duration = Duration::from_secs(30);
/// What is served is stamped with whole seconds, and a report old: it must have passed the kubelet's last counter.
const AFTER: Duration = Duration::from_secs(4);
const PAUSE: Duration = Duration::from_millis(800);
/// Half a window.
const SLACK_MS: i64 = 7_500;

/// A container's counter of the kubelet: seconds of CPU time and bytes, with their instants in ms.
#[derive(Debug, Clone, Copy)]
struct Counter {
    cpu_seconds: f64,
    cpu_ms: i64,
    bytes: f64,
}

/// By pod and container, those of the namespace `default`.
async fn counters(cluster: &RealCluster) -> BTreeMap<(String, String), Counter> {
    let path = format!("/api/v1/nodes/{}/proxy/metrics/resource", name(0));
    let text = cluster.plane.kubectl(&["get", "--raw", &path]).await.unwrap();
    let family = |family: &str| -> BTreeMap<(String, String), (f64, i64)> {
        let lines =
            text.lines().filter_map(|line| line.strip_prefix(family)?.strip_prefix('{')?.split_once("} "));
        lines
            .filter(|(labels, _)| label(labels, "namespace") == Some("default"))
            .map(|(labels, rest)| {
                let of = |name| label(labels, name).unwrap().to_owned();
                let (value, instant) = rest.split_once(' ').unwrap();
                ((of("pod"), of("container")), (value.parse().unwrap(), instant.parse().unwrap()))
            })
            .collect()
    };
    let memory = family("container_memory_working_set_bytes");
    family("container_cpu_usage_seconds_total")
        .into_iter()
        .filter_map(|(key, (cpu_seconds, cpu_ms))| {
            let (bytes, _) = *memory.get(&key)?;
            Some((key, Counter { cpu_seconds, cpu_ms, bytes }))
        })
        .collect()
}

fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

/// What is served for a container, with the span of its rate in ms.
#[derive(Debug, Clone, Copy)]
struct Sample {
    begin_ms: i64,
    end_ms: i64,
    millicores: f64,
    bytes: f64,
}

async fn sample(cluster: &RealCluster, samples: &mut BTreeMap<(String, String), Vec<Sample>>) {
    let list = cluster.plane.get("/apis/metrics.k8s.io/v1/namespaces/default/pods").await.unwrap();
    for object in list["items"].as_array().unwrap() {
        let item = Item::read(object).unwrap();
        let end_ms = item.timestamp.as_millisecond();
        let begin_ms = end_ms - i64::try_from(item.window.as_millis()).unwrap();
        for (container, usage) in &item.usage {
            let known = samples.entry((item.name.clone(), container.clone())).or_default();
            if known.last().is_none_or(|last| last.end_ms != end_ms) {
                known.push(Sample { begin_ms, end_ms, millicores: usage.millicores, bytes: usage.bytes });
            }
        }
    }
}

/// The mean of samples that follow one another, from the one that begins nearest to the span's begin to its end.
fn mean(samples: &[Sample], (begin, end): (i64, i64), of: impl Fn(&Sample) -> f64) -> f64 {
    let (mut cursor, mut sum, mut total) = (begin, 0.0, 0.0);
    // What is left is not nearer to a whole window than to none.
    while end - cursor > SLACK_MS {
        let next = samples.iter().filter(|sample| sample.end_ms > cursor + SLACK_MS);
        let next = next.min_by_key(|sample| (sample.begin_ms - cursor).abs());
        let next =
            next.unwrap_or_else(|| panic!("nothing was served between {cursor} and {end}: {samples:?}"));
        let off = (next.begin_ms - cursor).abs();
        assert!(off <= SLACK_MS, "nothing that was served begins at {cursor}: {samples:?}");
        let length = (next.end_ms - next.begin_ms) as f64;
        sum += of(next) * length;
        total += length;
        cursor = next.end_ms;
    }
    assert!(total > 0.0, "an empty span");
    sum / total
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn what_is_served_agrees_with_the_kubelets_counters_over_a_minute() {
    inside(async |cluster| {
        let (mut samples, begun) = (BTreeMap::new(), Instant::now());
        // The kubelet's counters may be old when they are read: what is served must be known from before.
        while begun.elapsed() < BEFORE {
            sample(cluster, &mut samples).await;
            sleep(PAUSE).await;
        }
        let (first, begun) = (counters(cluster).await, Instant::now());
        let last = loop {
            sample(cluster, &mut samples).await;
            sleep(PAUSE).await;
            if begun.elapsed() < Duration::from_millis(SPAN_MS.unsigned_abs()) {
                continue;
            }
            let now = counters(cluster).await;
            let spans = |key: &(String, String), counter: &Counter| {
                now.get(key).is_some_and(|now| now.cpu_ms - counter.cpu_ms >= SPAN_MS)
            };
            if first.iter().all(|(key, counter)| spans(key, counter)) {
                break now;
            }
            assert!(begun.elapsed() < LIMIT, "the kubelet's counters stand still: {first:?} {now:?}");
        };
        let ended = Instant::now();
        while ended.elapsed() < AFTER {
            sleep(PAUSE).await;
            sample(cluster, &mut samples).await;
        }
        let mut compared = 0;
        for known in loads::known() {
            let key = (known.pod.to_owned(), known.container.to_owned());
            let (from, to) = (first[&key], last[&key]);
            let span = (from.cpu_ms, to.cpu_ms);
            if known.millicores.is_some() {
                let seconds = (to.cpu_ms - from.cpu_ms) as f64 / 1000.0;
                let kubelet = (to.cpu_seconds - from.cpu_seconds) / seconds * 1000.0;
                let served = mean(&samples[&key], span, |sample| sample.millicores);
                println!("{key:?}: kubelet {kubelet:.2} m over {seconds:.1} s, served {served:.2} m");
                assert!((served / kubelet - 1.0).abs() <= 0.03, "{key:?}: {served} m, kubelet {kubelet} m");
                compared += 1;
            }
            if known.mebibytes.is_some() {
                let served = mean(&samples[&key], span, |sample| sample.bytes);
                println!("{key:?}: kubelet {} bytes, served {served:.0} bytes", to.bytes);
                assert!((served / to.bytes - 1.0).abs() <= 0.03, "{key:?}: {served}, kubelet {}", to.bytes);
                compared += 1;
            }
        }
        assert!(compared >= 6, "only {compared} values were compared");
    });
}
