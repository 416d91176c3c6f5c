//! What `kubectl top` shows of pods whose use is known.

use std::collections::BTreeMap;

use tokio::time::sleep;
use waggle_lab::nodes::RealCluster;

use super::{
    kernel::{container_cgroup, look},
    loads,
    world::{DRIVERS, WINDOW, inside, nodes, pod},
};

/// Namespace, pod and container to millicores and MiB, as `kubectl top pods -A --containers` shows them.
type Shown = BTreeMap<(String, String, String), (f64, f64)>;

async fn shown(cluster: &RealCluster) -> Shown {
    let text = cluster.plane.kubectl(&["top", "pods", "-A", "--containers", "--no-headers"]).await.unwrap();
    println!("{text}");
    let number = |text: &str, unit: &str| text.strip_suffix(unit).unwrap().parse::<f64>().unwrap();
    text.lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [namespace, pod, container, cpu, memory] = words[..] else { panic!("an odd line: {line}") };
            let key = (namespace.to_owned(), pod.to_owned(), container.to_owned());
            (key, (number(cpu, "m"), number(memory, "Mi")))
        })
        .collect()
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn kubectl_top_shows_the_known_loads() {
    inside(async |cluster| {
        let before = look(&cluster.machines).await;
        sleep(WINDOW).await;
        let shown = shown(cluster).await;
        let after = look(&cluster.machines).await;
        for (number, node) in nodes() {
            let mut compared = 0;
            for known in loads::known(&node) {
                let key = ("default".to_owned(), known.pod.clone(), known.container.to_owned());
                let (cpu, memory) = *shown.get(&key).unwrap_or_else(|| panic!("{key:?} is not shown"));
                if let Some(limit) = known.millicores.map(f64::from) {
                    let pod = pod(cluster, "default", &known.pod).await;
                    let cgroup = container_cgroup(DRIVERS[number], &pod, known.container);
                    let kernel = after[number].millicores_since(&before[number], &cgroup);
                    let of = known.container;
                    println!(
                        "{node} {of}: limit {limit} m, the kernel's counter {kernel:.1} m, shown {cpu} m"
                    );
                    // The limit is the truth, unless the machine did not get the time to reach it: then the kernel knows. Its
                    // counter is of a span that is a second off, and kubectl shows whole thousandths.
                    let (truth, slack) = if kernel < 0.95 * limit { (kernel, 1.5) } else { (limit, 0.0) };
                    assert!(
                        (cpu - truth).abs() <= 0.1 * truth + slack,
                        "{key:?}: {cpu} m, in truth {truth} m"
                    );
                    compared += 1;
                }
                if let Some(held) = known.mebibytes.map(f64::from) {
                    assert!((memory / held - 1.0).abs() <= 0.05, "{key:?}: {memory} MiB, holds {held} MiB");
                    compared += 1;
                }
            }
            assert!(compared >= 6, "only {compared} values of {node} are known");
        }
    });
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn static_pods_and_pods_of_several_containers_have_their_right_names() {
    inside(async |cluster| {
        let shown = shown(cluster).await;
        for (_, node) in nodes() {
            let fixed = loads::on(loads::STATIC_POD, &node);
            let (_, memory) = shown[&(loads::STATIC_NAMESPACE.to_owned(), fixed, "hold".to_owned())];
            assert!((memory / 32.0 - 1.0).abs() <= 0.05, "{node}: a static pod of 32 MiB shows {memory} MiB");
            let pair = loads::on("pair", &node);
            let containers: Vec<&str> = shown
                .keys()
                .filter(|(namespace, pod, _)| namespace == "default" && *pod == pair)
                .map(|(_, _, container)| container.as_str())
                .collect();
            assert_eq!(containers, ["hold", "sidecar"], "{node}");
            let (cpu, _) = shown[&("default".to_owned(), pair, "sidecar".to_owned())];
            assert!(cpu <= 2.0, "{node}: a container that sleeps uses {cpu} m");
        }
    });
}

#[test]
#[ignore = "needs a virtual machine and root: cargo xtask test"]
fn kubectl_top_shows_every_node() {
    inside(async |cluster| {
        let text = cluster.plane.kubectl(&["top", "nodes", "--no-headers"]).await.unwrap();
        println!("{text}");
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), DRIVERS.len(), "{text}");
        for (_, node) in nodes() {
            let words = lines.iter().find(|words| words[0] == node).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(words.len(), 5, "{text}");
            let cpu: f64 = words[1].strip_suffix('m').unwrap().parse().unwrap();
            let memory: f64 = words[3].strip_suffix("Mi").unwrap().parse().unwrap();
            // More than a part of its burners, and not more than its one processor; more than what its pods hold.
            assert!((130.0..1020.0).contains(&cpu), "{text}");
            assert!((344.0..2048.0).contains(&memory), "{text}");
        }
    });
}
