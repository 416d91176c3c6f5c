//! What holds on each kernel: the expected collector, idle parity, parity under load, page cache that comes and goes,
//! and identities while pods come and go.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use libtest_mimic::Trial;
use serde_json::Value;
use waggle_lab::{
    architecture::Architecture,
    control::{Act, CHURN_HELD_MIB, DISK, Order, Rights, Work},
    layout::Layout,
    matrix::{ROWS, Row},
    vm::Vm,
};

use crate::{
    machines::{Kind, Machines, ROOTS},
    pods::{self, number, report, run, start},
};

const MINUTE: Duration = Duration::from_mins(1);
const MIB: u64 = 1 << 20;
/// Walks while pods come and go.
const WALKS: &str = "4000";
/// The same in a whole run.
const WALKS_WHOLE: &str = "100000";
/// Snapshots by files: 100,000 were not done after 50 minutes in an emulated machine.
const BY_FILES: &str = "4000";
/// The kernels that each CI run has all tests on.
const THOROUGH: [&str; 1] = ["7"];
/// Minimum read rate of `page_cache` and `loaded`, in MiB/s.
const LEAST_CHURN: f64 = 1024.0;
/// The same by files, without large folios.
const LEAST_CHURN_BY_FILES: f64 = 50.0;
/// Attempts to reach it: a host that is busy with something else emulates more slowly.
const ATTEMPTS: u32 = 3;
/// Containers of `loaded` with page cache that comes and goes.
const CHURNING: usize = 4;
/// Size of the file that pages are read from.
const FILES_MIB: u64 = 384;
/// What the kernel lets a reader of `memory.stat` miss, per processor (`MEMCG_CHARGE_BATCH`, `mm/memcontrol.c`).
const PAGES_PER_PROCESSOR: u64 = 64;

/// The tests of each row, the rows in their order.
pub fn trials(machines: &Arc<Machines>, whole: bool) -> Vec<Trial> {
    let mut trials = Vec::new();
    for row in ROWS.iter().filter(|row| whole || row.architecture == Architecture::Amd64) {
        let kind = Kind { row, options: "" };
        let name = |test: &str| format!("{}::{test}", row.line);
        trials.push(machines.trial(name("check"), kind, check));
        if row.collector == "bpf" {
            trials.push(machines.trial(name("idle"), kind, idle));
        }
        trials.push(machines.trial(name("page_cache"), kind, page_cache));
        if !whole && !THOROUGH.contains(&row.line) {
            continue;
        }
        if row.collector == "bpf" {
            trials.push(machines.trial(name("swap"), kind, swap));
        }
        trials.push(machines.trial(name("loaded"), kind, loaded));
        // The walk is what may go wrong among cgroups that go; files are read by name.
        let walks = match row.collector {
            "bpf" if whole => WALKS_WHOLE,
            "bpf" => WALKS,
            _ => BY_FILES,
        };
        trials.push(
            machines.trial(name("coming_and_going"), kind, move |vm, row| coming_and_going(vm, row, walks)),
        );
    }
    trials
}

fn layout(row: &Row) -> Result<Layout> {
    row.layout.parse().map_err(anyhow::Error::msg)
}

/// `waggle-agent check`, with the rights that the agent's pod has, names the expected collector and refusal.
async fn check(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    start(&vm, layout(row)?, &[[Work::Hold(4), Work::Sleep]]).await?;
    let (status, output) = run(&vm, Rights::Agent, &["/bin/waggle-agent", "check"], MINUTE * 3).await?;
    println!("{output}");
    ensure!(status == 0, "check ended with {status}: {output}");
    let fact = |name: &str| {
        let mut facts = output.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim);
        facts.next().map(str::to_owned)
    };
    ensure!(fact("collector").as_deref() == Some(row.collector), "not {}: {output}", row.collector);
    let refusal = output.lines().find(|line| line.starts_with("not bpf"));
    match row.refusal {
        Some(reason) => {
            ensure!(
                refusal.is_some_and(|line| line.contains(&format!("{reason}:"))),
                "not {reason}: {output}"
            );
        }
        None => ensure!(refusal.is_none(), "a refusal: {output}"),
    }
    ensure!(fact("containers").as_deref() == Some("3"), "not the pod's containers and pause: {output}");
    Ok(())
}

