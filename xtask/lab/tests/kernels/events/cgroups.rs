//! Cgroups that come and go in numbers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::time::sleep;
use waggle_lab::{
    control::{Act, Rights, Work},
    matrix::Row,
    vm::Vm,
};

use super::{
    OF_A_POD, SECOND,
    agent::{reports, reports_by_walk, start_agent},
    layout,
};
use crate::pods::{run, start};

/// Pods made at once, with one container each.
const AT_ONCE: u32 = 500;
/// More cgroups, two for each pod, than the 8,192 slots that an agent on a small node has.
const MORE_THAN_SLOTS: u32 = 4_200;

/// The agent runs before there is a kubepods, and when it goes and comes back.
pub async fn kubepods(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let layout = layout(row)?;
    start_agent(&vm).await?;
    sleep(SECOND * 3).await;
    start(&vm, layout, &[[Work::Sleep; 2]; 2]).await?;
    reports(&vm, 2 * OF_A_POD, SECOND * 20).await?;
    for pods in [1, 3] {
        vm.node.act(Act::EndCgroup(layout.kubepods().to_owned())).await?;
        sleep(SECOND * 3).await;
        start(&vm, layout, &vec![[Work::Sleep; 2]; pods]).await?;
        reports_by_walk(&vm, OF_A_POD * pods as u64, SECOND * 20).await?;
    }
    Ok(())
}

/// What [`make_pods`] makes is below the class that this creates.
const PODS: &str = "/sys/fs/cgroup/kubepods.slice/kubepods-besteffort.slice";

/// Makes the cgroups of this many pods of one container each, with no process in them, faster than one snapshot follows another: the shell
/// prints the paths and one process makes them.
async fn make_pods(vm: &Vm, count: u32) -> Result<()> {
    let script = format!(
        "i=0; while [ $i -lt {count} ]; do i=$((i+1)); \
         printf '{PODS}/kubepods-besteffort-pod%08x_0000_0000_0000_000000000000.slice/cri-containerd-%064x.scope\\n' \
         $i $i; done | /bin/busybox xargs /bin/busybox mkdir -p"
    );
    shell(vm, &script).await
}

/// Removes them.
async fn remove_pods(vm: &Vm) -> Result<()> {
    let script = format!(
        "cd {PODS} && echo *_0000_0000_0000_000000000000.slice/*.scope | /bin/busybox xargs /bin/busybox rmdir -p"
    );
    shell(vm, &script).await
}

async fn shell(vm: &Vm, script: &str) -> Result<()> {
    let (status, output) = run(vm, Rights::Root, &["/bin/busybox", "sh", "-c", script], SECOND * 200).await?;
    ensure!(status == 0, "a script ended with {status}: {output}");
    Ok(())
}

/// A machine with one pod of each class, among them the class that [`make_pods`] fills, and the agent.
async fn prepare(vm: &Vm, row: &'static Row) -> Result<u64> {
    start(vm, layout(row)?, &[[Work::Sleep; 2]; 3]).await?;
    start_agent(vm).await?;
    reports_by_walk(vm, 3 * OF_A_POD, SECOND * 20).await?;
    Ok(3 * OF_A_POD)
}

/// 500 pods come and go between two snapshots.
pub async fn at_once(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let before = prepare(&vm, row).await?;
    make_pods(&vm, AT_ONCE).await?;
    reports_by_walk(&vm, before + 2 * u64::from(AT_ONCE), SECOND * 20).await?;
    remove_pods(&vm).await?;
    reports_by_walk(&vm, before, SECOND * 20).await.map(drop)
}

/// A node outgrows the array of its agent: files are read, the agent says why, and walks again once there are fewer.
pub async fn more_than_slots(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let before = prepare(&vm, row).await?;
    make_pods(&vm, MORE_THAN_SLOTS).await?;
    let metrics = reports(&vm, before + 2 * u64::from(MORE_THAN_SLOTS), SECOND * 120).await?;
    for line in [
        "waggle_agent_collector{name=\"cgroupfs\"} 1",
        "waggle_agent_collector_refusals{reason=\"truncated\"} 1",
    ] {
        ensure!(metrics.contains(line), "no {line} in:\n{metrics}");
    }
    remove_pods(&vm).await?;
    // The walk is tried again after a while.
    let begun = Instant::now();
    loop {
        let metrics = reports(&vm, before, SECOND * 60).await?;
        if metrics.contains("waggle_agent_collector{name=\"bpf\"} 1") {
            return Ok(());
        }
        ensure!(begun.elapsed() < WALKS_AGAIN, "files are still read:\n{metrics}");
        sleep(SECOND).await;
    }
}

/// The third wait of the agent between two attempts is 40 s.
const WALKS_AGAIN: Duration = Duration::from_secs(100);
