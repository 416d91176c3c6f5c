//! What is served for pods with known use, in both layouts: the demo's checks, restart, late start, static pod.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::time::Duration;

use waggle_lab::{
    checks,
    cluster::{Cluster, Options},
    demo,
    layout::Layout,
    paths::Paths,
};

async fn values(kernel: &str, layout: Layout) {
    let paths = Paths::from_environment().unwrap();
    let options = Options {
        label: format!("values-{kernel}"),
        kernel: kernel.to_owned(),
        layout,
        max_age: "60s".to_owned(),
    };
    let cluster = Cluster::start(&paths, &options, |line| println!("{line}")).await.unwrap();
    let mut pods = demo::start_pods(&cluster, |line| println!("{line}")).await.unwrap();
    demo::wait_full(&cluster, &pods).await.unwrap();
    let found = checks::all(&cluster, &pods).await.unwrap();
    assert!(found.len() >= 9);
    for check in &found {
        println!("{check:?}");
        assert!(check.holds, "{check:?}");
    }

    // Under their right names, with what they hold: the late pod, and the container after its restart.
    for (name, container, mib) in [("late", "hold", 24.0), ("restarter", "hold", 16.0)] {
        let item = cluster.central.pod("default", name).await.unwrap().unwrap();
        let held = item.container(container).unwrap().bytes / f64::from(1 << 20);
        assert!((held / mib - 1.0).abs() < 0.08, "{name} holds {held} MiB, not {mib}");
    }

    // Another restart: the window is that of the new container, and what is served is never partial.
    let pod = pods.iter_mut().find(|pod| pod.name == "restarter").unwrap();
    cluster.restart_container(pod).await.unwrap();
    let (_, item) = cluster
        .wait_pod(("default", "restarter"), Duration::from_secs(10), |item| {
            // In its first snapshot it may still be writing what it holds.
            (Duration::from_secs(2)..Duration::from_secs(8)).contains(&item.window)
        })
        .await
        .unwrap();
    let held = item.container("hold").unwrap().bytes / f64::from(1 << 20);
    assert!((held / 16.0 - 1.0).abs() < 0.08, "after its restart it holds {held} MiB");

    // A pod that is gone is not served any more.
    let late = pods.iter().find(|pod| pod.name == "late").unwrap();
    cluster.remove_pod(late).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.central.pod("default", "late").await.unwrap(), None);
}

#[tokio::test]
#[ignore = "needs a virtual machine: cargo xtask test"]
async fn served_values_are_true_on_6_12_systemd_layout() {
    values("6.12", Layout::Systemd).await;
}

#[tokio::test]
#[ignore = "needs a virtual machine: cargo xtask test"]
async fn served_values_are_true_on_6_1_cgroupfs_layout() {
    values("6.1", Layout::Cgroupfs).await;
}
