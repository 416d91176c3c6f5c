//! One group of workloads: made, waited for, looked at for a while with everybody asked all the time, and taken away.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::time::sleep;

use super::{
    ground::{self, Ground},
    reading::{Key, Source, Truth, WINDOW, judge, judge_both},
    sampler::Sampler,
    sources::Clock,
    table::Line,
    truth::{Course, Load, Seconds, seconds},
    workloads::{self, BURSTS, CHANGING, EXTENDED, Known, NAMESPACE, Row},
};
use crate::nodes::RealCluster;

const START: Duration = Duration::from_mins(10);
/// Until everything that is said is of running pods: two looks of metrics-server, and a window.
const SETTLE: Duration = Duration::from_secs(40);
/// How long a group is looked at, and how long one with bursts of 40 s, of which some are wanted.
const SPANS: (Duration, Duration) = (Duration::from_secs(75), Duration::from_secs(210));
/// Between two looks at the kernel's files and at logs.
const LOOK: Duration = Duration::from_secs(10);
/// A container that was started again is judged from then on.
const AGE: Seconds = 3.0;
/// How long it lives: what its arguments say.
const LIFE: Seconds = 30.0;
/// What a limit or a share and the kernel's counter may differ by before the counter is taken for the truth.
const CPU_TOLERANCE: f64 = 0.01;
/// The same for a container that lives for a few looks only.
const RESTART_TOLERANCE: f64 = 0.05;
/// What a program needs beside the memory that it is told to hold.
const PROGRAM: f64 = 6.0 * 1_048_576.0;

/// What was measured.
pub struct Group {
    /// The rows.
    pub lines: Vec<Line>,
    /// The bursts.
    pub bursts: Vec<Load>,
    /// When they were looked at.
    pub span: (Seconds, Seconds),
}

/// What was gathered while the group was looked at.
struct Seen {
    span: (Seconds, Seconds),
    ids: BTreeMap<Key, String>,
    /// The ids that a container which is started again and again had.
    lives: BTreeSet<String>,
    grounds: Vec<Ground>,
    bursts: Load,
    /// When a container that is started again and again began.
    restarts: Vec<Seconds>,
}

/// Measures the rows of a group.
pub async fn measure(
    cluster: &mut RealCluster,
    sampler: &Sampler,
    clock: Clock,
    number: u8,
    rows: &[Row],
) -> Result<Group> {
    start(cluster, number).await?;
    sleep(SETTLE).await;
    let seen = watch(cluster, clock, number).await?;
    let mut lines = Vec::new();
    for row in rows.iter().filter(|row| row.group == number) {
        lines.push(line(row, &seen, sampler)?);
    }
    remove_all(cluster).await?;
    let bursts = if seen.bursts.spans.is_empty() { Vec::new() } else { vec![seen.bursts] };
    Ok(Group { lines, bursts, span: seen.span })
}

