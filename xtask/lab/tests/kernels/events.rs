//! What happens to a node while its agent runs: seen in the agent's own metrics, and for rates in what is served.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use tokio::time::sleep;
use waggle_lab::{
    cluster::{Cluster, Options},
    control::{Act, Program, Rights, Work},
    layout::{Layout, Qos},
    matrix::{ROWS, Row},
    paths::Paths,
    scenario::{Container, Pod},
    vm::Vm,
};

use crate::{
    machines::{Kind, Machines},
    pods::{run, start},
};

/// The kernel of these tests.
const LINE: &str = "6.12";
const AGENT: &str = "waggle-agent";
const HOUSE: &str = "system.slice/agent.service";
const SECOND: Duration = Duration::from_secs(1);
const HOUR_NS: i64 = 3_600_000_000_000;
/// Pods made at once, with one container each.
const AT_ONCE: u32 = 500;
const SIGKILL: i32 = 9;
const SIGCONT: i32 = 18;
const SIGSTOP: i32 = 19;

/// One test for each event.
pub fn trials(machines: &Arc<Machines>) -> Vec<Trial> {
    let Some(row) = ROWS.iter().find(|row| row.line == LINE) else { return Vec::new() };
    let kind = Kind { row, options: "" };
    vec![
        machines.trial("events::kubepods_late_gone_and_back".to_owned(), kind, kubepods),
        machines.trial_alone("events::restart_within_an_interval".to_owned(), restart),
        machines.trial("events::a_thousand_cgroups_at_once".to_owned(), kind, at_once),
        machines.trial_alone("events::a_pod_replaced_under_its_name".to_owned(), replaced),
        machines.trial("events::the_clock_steps_an_hour".to_owned(), kind, clock),
        machines.trial("events::stopped_and_continued".to_owned(), kind, stopped),
        machines.trial("events::a_processor_goes".to_owned(), kind, processor),
        machines.trial("events::out_of_memory".to_owned(), kind, out_of_memory),
    ]
}

fn layout(row: &Row) -> Result<Layout> {
    row.layout.parse().map_err(anyhow::Error::msg)
}

/// Starts the agent without an aggregator that could be reached.
async fn agent(vm: &Vm) -> Result<()> {
    vm.node.act(Act::MakeCgroup { path: HOUSE.to_owned(), limits: Vec::new() }).await?;
    let argv = [
        "/bin/waggle-agent",
        "run",
        "--aggregator",
        "127.0.0.1:1",
        "--aggregator-ca",
        "/etc/none",
        "--token-file",
        "/etc/none",
    ];
    let argv = argv.map(str::to_owned).to_vec();
    let program = Program { argv, environment: Vec::new(), cgroup: HOUSE.to_owned(), rights: Rights::Agent };
    vm.node.act(Act::Spawn { name: AGENT.to_owned(), program }).await.map(drop)
}

/// One page of the agent's port; what came instead while it does not answer. By nc, because the wget of Debian's static
/// busybox crashes; its input stays open for a second, because the agent takes an end for a caller who left.
async fn page(vm: &Vm, page: &str) -> Result<std::result::Result<String, String>> {
    let request = format!(
        "{{ printf 'GET /{page} HTTP/1.0\\r\\nHost: agent\\r\\n\\r\\n'; /bin/busybox sleep 1; }} | \
         /bin/busybox nc -w 5 127.0.0.1 10255"
    );
    let (_, text) = run(vm, Rights::Root, &["/bin/busybox", "sh", "-c", &request], SECOND * 20).await?;
    let status = text.split_whitespace().nth(1).map(str::to_owned);
    Ok(if status.as_deref() == Some("200") { Ok(text) } else { Err(text) })
}

