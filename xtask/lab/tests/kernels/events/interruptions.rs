//! Time, processors and memory that go and come back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tokio::time::sleep;
use waggle_lab::{
    control::{Act, Work},
    matrix::Row,
    vm::Vm,
};

use super::{
    OF_A_POD, SECOND,
    agent::{AGENT, HOUSE, burner, page, reports, reports_by_walk, start_agent, value},
    layout,
};
use crate::pods::start;

const HOUR_NS: i64 = 3_600_000_000_000;
/// How long a suspended machine sleeps.
const ASLEEP: Duration = Duration::from_secs(10);
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// The wall clock steps an hour ahead and two back: rates do not follow it.
pub async fn clock(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    start(&vm, layout(row)?, &[[Work::Burn, Work::Sleep]]).await?;
    start_agent(&vm).await?;
    reports(&vm, OF_A_POD, SECOND * 20).await?;
    let mut now =
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_nanos())?;
    for step in [HOUR_NS, -2 * HOUR_NS] {
        now += step;
        // The step falls into the interval that is measured.
        let (rate, stepped) = tokio::join!(burner(&vm, "3s"), async {
            sleep(SECOND * 2).await;
            vm.node.act(Act::SetClock(now)).await
        });
        stepped?;
        let rate = rate?;
        ensure!((100..=1050).contains(&rate), "a burner used {rate} m while the clock stepped");
        reports(&vm, OF_A_POD, SECOND * 10).await?;
    }
    Ok(())
}

/// The machine sleeps for [`ASLEEP`], its processors stopped, and wakes by its clock.
pub async fn suspended(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    start(&vm, layout(row)?, &[[Work::Burn, Work::Sleep]]).await?;
    start_agent(&vm).await?;
    reports(&vm, OF_A_POD, SECOND * 20).await?;
    let write = |path: &str, text: String| Act::Write { path: path.to_owned(), text };
    vm.node.act(write("/sys/class/rtc/rtc0/wakealarm", format!("+{}", ASLEEP.as_secs()))).await?;
    // It falls asleep in the middle of the interval that is measured.
    let (rate, slept) = tokio::join!(burner(&vm, "3s"), async {
        sleep(SECOND).await;
        let begun = Instant::now();
        vm.node.act(write("/sys/power/state", "mem".to_owned())).await?;
        Ok::<_, anyhow::Error>(begun.elapsed())
    });
    let (rate, slept) = (rate?, slept?);
    ensure!(slept >= ASLEEP / 2, "it slept for {slept:?} only");
    // Suspended time counts: the burner had less than the one processor that it has awake.
    ensure!((10..=1050).contains(&rate), "a burner used {rate} m over a suspend");
    let metrics = reports_by_walk(&vm, OF_A_POD, SECOND * 20).await?;
    ensure!(value(&metrics, "waggle_agent_walks_failed_total") == Some(0), "walks failed:\n{metrics}");
    Ok(())
}

/// The agent is stopped for 30 s, and goes on as if nothing had happened.
pub async fn stopped(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    start(&vm, layout(row)?, &[[Work::Sleep; 2]]).await?;
    start_agent(&vm).await?;
    reports(&vm, OF_A_POD, SECOND * 20).await?;
    let signal = |signal| Act::Notify { name: AGENT.to_owned(), signal };
    vm.node.act(signal(SIGSTOP)).await?;
    sleep(SECOND * 30).await;
    vm.node.act(signal(SIGCONT)).await?;
    let metrics = reports(&vm, OF_A_POD, SECOND * 10).await?;
    ensure!(value(&metrics, "waggle_agent_walks_failed_total") == Some(0), "walks failed:\n{metrics}");
    Ok(())
}

/// A processor goes and comes back: no time is lost and none invented.
pub async fn processor(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
    let online = |text: &str| Act::Write { path: ONLINE.to_owned(), text: text.to_owned() };
    start(&vm, layout(row)?, &[[Work::Burn, Work::Burn]]).await?;
    start_agent(&vm).await?;
    reports(&vm, OF_A_POD, SECOND * 20).await?;
    for (text, most) in [("0", 1050), ("1", 1050)] {
        // It goes in the middle of the interval that is measured.
        let (rate, changed) = tokio::join!(burner(&vm, "3s"), async {
            sleep(SECOND * 2).await;
            vm.node.act(online(text)).await
        });
        changed?;
        let rate = rate?;
        ensure!((100..=most).contains(&rate), "a burner used {rate} m while a processor changed to {text}");
        reports_by_walk(&vm, OF_A_POD, SECOND * 10).await?;
    }
    Ok(())
}

/// The kernel kills the agent for want of memory; the next one reports the same.
pub async fn out_of_memory(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    start(&vm, layout(row)?, &[[Work::Sleep; 2]]).await?;
    start_agent(&vm).await?;
    reports(&vm, OF_A_POD, SECOND * 20).await?;
    let limit =
        |text: &str| Act::Write { path: format!("/sys/fs/cgroup/{HOUSE}/memory.max"), text: text.to_owned() };
    vm.node.act(limit("100K")).await?;
    let begun = Instant::now();
    while page(&vm, "livez").await?.is_ok() {
        ensure!(begun.elapsed() < SECOND * 20, "the agent survived a limit of 100 KiB");
    }
    let events = vm.node.read(&format!("/sys/fs/cgroup/{HOUSE}/memory.events")).await?;
    ensure!(!events.contains("oom_kill 0"), "it was not the kernel that ended it: {events}");
    vm.node.act(limit("max")).await?;
    start_agent(&vm).await?;
    reports(&vm, OF_A_POD, SECOND * 20).await.map(drop)
}
