//! The collector on each kernel: the walk equals the files on 6.1 and 6.12 in both layouts, and 5.10 falls back to the
//! files and says why.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    fs,
    time::{Duration, Instant},
};

use serde_json::Value;
use waggle_lab::{
    checks,
    cluster::{Cluster, Options, run, start_container, start_sandbox},
    control::Work,
    layout::{Layout, Qos},
    paths::Paths,
    scenario::{Container, Pod},
    vm::{Boot, Vm},
};

/// A subtree of 10 pods (40 cgroups and those above them) in which everybody sleeps holding some memory, and one of
/// them has read into the page cache. The cgroups of their pause containers, which may hold no memory.
async fn idle_pods(vm: &Vm, layout: Layout) -> Vec<String> {
    let mut pauses = Vec::new();
    let classes = [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort];
    for number in 0..10 {
        let second = if number == 4 { Work::Cache(8) } else { Work::Hold(2) };
        let first = Work::Hold(1 + number as u64);
        let containers = vec![Container::new("a", first, None), Container::new("b", second, None)];
        let pod = Pod::new("default", &format!("idle-{number}"), classes[number % 3], containers);
        let pod = if number == 9 { pod.into_static() } else { pod };
        start_sandbox(&vm.node, layout, &pod).await.unwrap();
        pauses.push(format!("/sys/fs/cgroup/{}", pod.container_cgroup(layout, &pod.sandbox)));
        for container in &pod.containers {
            start_container(&vm.node, layout, &pod, container).await.unwrap();
            if matches!(container.work, Work::Cache(_)) {
                page_cache_is_there(vm, &pod.container_cgroup(layout, &container.id), &container.id).await;
            }
        }
    }
    pauses
}

async fn page_cache_is_there(vm: &Vm, cgroup: &str, name: &str) {
    let begun = Instant::now();
    loop {
        let stat = vm.node.read(&format!("/sys/fs/cgroup/{cgroup}/memory.stat")).await.unwrap();
        let line = stat.lines().find_map(|line| line.strip_prefix("inactive_file ")).unwrap();
        if line.parse::<u64>().unwrap() >= 7 << 20 {
            return;
        }
        let log = vm.node.read(&format!("/run/log/{name}")).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10), "no page cache: {stat}\n{log}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn parity(kernel: &str, layout: Layout) {
    let paths = Paths::from_environment().unwrap();
    let example = fs::read(paths.program("examples/parity")).unwrap();
    let boot = Boot {
        label: format!("parity-{kernel}"),
        kernel: kernel.to_owned(),
        files: vec![("bin/parity".to_owned(), 0o755, example)],
        ..Boot::default()
    };
    let vm = Vm::boot(&paths, boot).await.unwrap();
    let pauses = idle_pods(&vm, layout).await;
    let (status, output) = run(&vm.node, &["/bin/parity", "--tries", "20"]).await.unwrap();
    println!("{output}");
    let last: Value = serde_json::from_str(output.trim_end().lines().last().unwrap()).unwrap();
    assert_eq!(status, 0, "{kernel}: the walk differs from the files:\n{output}");
    assert_eq!(last["collector"], "bpf");
    let compared = last["compared"].as_u64().unwrap();
    assert!(compared >= 40, "{kernel}: only {compared} cgroups were compared");
    // Every cgroup has used CPU, all but pause containers hold memory, and the reader has page cache.
    assert_eq!(last["nonzero"]["cpu_usec"], compared, "{kernel}: CPU was zero somewhere: {last}");
    let empty: Vec<&str> =
        last["without_memory"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let odd: Vec<_> = empty.iter().filter(|path| !pauses.iter().any(|pause| pause == *path)).collect();
    assert!(odd.is_empty(), "{kernel}: no memory in {odd:?}");
    assert_eq!(last["nonzero"]["memory_current"], compared - empty.len() as u64, "{last}");
    assert!(
        last["nonzero"]["inactive_file"].as_u64().unwrap() >= 3,
        "{kernel}: no page cache was compared: {last}"
    );
}

#[tokio::test]
#[ignore = "needs a virtual machine: cargo xtask test"]
async fn the_walk_equals_the_files_on_6_1_cgroupfs_layout() {
    parity("6.1", Layout::Cgroupfs).await;
}

#[tokio::test]
#[ignore = "needs a virtual machine: cargo xtask test"]
async fn the_walk_equals_the_files_on_6_12_systemd_layout() {
    parity("6.12", Layout::Systemd).await;
}

#[tokio::test]
#[ignore = "needs a virtual machine: cargo xtask test"]
async fn kernel_5_10_falls_back_to_files_and_says_why() {
    let paths = Paths::from_environment().unwrap();
    let options = Options {
        label: "fallback".to_owned(),
        kernel: "5.10".to_owned(),
        layout: Layout::Systemd,
        max_age: "60s".to_owned(),
    };
    let cluster = Cluster::start(&paths, &options, |_| {}).await.unwrap();
    let pod =
        Pod::new("default", "holder", Qos::Burstable, vec![Container::new("hold", Work::Hold(64), None)]);
    cluster.start_pod(&pod).await.unwrap();
    let name = ("default", "holder");
    let (_, item) = cluster
        .wait_pod(name, Duration::from_secs(30), |item| item.window >= Duration::from_secs(5))
        .await
        .unwrap();
    let held = item.container("hold").unwrap().bytes / f64::from(1 << 20);
    assert!((held / 64.0 - 1.0).abs() < 0.05, "{held} MiB");
    let collector = checks::collector(&cluster, "cgroupfs").await.unwrap();
    assert!(collector.holds, "{}", collector.seen);
    let metrics = checks::agent_metrics(&cluster).await.unwrap();
    assert!(metrics.contains("no-cgroup-iter"), "{metrics}");
}
