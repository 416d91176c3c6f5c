//! What a stand-in API server and an aggregator serve while pods are replaced.

use std::time::Instant;

use anyhow::{Result, ensure};
use tokio::time::sleep;
use waggle_lab::{
    cluster::{AGENT, Cluster, Options},
    control::Work,
    layout::{Layout, Qos},
    paths::Paths,
    scenario::{Container, Pod},
};

use super::{LINE, SECOND};

const SIGKILL: i32 = 9;

/// A burner restarts again and again while files are read: never more is served than one core.
pub async fn restart(paths: Paths) -> Result<()> {
    let options = Options {
        label: "kernels-restart".to_owned(),
        kernel: LINE.to_owned(),
        layout: Layout::Systemd,
        max_age: "60s".to_owned(),
    };
    let cluster = Cluster::start(&paths, &options, |_| {}).await?;
    cluster.node().signal(AGENT, SIGKILL).await?;
    cluster.start_agent_with(&["--collector", "cgroupfs"]).await?;
    let mut pod =
        Pod::new("default", "burner", Qos::Burstable, vec![Container::new("burn", Work::Burn, None)]);
    cluster.start_pod(&pod).await?;
    let name = ("default", "burner");
    cluster.wait_pod(name, SECOND * 30, |item| item.window >= SECOND * 3).await?;
    let (mut most, mut looks) = (0.0_f64, 0);
    for _ in 0..8 {
        cluster.restart_container(&mut pod).await?;
        let begun = Instant::now();
        while begun.elapsed() < SECOND * 4 {
            if let Some(item) = cluster.central.pod("default", "burner").await? {
                most = most.max(item.container("burn")?.millicores);
                looks += 1;
            }
            sleep(SECOND / 10).await;
        }
    }
    println!("at most {most:.0} m in {looks} looks");
    ensure!(looks >= 20, "the burner was served {looks} times only");
    // The machine's one processor cannot give more; the clock of a window is good to 5 %.
    ensure!(most <= 1050.0, "{most:.0} m were served of a burner that has one processor");
    ensure!(most >= 100.0, "the burner was never seen burning: {most:.0} m");
    Ok(())
}

/// A `StatefulSet`'s pod is deleted and made again under its name: what is served is the new one's, never the old one's.
pub async fn replaced(paths: Paths) -> Result<()> {
    const NAME: &str = "web-0";
    let options = Options {
        label: "kernels-replaced".to_owned(),
        kernel: LINE.to_owned(),
        layout: Layout::Systemd,
        max_age: "60s".to_owned(),
    };
    let cluster = Cluster::start(&paths, &options, |_| {}).await?;
    let pod =
        |mib| Pod::new("default", NAME, Qos::Burstable, vec![Container::new("hold", Work::Hold(mib), None)]);
    let old = pod(96);
    cluster.start_pod(&old).await?;
    cluster.wait_pod(("default", NAME), SECOND * 30, |item| item.window >= SECOND * 3).await?;
    cluster.remove_pod(&old).await?;
    let new = pod(8);
    cluster.start_pod(&new).await?;
    // The API server has answered with the new UID; the aggregator's watch may be a moment behind.
    sleep(SECOND / 2).await;
    let (begun, mut looks) = (Instant::now(), 0);
    while begun.elapsed() < SECOND * 15 {
        if let Some(item) = cluster.central.pod("default", NAME).await? {
            let held = item.container("hold")?.bytes / f64::from(1 << 20);
            ensure!(held < 16.0, "{held} MiB are served of a pod that holds 8: its predecessor held 96");
            looks += 1;
        }
        sleep(SECOND / 10).await;
    }
    ensure!(looks >= 50, "the new pod was served {looks} times only");
    Ok(())
}
