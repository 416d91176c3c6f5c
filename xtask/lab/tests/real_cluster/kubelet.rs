//! What is served against the kubelet's own counters on the same machine, over the same span.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep};
use waggle_lab::nodes::RealCluster;

use super::{
    loads,
    served::{PODS, Sample, Samples, gather},
    world::{inside, nodes},
};

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
/// Fewer answers than this in a span are no measurement.
const SAMPLES: usize = 10;
/// A machine that answers late is measured anew. A value that is wrong is not.
const ATTEMPTS: usize = 3;

/// A container's counter of the kubelet: seconds of CPU time and bytes, with their instants in ms.
#[derive(Debug, Clone, Copy)]
struct Counter {
    cpu_seconds: f64,
    cpu_ms: i64,
    bytes: f64,
}

/// By pod and container, those of the namespace `default`.
type Counters = BTreeMap<(String, String), Counter>;

async fn counters(cluster: &RealCluster) -> Counters {
    let mut all = Counters::new();
    for (_, node) in nodes() {
        all.extend(counters_of(cluster, &node).await);
    }
    all
}

async fn counters_of(cluster: &RealCluster, node: &str) -> Counters {
    let path = format!("/api/v1/nodes/{node}/proxy/metrics/resource");
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

/// The mean CPU of samples that follow one another, from the one that begins nearest to the span's begin to its end.
/// Nothing, where such a row has a hole: the machine answered too late.
fn millicores(samples: &[Sample], (begin, end): (i64, i64)) -> Option<f64> {
    let (mut cursor, mut sum, mut total) = (begin, 0.0, 0.0);
    // What is left is not nearer to a whole window than to none.
    while end - cursor > SLACK_MS {
        let next = samples.iter().filter(|sample| sample.end_ms > cursor + SLACK_MS);
        let next = next.min_by_key(|sample| (sample.begin_ms - cursor).abs())?;
        if (next.begin_ms - cursor).abs() > SLACK_MS {
            return None;
        }
        let length = next.length();
        sum += next.millicores * length;
        total += length;
        cursor = next.end_ms;
    }
    assert!(total > 0.0, "an empty span");
    Some(sum / total)
}

/// The mean memory of the samples taken in a span.
fn bytes(samples: &[Sample], (begin, end): (i64, i64)) -> f64 {
    let inside = |sample: &&Sample| begin <= sample.end_ms && sample.end_ms <= end;
    let taken: Vec<f64> = samples.iter().filter(inside).map(|sample| sample.bytes).collect();
    assert!(taken.len() >= SAMPLES, "only {} samples in {begin}..{end}", taken.len());
    taken.iter().sum::<f64>() / taken.len() as f64
}

/// The kubelet's counters at the begin and at the end of a span.
async fn span(cluster: &RealCluster) -> (Counters, Counters) {
    // The kubelet's counters may be old when they are read: what is served must be known from before.
    sleep(BEFORE).await;
    let (first, begun) = (counters(cluster).await, Instant::now());
    sleep(Duration::from_millis(SPAN_MS.unsigned_abs())).await;
    let last = loop {
        let now = counters(cluster).await;
        let spans = |(key, counter): (&(String, String), &Counter)| {
            now.get(key).is_some_and(|now| now.cpu_ms - counter.cpu_ms >= SPAN_MS)
        };
        if first.iter().all(spans) {
            break now;
        }
        assert!(begun.elapsed() < LIMIT, "the kubelet's counters stand still: {first:?} {now:?}");
        sleep(PAUSE).await;
    };
    sleep(AFTER).await;
    (first, last)
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn what_is_served_agrees_with_the_kubelets_counters_over_a_minute() {
    inside(async |cluster| {
        let compared = async || {
            let samples = RefCell::default();
            let (first, last) = tokio::select! {
                spans = span(cluster) => spans,
                never = gather(cluster, &[PODS], &samples) => match never {},
            };
            compare(&first, &last, &samples.into_inner())
        };
        for attempt in 1..=ATTEMPTS {
            if compared().await.is_some() {
                return;
            }
            println!("attempt {attempt}: what was served has a hole of half a window");
        }
        panic!("{ATTEMPTS} times, what was served had a hole");
    });
}

/// Holds every known load against the counters. Nothing, where what was served has a hole.
fn compare(first: &Counters, last: &Counters, samples: &Samples) -> Option<()> {
    for (_, node) in nodes() {
        let mut compared = 0;
        for known in loads::known(&node) {
            let key = (known.pod.clone(), known.container.to_owned());
            compared += compare_container(&known, (first[&key], last[&key]), &samples[&key])?;
        }
        assert!(compared >= 6, "only {compared} values of {node} were compared");
    }
    Some(())
}

/// Compares what is known of a container; how many values that are.
fn compare_container(
    known: &loads::Known,
    (from, to): (Counter, Counter),
    samples: &[Sample],
) -> Option<usize> {
    let what = format!("{} {}", known.pod, known.container);
    let span = (from.cpu_ms, to.cpu_ms);
    if known.millicores.is_some() {
        let seconds = (to.cpu_ms - from.cpu_ms) as f64 / 1000.0;
        let kubelet = (to.cpu_seconds - from.cpu_seconds) / seconds * 1000.0;
        let served = millicores(samples, span)?;
        println!("{what}: kubelet {kubelet:.2} m over {seconds:.1} s, served {served:.2} m");
        assert!((served / kubelet - 1.0).abs() <= 0.03, "{what}: {served} m, kubelet {kubelet} m");
    }
    if known.mebibytes.is_some() {
        let served = bytes(samples, span);
        println!("{what}: kubelet {} bytes, served {served:.0} bytes", to.bytes);
        assert!((served / to.bytes - 1.0).abs() <= 0.03, "{what}: {served}, kubelet {}", to.bytes);
    }
    Some(usize::from(known.millicores.is_some()) + usize::from(known.mebibytes.is_some()))
}