async fn start(cluster: &mut RealCluster, number: u8) -> Result<()> {
    let pods = workloads::pods(number);
    cluster.plane.apply(&pods).await?;
    let wanted = pods.len();
    cluster
        .wait("the workloads run", START, async |plane| Ok(running(&pods_of(plane).await?) >= wanted))
        .await?;
    if number == EXTENDED {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/pods/debugged/ephemeralcontainers");
        let request = http::Request::patch(path)
            .header("content-type", "application/strategic-merge-patch+json")
            .body(workloads::ephemeral().to_string().into_bytes())
            .context("an odd path")?;
        cluster
            .plane
            .client()
            .await?
            .request::<Value>(request)
            .await
            .context("cannot add a container to debugged")?;
        cluster
            .wait("the ephemeral container runs", START, async |plane| {
                let pods = plane.get(&format!("/api/v1/namespaces/{NAMESPACE}/pods/debugged")).await?;
                Ok(pods["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object())
            })
            .await?;
    }
    Ok(())
}

async fn pods_of(plane: &crate::control_plane::ControlPlane) -> Result<Value> {
    plane.get(&format!("/api/v1/namespaces/{NAMESPACE}/pods")).await
}

/// How many pods run, each with all its containers or started again before.
fn running(pods: &Value) -> usize {
    let runs = |pod: &&Value| {
        let statuses = pod["status"]["containerStatuses"].as_array();
        pod["status"]["phase"] == "Running"
            && statuses.is_some_and(|all| {
                all.iter().all(|one| one["state"]["running"].is_object() || one["restartCount"] != 0)
            })
    };
    pods["items"].as_array().into_iter().flatten().filter(runs).count()
}

async fn watch(cluster: &mut RealCluster, clock: Clock, number: u8) -> Result<Seen> {
    let mut seen = Seen {
        span: (clock.now(), clock.now()),
        ids: BTreeMap::new(),
        lives: BTreeSet::new(),
        grounds: Vec::new(),
        bursts: Load { millicores: 0.0, spans: Vec::new() },
        restarts: Vec::new(),
    };
    let changes = number == CHANGING;
    let length = if changes { SPANS.1 } else { SPANS.0 }.as_secs_f64();
    loop {
        cluster.check()?;
        seen.grounds.push(Ground::read(cluster.machines.first().context("no node")?, clock).await?);
        let mut pods = cluster.plane.get("/api/v1/pods").await?;
        let mut ids = ground::ids(&pods.take());
        if changes {
            seen.lives.extend(ids.get(&Key::main("restarts")).cloned());
            // Only the log of the container that runs, or ran last, can be read.
            if let Some(begun) = begun(&log(cluster, "restarts").await?)
                && !seen.restarts.contains(&begun)
            {
                seen.restarts.push(begun);
            }
        }
        seen.ids.append(&mut ids);
        if clock.now() - seen.span.0 > length {
            break;
        }
        sleep(LOOK).await;
    }
    seen.span.1 = clock.now();
    if changes {
        seen.bursts = Load::from_log(BURSTS, &log(cluster, "bursts").await?);
    }
    Ok(seen)
}

/// The log of a pod's container `main`.
pub async fn log(cluster: &RealCluster, pod: &str) -> Result<String> {
    cluster.plane.kubectl(&["-n", NAMESPACE, "logs", pod, "-c", "main"]).await
}

/// When a workload began, by the first line of its log.
pub fn begun(log: &str) -> Option<Seconds> {
    let line = log.lines().find(|line| line.ends_with("begins"))?;
    line.split_once(' ')?.0.parse().ok().map(seconds)
}

/// Takes all workloads away and waits until they are gone.
pub async fn remove_all(cluster: &mut RealCluster) -> Result<()> {
    cluster.plane.kubectl(&["-n", NAMESPACE, "delete", "pods", "--all", "--wait=false"]).await?;
    cluster
        .wait("the workloads are gone", START, async |plane| {
            Ok(pods_of(plane).await?["items"].as_array().is_some_and(Vec::is_empty))
        })
        .await
}

fn line(row: &Row, seen: &Seen, sampler: &Sampler) -> Result<Line> {
    let spans = if let Known::Restarts(_) = row.known {
        let lives = seen.restarts.iter();
        lives.map(|begun| ((begun + AGE).max(seen.span.0), (begun + LIFE).min(seen.span.1))).collect()
    } else {
        // Of a window that began before the first look nothing is known.
        let (first, last) = ground::span(&seen.grounds).context("the node's files were not read")?;
        vec![(first + WINDOW, last)]
    };
    let mut truths = Vec::new();
    let mut doubt = None;
    for key in &row.keys {
        let (truth, why) = truth(row, key, seen)?;
        truths.push(truth);
        doubt = doubt.or(why);
    }
    let known: Vec<_> = row.keys.iter().zip(&truths).collect();
    let verdicts = Source::ALL.map(|source| sampler.look(|readings| judge(readings, source, &known, &spans)));
    let both = sampler.look(|readings| judge_both(readings, &known, &spans));
    let size = truths.iter().map(size).sum::<f64>() / truths.len() as f64;
    let memory = matches!(row.known, Known::Memory(_));
    let text = match row.known {
        Known::Bursts(millicores) => format!("0 and {millicores} m"),
        Known::Memory(_) => format!("{:.1} MiB", size / 1_048_576.0),
        Known::Limit(planned) | Known::Share(planned) | Known::Restarts(planned) => {
            let each = if row.keys.len() > 1 { " each" } else { "" };
            let kept = !truths.iter().any(|truth| matches!(truth, Truth::Counted(_)));
            if kept { format!("{planned} m{each}") } else { format!("{planned} m{each}, used {size:.1}") }
        }
    };
    Ok(Line { title: row.title.to_owned(), truth: text, memory, size, doubt, verdicts, both })
}

fn size(truth: &Truth) -> f64 {
    match truth {
        Truth::Cpu(load) => load.millicores,
        Truth::Counted(Course(looks)) => {
            let ends = looks.first().zip(looks.last());
            ends.map_or(0.0, |(first, last)| (last.1 - first.1) / (last.0 - first.0) * 1000.0)
        }
        Truth::Rate(rate) | Truth::Memory(rate) => *rate,
    }
}

/// What is true of a container, and what speaks against that. What was planned is held against the kernel's own files over the same
/// span.
fn truth(row: &Row, key: &Key, seen: &Seen) -> Result<(Truth, Option<String>)> {
    let (first, last) =
        seen.grounds.first().zip(seen.grounds.last()).context("the node's files were not read")?;
    let rate = || {
        let id = seen.ids.get(key).with_context(|| format!("{key:?} did not run"))?;
        last.rate_since(first, id).with_context(|| format!("the node has no files of {key:?}"))
    };
    Ok(match row.known {
        Known::Limit(planned) | Known::Share(planned) => {
            let kept = (rate()? - planned).abs() <= planned * CPU_TOLERANCE;
            let truth = if kept {
                Truth::Rate(planned)
            } else {
                // The emulated processor had to serve others first: what was used counts.
                let id = seen.ids.get(key).with_context(|| format!("{key:?} did not run"))?;
                Truth::Counted(ground::course(&seen.grounds, id))
            };
            (truth, None)
        }
        Known::Bursts(_) => {
            let planned = seen.bursts.mean(seen.span.0, seen.span.1);
            let real = rate()?;
            let doubt = (real - planned).abs() > planned * 0.05;
            let doubt =
                doubt.then(|| format!("its log says {planned:.1} m on average, the kernel {real:.1} m"));
            (Truth::Cpu(seen.bursts.clone()), doubt)
        }
        Known::Restarts(millicores) => {
            let rates = lives(&seen.grounds, &seen.lives);
            let off = rates.iter().find(|&&rate| (rate - millicores).abs() > millicores * RESTART_TOLERANCE);
            let doubt = match off {
                _ if seen.restarts.len() < 2 => {
                    Some("it was not started again while it was looked at".to_owned())
                }
                _ if rates.is_empty() => Some("no life of it was looked at twice".to_owned()),
                Some(rate) => Some(format!("the kernel says {rate:.1} m of one of its lives")),
                None => None,
            };
            (Truth::Rate(millicores), doubt)
        }
        Known::Memory(planned) => {
            let id = seen.ids.get(key).with_context(|| format!("{key:?} did not run"))?;
            let said: Vec<f64> = seen
                .grounds
                .iter()
                .filter_map(|ground| ground.of(id))
                .map(|files| files.working_set)
                .collect();
            anyhow::ensure!(!said.is_empty(), "the node has no files of {key:?}");
            let real = said.iter().sum::<f64>() / said.len() as f64;
            let doubt = !(planned..planned + PROGRAM).contains(&real);
            (Truth::Memory(real), doubt.then(|| format!("the kernel says {:.1} MiB", real / 1_048_576.0)))
        }
    })
}

/// The mean rates of the lives of a container, each from the first look at it to the last.
fn lives(grounds: &[Ground], ids: &BTreeSet<String>) -> Vec<f64> {
    let rate = |id: &String| {
        let looks: Vec<&Ground> = grounds.iter().filter(|ground| ground.of(id).is_some()).collect();
        let (first, last) = looks.first().zip(looks.last())?;
        last.rate_since(first, id)
    };
    ids.iter().filter_map(rate).collect()
}

const _: () = assert!(WINDOW < 40.0, "a burst is longer than a window");