fn value(metrics: &str, name: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Waits until the agent reports this many cgroups and is alive.
async fn reports(vm: &Vm, cgroups: u64, limit: Duration) -> Result<String> {
    let begun = Instant::now();
    let mut last = "nothing".to_owned();
    while begun.elapsed() < limit {
        last = match page(vm, "metrics").await? {
            Ok(metrics) => {
                let seen = value(&metrics, "waggle_agent_cgroups");
                if seen == Some(cgroups) && page(vm, "livez").await?.is_ok() {
                    return Ok(metrics);
                }
                format!("{seen:?}")
            }
            Err(text) => text,
        };
        sleep(SECOND / 4).await;
    }
    let log = vm.node.read(&format!("/run/log/{AGENT}")).await.unwrap_or_default();
    anyhow::bail!("the agent reports {last} cgroups instead of {cgroups} after {limit:?}:\n{log}")
}

/// Pod and container cgroups of one pod of [`start`], its pause container included.
const OF_A_POD: u64 = 4;

/// The agent runs before there is a kubepods, and when it goes and comes back.
async fn kubepods(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let layout = layout(row)?;
    agent(&vm).await?;
    sleep(SECOND * 3).await;
    start(&vm, layout, &[[Work::Sleep; 2]; 2]).await?;
    reports(&vm, 2 * OF_A_POD, SECOND * 20).await?;
    for pods in [1, 3] {
        vm.node.act(Act::EndCgroup(layout.kubepods().to_owned())).await?;
        sleep(SECOND * 3).await;
        start(&vm, layout, &vec![[Work::Sleep; 2]; pods]).await?;
        let metrics = reports(&vm, OF_A_POD * pods as u64, SECOND * 20).await?;
        ensure!(
            metrics.contains("waggle_agent_collector{name=\"bpf\"} 1"),
            "not the walk any more:\n{metrics}"
        );
    }
    Ok(())
}

/// Makes the cgroups of this many pods of one container each, with no process in them.
async fn empty_pods(vm: &Vm, layout: Layout, count: u32) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for number in 0..count {
        let containers = vec![Container::new("a", Work::Sleep, None)];
        let pod = Pod::new("default", &format!("mass-{number}"), Qos::BestEffort, containers);
        for container in &pod.containers {
            let path = pod.container_cgroup(layout, &container.id);
            vm.node.act(Act::MakeCgroup { path, limits: Vec::new() }).await?;
        }
        pods.push(pod);
    }
    Ok(pods)
}

/// 500 pods come and go between two snapshots.
async fn at_once(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let layout = layout(row)?;
    start(&vm, layout, &[[Work::Sleep; 2]]).await?;
    agent(&vm).await?;
    reports(&vm, OF_A_POD, SECOND * 20).await?;
    let pods = empty_pods(&vm, layout, AT_ONCE).await?;
    reports(&vm, OF_A_POD + 2 * u64::from(AT_ONCE), SECOND * 20).await?;
    for pod in &pods {
        vm.node.act(Act::RemoveCgroup(pod.cgroup(layout))).await?;
    }
    let metrics = reports(&vm, OF_A_POD, SECOND * 20).await?;
    ensure!(metrics.contains("waggle_agent_collector{name=\"bpf\"} 1"), "not the walk any more:\n{metrics}");
    Ok(())
}

/// The wall clock steps an hour ahead and two back: rates do not follow it.
async fn clock(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    start(&vm, layout(row)?, &[[Work::Burn, Work::Sleep]]).await?;
    agent(&vm).await?;
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

/// The CPU rate of the busiest container over a time, in millicores.
async fn burner(vm: &Vm, over: &str) -> Result<u64> {
    let argv = ["/bin/waggle-agent", "snapshot", "-o", "json", "--over", over];
    let (status, output) = run(vm, Rights::Agent, &argv, SECOND * 60).await?;
    ensure!(status == 0, "snapshot ended with {status}: {output}");
    let start = output.find('{').context("no JSON")?;
    let report: Value = serde_json::from_str(output.get(start..).unwrap_or_default()).context("not JSON")?;
    let rates = report["cgroups"].as_array().context("no cgroups")?.iter();
    let rates = rates.filter(|entry| entry["container_id"].is_string());
    let rate = rates.filter_map(|entry| entry["cpu_nanocores"].as_u64()).max();
    Ok(rate.context("no container has a rate")? / 1_000_000)
}

/// The agent is stopped for 30 s, and goes on as if nothing had happened.
async fn stopped(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    start(&vm, layout(row)?, &[[Work::Sleep; 2]]).await?;
    agent(&vm).await?;
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
async fn processor(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    const ONLINE: &str = "/sys/devices/system/cpu/cpu1/online";
    let online = |text: &str| Act::Write { path: ONLINE.to_owned(), text: text.to_owned() };
    start(&vm, layout(row)?, &[[Work::Burn, Work::Burn]]).await?;
    agent(&vm).await?;
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
        let metrics = reports(&vm, OF_A_POD, SECOND * 10).await?;
        ensure!(
            metrics.contains("waggle_agent_collector{name=\"bpf\"} 1"),
            "not the walk any more:\n{metrics}"
        );
    }
    Ok(())
}

/// The kernel kills the agent for want of memory; the next one reports the same.
async fn out_of_memory(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    start(&vm, layout(row)?, &[[Work::Sleep; 2]]).await?;
    agent(&vm).await?;
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
    agent(&vm).await?;
    reports(&vm, OF_A_POD, SECOND * 20).await.map(drop)
}

/// A burner restarts again and again while files are read: never more is served than one core.
async fn restart(paths: Paths) -> Result<()> {
    let options = Options {
        label: "kernels-restart".to_owned(),
        kernel: LINE.to_owned(),
        layout: Layout::Systemd,
        max_age: "60s".to_owned(),
    };
    let cluster = Cluster::start(&paths, &options, |_| {}).await?;
    cluster.node().signal(waggle_lab::cluster::AGENT, SIGKILL).await?;
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
async fn replaced(paths: Paths) -> Result<()> {
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
