//! What is served against the kubelet's own formulas on the kernel's files, which the node's shell reads over the same time: container,
//! pod and node.

use std::{cell::RefCell, time::Duration};

use tokio::time::{Instant, sleep};
use waggle_lab::nodes::RealCluster;

use super::{
    kernel::{Look, container_cgroup, look, millicores, pod_cgroup},
    loads,
    served::{NODES, PODS, Sample, Samples, gather},
    world::{DRIVERS, inside, nodes, pod},
};

/// Two windows, and the looks before and after them.
const TIME: Duration = Duration::from_secs(40);
const PAUSE: Duration = Duration::from_millis(500);
/// The windows that are compared reach at least from here to there.
const SPAN_MS: i64 = 30_000;
/// What the kernel may hold back of a counter of memory, on one processor: 64 pages.
const PAGES: f64 = 64.0 * 4096.0;

/// Windows that lie within the looks.
fn windows(samples: &[Sample], looks: &[Look]) -> Vec<Sample> {
    let (first, last) = (looks[0].clock * 1000.0, looks[looks.len() - 1].clock * 1000.0);
    let is_inside =
        |sample: &Sample| sample.begin_ms as f64 > first && (sample.end_ms as f64) < last - 1000.0;
    samples.iter().copied().filter(is_inside).collect()
}

/// What was served and what the files say, in thousandths of a processor, over the same windows.
fn rates(samples: &[Sample], looks: &[Look], of: impl Fn(&Look) -> f64) -> (f64, f64) {
    let windows = windows(samples, looks);
    let (begin, end) =
        (windows.iter().map(|window| window.begin_ms), windows.iter().map(|window| window.end_ms));
    let is_long = begin.min().zip(end.max()).is_some_and(|(begin, end)| end - begin >= SPAN_MS);
    assert!(is_long, "only {windows:?} lie between the looks: {samples:?}");
    let (mut served, mut files, mut total) = (0.0, 0.0, 0.0);
    for window in windows {
        // A stamp has whole seconds: half of one is between it and the instant, give or take.
        let [from, to] = [window.begin_ms, window.end_ms].map(|ms| ms as f64 / 1000.0 + 0.5);
        served += window.millicores * window.length();
        files += millicores(looks, &of, (from, to)) * window.length();
        total += window.length();
    }
    (served / total, files / total)
}

/// How many of the samples were compared: each must lie between what the files say around its instant.
fn memory(what: &str, samples: &[Sample], looks: &[Look], of: impl Fn(&Look) -> f64, slack: f64) -> usize {
    let mut compared = 0;
    for sample in samples {
        let instant = sample.end_ms as f64 / 1000.0;
        let near = looks.iter().filter(|look| (instant - 3.0..instant + 4.0).contains(&look.clock));
        let (before, after): (Vec<&Look>, Vec<&Look>) = near.partition(|look| look.clock <= instant);
        // Its instant is within the second that begins with its stamp.
        if before.is_empty() || after.iter().all(|look| look.clock <= instant + 1.0) {
            continue;
        }
        let near: Vec<f64> = before.into_iter().chain(after).map(&of).collect();
        let low = near.iter().copied().fold(f64::INFINITY, f64::min) - slack;
        let high = near.iter().copied().fold(0.0, f64::max) + slack;
        let served = sample.bytes;
        assert!((low..=high).contains(&served), "{what}: {served} is served, the files say {near:?}");
        compared += 1;
    }
    assert!(compared > 0, "{what}: nothing was compared");
    compared
}

