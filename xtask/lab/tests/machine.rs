//! The machine itself: a node boots on each kernel, and its workloads use what they are said to use, by the kernel's
//! own files. What the other tests take for granted.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use waggle_lab::{
    cluster::{start_container, start_sandbox},
    layout::Layout,
    paths::Paths,
    scenario::{self, HOLDER_MIB},
    vm::{Boot, Vm},
};

fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// Spans in which a burner may reach its limit.
const SPANS: u32 = 3;

#[tokio::test]
#[ignore = "needs a virtual machine: cargo xtask test"]
async fn workloads_use_what_they_say() {
    let paths = Paths::from_environment().unwrap();
    for (kernel, layout) in [("5.10", Layout::Cgroupfs), ("6.1", Layout::Cgroupfs), ("6.12", Layout::Systemd)]
    {
        let boot = Boot { label: format!("machine-{kernel}"), kernel: kernel.into(), ..Boot::default() };
        let vm = Vm::boot(&paths, boot).await.unwrap();
        assert!(vm.kernel.starts_with(&format!("{kernel}.")), "{}", vm.kernel);
        let pods = scenario::first_pods();
        for pod in &pods {
            start_sandbox(&vm.node, layout, pod).await.unwrap();
            for container in &pod.containers {
                start_container(&vm.node, layout, pod, container).await.unwrap();
            }
        }
        let file = |pod: &str, name: &str| {
            let pod = pods.iter().find(|one| one.name == pod).unwrap();
            format!("/sys/fs/cgroup/{}/{name}", pod.container_cgroup(layout, &pod.containers[0].id))
        };
        let cpu = file("burner", "cpu.stat");
        let mut most = 0.0_f64;
        for _ in 0..SPANS {
            let before = vm.node.totals().await.unwrap();
            let first = field(&vm.node.read(&cpu).await.unwrap(), "usage_usec ");
            tokio::time::sleep(Duration::from_secs(4)).await;
            let after = vm.node.totals().await.unwrap();
            let used = field(&vm.node.read(&cpu).await.unwrap(), "usage_usec ") - first;
            let span = after.last().unwrap().real_ns - before.last().unwrap().real_ns;
            let cores = used as f64 * 1e3 / span as f64;
            assert!(cores < 0.2625, "{kernel}: the 250 m burner used {cores}");
            most = most.max(cores);
            if most >= 0.18 {
                break;
            }
        }
        // A span loses a period of the limit each time that the host delays the machine's timers.
        assert!(most >= 0.18, "{kernel}: the 250 m burner used at most {most} in {SPANS} spans");

        let held = vm.node.read(&file("holder", "memory.current")).await.unwrap();
        let held = held.trim().parse::<f64>().unwrap() / f64::from(1 << 20);
        assert!((held / HOLDER_MIB as f64 - 1.0).abs() < 0.05, "{kernel}: the holder holds {held} MiB");
        let cached =
            field(&vm.node.read(&file("reader", "memory.stat")).await.unwrap(), "inactive_file ") >> 20;
        assert!((30..=34).contains(&cached), "{kernel}: {cached} MiB of inactive page cache");
        println!("{}: burner {most:.4} cores, holder {held:.2} MiB, page cache {cached} MiB", vm.kernel);
    }
}