/// 10 pods in which everything sleeps: every cgroup's CPU and memory by the walk equal the files'.
async fn idle(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let layout = layout(row)?;
    let works: Vec<[Work; 2]> = (0..10)
        .map(|number| [Work::Hold(1 + number), if number == 4 { Work::Cache(8) } else { Work::Hold(2) }])
        .collect();
    let pods = start(&vm, layout, &works).await?;
    let reader = pods.get(4).and_then(|pod| Some(pod.container_cgroup(layout, &pod.containers.get(1)?.id)));
    pods::page_cache_is_there(&vm, &reader.context("no reader")?, 7 * MIB).await?;
    let (status, sums) = report(&vm, &["/bin/parity", "--tries", "20"], MINUTE * 2).await?;
    ensure!(status == 0, "the walk differs from the files: {sums}");
    ensure!(sums["collector"] == "bpf", "not the walk: {sums}");
    let compared = number(&sums, "compared")?;
    ensure!(compared >= 40, "only {compared} cgroups were compared: {sums}");
    // Every cgroup has used CPU, all but pause containers hold memory, and the reader has page cache.
    let witnesses = &sums["nonzero"];
    ensure!(number(witnesses, "cpu_usec")? == compared, "CPU was zero somewhere: {sums}");
    let empty: Vec<&str> =
        sums["without_memory"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let pauses: Vec<String> = pods
        .iter()
        .map(|pod| format!("/sys/fs/cgroup/{}", pod.container_cgroup(layout, &pod.sandbox)))
        .collect();
    ensure!(empty.iter().all(|path| pauses.iter().any(|pause| pause == path)), "no memory in {empty:?}");
    ensure!(number(witnesses, "memory_current")? == compared - empty.len() as u64, "{sums}");
    ensure!(number(witnesses, "inactive_file")? >= 3, "no page cache was compared: {sums}");
    Ok(())
}

/// The machine's disk becomes swap, and two containers are pushed onto it: their swap by the walk equals the files'.
async fn swap(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    for program in ["mkswap", "swapon"] {
        let argv = ["/bin/busybox", program, DISK];
        let (status, output) = run(&vm, Rights::Root, &argv, MINUTE).await?;
        ensure!(status == 0, "{program} ended with {status}: {output}");
    }
    let layout = layout(row)?;
    let pods = start(&vm, layout, &[[Work::Hold(24), Work::Hold(24)], [Work::Hold(2), Work::Sleep]]).await?;
    let pod = pods.first().context("no pod")?;
    let pushed: Vec<String> = pod
        .containers
        .iter()
        .map(|container| format!("/sys/fs/cgroup/{}", pod.container_cgroup(layout, &container.id)))
        .collect();
    for cgroup in &pushed {
        // What is above the limit is swapped out before the write returns.
        let (path, text) = (format!("{cgroup}/memory.high"), (8 * MIB).to_string());
        vm.node.act(Act::Write { path, text }).await?;
    }
    let (status, sums) = report(&vm, &["/bin/parity", "--tries", "20"], MINUTE * 2).await?;
    for cgroup in &pushed {
        let swapped: u64 = vm.node.read(&format!("{cgroup}/memory.swap.current")).await?.trim().parse()?;
        ensure!(swapped >= 8 * MIB, "only {swapped} bytes of {cgroup} are on the disk");
    }
    ensure!(status == 0, "the walk differs from the files: {sums}");
    // The containers, their pod, its class where it has one, and kubepods.
    let witnesses = number(&sums["nonzero"], "swap_current")?;
    ensure!(witnesses >= 4, "swap was zero in all but {witnesses} cgroups: {sums}");
    // Later tests have none, as it was.
    for root in ROOTS {
        vm.node.act(Act::EndCgroup(root.to_owned())).await?;
    }
    let (status, output) = run(&vm, Rights::Root, &["/bin/busybox", "swapoff", DISK], MINUTE).await?;
    ensure!(status == 0, "swapoff ended with {status}: {output}");
    Ok(())
}

/// Two containers read the disk into the page cache and drop it, as fast as they can: the working set follows the files
/// and is never 0.
async fn page_cache(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let churn = |mib, from_mib, order| Work::Churn { mib, from_mib, order };
    // A third of what the sequential reader reads: two samples can find it at any two places.
    let (works, least) = if row.collector == "bpf" {
        let works = [churn(192, 0, Order::Sequential), churn(32, 200, Order::Scattered)];
        (works, 64 * MIB)
    } else {
        ([churn(96, 0, Order::Sequential), Work::Sleep], 32 * MIB)
    };
    mount_files(&vm, row).await?;
    let layout = layout(row)?;
    let pods = start(&vm, layout, &[works, [Work::Hold(4), Work::Sleep]]).await?;
    let [pod, ..] = pods.as_slice() else { bail!("no pod") };
    let [sequential, ..] = pod.containers.as_slice() else { bail!("no container") };
    outweigh(&vm, &pod.container_cgroup(layout, &sequential.id)).await?;
    let sums = follow_churn(&vm, row, "20", 5).await?;
    let moved = number(&sums, "moved_bytes")?;
    ensure!(moved >= least, "page cache moved by {moved} bytes only: {sums}");
    Ok(())
}

/// 20 busy containers, 4 of them with page cache that comes and goes.
async fn loaded(vm: Arc<Vm>, row: &'static Row) -> Result<()> {
    let churn = |number| Work::Churn { mib: 72, from_mib: 90 * number, order: Order::Sequential };
    let works: Vec<[Work; 2]> = (0..10)
        .map(|number| match number {
            0..CHURNING => [Work::Burn, churn(number as u64)],
            _ => [Work::Burn, Work::Burn],
        })
        .collect();
    mount_files(&vm, row).await?;
    let layout = layout(row)?;
    for pod in start(&vm, layout, &works).await?.iter().take(CHURNING) {
        let churning = pod.containers.get(1).context("no second container")?;
        for cgroup in [pod.cgroup(layout), pod.container_cgroup(layout, &churning.id)] {
            outweigh(&vm, &cgroup).await?;
        }
    }
    let sums = follow_churn(&vm, row, "11", 20).await?;
    ensure!(number(&sums, "busy")? >= 20, "fewer than 20 cgroups used CPU: {sums}");
    ensure!(number(&sums, "moved_bytes")? >= 8 * MIB, "no page cache moved: {sums}");
    Ok(())
}

/// Gives a cgroup ten times the processor time of its neighbours.
async fn outweigh(vm: &Vm, cgroup: &str) -> Result<()> {
    let (path, text) = (format!("/sys/fs/cgroup/{cgroup}/cpu.weight"), "1000".to_owned());
    vm.node.act(Act::Write { path, text }).await.map(drop)
}

/// A file with large folios for [`Work::Churn`], which makes no difference to the files' reader.
async fn mount_files(vm: &Vm, row: &Row) -> Result<()> {
    if row.collector == "bpf" {
        vm.node.act(Act::MountFiles { mib: FILES_MIB }).await?;
    }
    Ok(())
}

/// Follows the pods, and again where the page cache moved too slowly.
async fn follow_churn(vm: &Vm, row: &Row, samples: &str, cgroups: u64) -> Result<Value> {
    let least = if row.collector == "bpf" { LEAST_CHURN } else { LEAST_CHURN_BY_FILES };
    let mut rates = Vec::new();
    for _ in 0..ATTEMPTS {
        let sums = follow(vm, row, samples, cgroups).await?;
        let rate = sums["read_mib_per_second"].as_f64().context("no read_mib_per_second")?;
        println!("{rate:.0} MiB/s came into the page cache, and were dropped again");
        if rate >= least {
            return Ok(sums);
        }
        rates.push(rate);
    }
    bail!("page cache moved too slowly, {least} MiB/s are wanted: {rates:?}")
}

/// Follows the pods and judges what must hold in any case.
async fn follow(vm: &Vm, row: &Row, samples: &str, cgroups: u64) -> Result<Value> {
    let kubepods = format!("/sys/fs/cgroup/{}", layout(row)?.kubepods());
    let argv = ["/bin/follow", "--kubepods", &kubepods, "--samples", samples];
    let (status, sums) = report(vm, &argv, MINUTE * 3).await?;
    ensure!(status == 0, "follow ended with {status}: {sums}");
    ensure!(sums["collector"] == row.collector, "not {}: {sums}", row.collector);
    if row.collector == "bpf" {
        // Or files would have been held against files.
        let fields: Vec<&str> =
            sums["fields"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for field in ["cpu", "memory-usage", "inactive-file"] {
            ensure!(fields.contains(&field), "{field} is not the walk's: {sums}");
        }
        ensure!(sums["refusals"].as_array().is_some_and(Vec::is_empty), "a field was refused: {sums}");
    }
    ensure!(number(&sums, "processors")? == u64::from(row.processors), "other processors: {sums}");
    let compared = number(&sums, "compared")?;
    ensure!(compared >= cgroups * number(&sums, "samples")?, "only {compared} values were compared: {sums}");
    ensure!(number(&sums, "missing")? == 0, "cgroups are missing: {sums}");
    ensure!(number(&sums, "zero_working_sets")? == 0, "a working set of 0 while memory is held: {sums}");
    let allowed = PAGES_PER_PROCESSOR * u64::from(row.processors);
    let worst = number(&sums, "worst_working_set_pages")?;
    ensure!(worst <= allowed, "a working set is wrong by {worst} pages, {allowed} are allowed: {sums}");
    // Not to the microsecond: a frozen task may be charged up to a tick after the walk (docs/status.md). `idle` asserts
    // equality.
    let percent = sums["worst_cpu_percent"].as_f64().context("no worst_cpu_percent")?;
    ensure!(percent <= 0.5, "CPU over all samples differs by {percent} %: {sums}");
    ensure!(number(&sums, "enclosed")? >= compared / 2, "few values were enclosed: {sums}");
    ensure!(number(&sums, "not_enclosed")? == 0, "values outside of two readings of the files: {sums}");
    println!("{CHURN_HELD_MIB} MiB held at least; worst working set: {worst} pages, CPU: {percent:.4} %");
    Ok(sums)
}

/// Snapshots as fast as possible while pods come and go.
async fn coming_and_going(vm: Arc<Vm>, row: &'static Row, walks: &'static str) -> Result<()> {
    let argv = ["/bin/coming_and_going", "--walks", walks];
    let (status, sums) = report(&vm, &argv, MINUTE * 120).await?;
    ensure!(status == 0, "it ended with {status}: {sums}");
    ensure!(sums["collector"] == row.collector, "not {}: {sums}", row.collector);
    ensure!(
        sums["refusals"].as_array().is_some_and(|all| all.len() == usize::from(row.refusal.is_some())),
        "{sums}"
    );
    for (name, what) in
        [("failed", "snapshots failed"), ("wrong", "wrong identities"), ("negative", "counters fell")]
    {
        ensure!(number(&sums, name)? == 0, "{what}: {sums}");
    }
    ensure!(number(&sums, "identified")? >= 200, "few cgroups came and went: {sums}");
    ensure!(number(&sums, "advanced")? >= 100, "no counter moved: {sums}");
    Ok(())
}