/// Looks at every machine again and again for [`TIME`].
async fn looks(cluster: &RealCluster) -> Vec<Vec<Look>> {
    let mut looks: Vec<Vec<Look>> = DRIVERS.iter().map(|_| Vec::new()).collect();
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        for (look, looks) in look(&cluster.machines).await.into_iter().zip(&mut looks) {
            looks.push(look);
        }
        sleep(PAUSE).await;
    }
    looks
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn node_pods_and_containers_are_what_the_kubelets_formulas_make_of_the_files() {
    inside(async |cluster| {
        let samples = RefCell::default();
        let looks = tokio::select! {
            looks = looks(cluster) => looks,
            never = gather(cluster, &[PODS, NODES], &samples) => match never {},
        };
        let samples = samples.into_inner();
        for (number, node) in nodes() {
            let (driver, looks) = (DRIVERS[number], &looks[number]);
            let mut bytes = 0;
            for known in loads::known(&node) {
                let pod = pod(cluster, "default", &known.pod).await;
                let cgroup = container_cgroup(driver, &pod, known.container);
                let own = &samples[&(known.pod.clone(), known.container.to_owned())];
                let what = format!("{} {}", known.pod, known.container);
                bytes += memory(&what, own, looks, |look| look.cgroups[&cgroup].working_set, PAGES);
                if known.millicores.is_some() {
                    let (served, files) = rates(own, looks, |look| look.cgroups[&cgroup].cpu_seconds);
                    within(&format!("{what}, m"), served, files, 0.02);
                }
            }
            assert!(bytes >= 7, "{node}: {bytes} sizes were compared");
            pods(cluster, number, &node, looks, &samples).await;

            let own = &samples[&(node.clone(), String::new())];
            let (served, files) = rates(own, looks, |look| look.node.cpu_seconds);
            within(&format!("{node}, m"), served, files, 0.03);
            let one_percent = 0.01 * looks[0].node.working_set;
            let compared = memory(&node, own, looks, |look| look.node.working_set, one_percent);
            println!("{node}: {compared} of its sizes lie between what the files say");
        }
    });
}

fn within(what: &str, served: f64, files: f64, share: f64) {
    println!("{what}: served {served:.2}, by the files {files:.2}");
    assert!((served / files - 1.0).abs() <= share, "{what}: served {served}, files {files}");
}

/// A pod uses what its containers use, and its sandbox, which is not served: it holds memory and sleeps.
async fn pods(cluster: &RealCluster, number: usize, node: &str, looks: &[Look], samples: &Samples) {
    let mut names: Vec<String> = loads::known(node).into_iter().map(|known| known.pod).collect();
    names.dedup();
    for name in names {
        let pod = pod(cluster, "default", &name).await;
        let whole = pod_cgroup(DRIVERS[number], &pod);
        let containers = pod["spec"]["containers"].as_array().unwrap().iter();
        let containers: Vec<&str> = containers.map(|container| container["name"].as_str().unwrap()).collect();
        let parts: Vec<String> =
            containers.iter().map(|container| container_cgroup(DRIVERS[number], &pod, container)).collect();
        let served = together(containers.iter().map(|container| {
            let container = (*container).to_owned();
            samples[&(name.clone(), container)].as_slice()
        }));
        let without_sandbox = |look: &Look| {
            let children = look.cgroups.iter().filter(|(path, _)| {
                path.strip_prefix(&whole).is_some_and(|rest| rest.starts_with('/')) && !parts.contains(path)
            });
            let sandbox: f64 = children.map(|(_, figures)| figures.working_set).sum();
            look.cgroups[&whole].working_set - sandbox
        };
        memory(&format!("{name}, pod"), &served, looks, without_sandbox, 2.0 * PAGES);
        if loads::known(node).iter().any(|known| known.pod == name && known.millicores.is_some()) {
            let (served, files) = rates(&served, looks, |look| look.cgroups[&whole].cpu_seconds);
            within(&format!("{name}, pod, m"), served, files, 0.02);
        }
    }
}

/// The sums over a pod's containers, whose samples came in the same answers.
fn together<'a>(containers: impl Iterator<Item = &'a [Sample]>) -> Vec<Sample> {
    let add = |mut sums: Vec<Sample>, container: &[Sample]| {
        assert_eq!(sums.len(), container.len(), "containers of a pod are served together");
        for (sum, sample) in sums.iter_mut().zip(container) {
            assert_eq!((sum.begin_ms, sum.end_ms), (sample.begin_ms, sample.end_ms));
            sum.millicores += sample.millicores;
            sum.bytes += sample.bytes;
        }
        sums
    };
    let mut containers = containers.map(<[Sample]>::to_vec);
    let first = containers.next().unwrap();
    containers.fold(first, |sums, container| add(sums, &container))
}
