//! Pods for the machines, and what runs beside them.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use waggle_lab::{
    cluster::{start_container, start_sandbox},
    control::{Act, Program, Rights, Work},
    layout::{Layout, Qos},
    scenario::{Container, Pod},
    vm::Vm,
};

/// Where programs run that belong to no pod.
const BESIDE: &str = "system.slice/lab.service";
const ABOVE: &str = "system.slice";
const CLASSES: [Qos; 3] = [Qos::Guaranteed, Qos::Burstable, Qos::BestEffort];

/// Starts pods of two containers, one for each pair of works.
pub async fn start(vm: &Vm, layout: Layout, works: &[[Work; 2]]) -> Result<Vec<Pod>> {
    let mut pods = Vec::new();
    for (number, works) in works.iter().enumerate() {
        let containers =
            ["a", "b"].into_iter().zip(works).map(|(name, work)| Container::new(name, *work, None));
        let class = CLASSES.into_iter().cycle().nth(number).unwrap_or(Qos::Burstable);
        let pod = Pod::new("default", &format!("pod-{number}"), class, containers.collect());
        let pod = if number == 9 { pod.into_static() } else { pod };
        start_sandbox(&vm.node, layout, &pod).await?;
        for container in &pod.containers {
            start_container(&vm.node, layout, &pod, container).await?;
        }
        pods.push(pod);
    }
    Ok(pods)
}

/// Waits until a container has this much inactive page cache.
pub async fn page_cache_is_there(vm: &Vm, cgroup: &str, bytes: u64) -> Result<()> {
    let begun = Instant::now();
    loop {
        let stat = vm.node.read(&format!("/sys/fs/cgroup/{cgroup}/memory.stat")).await?;
        if field(&stat, "inactive_file").is_some_and(|inactive| inactive >= bytes) {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_secs(20), "no page cache in {cgroup}: {stat}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The number behind a name in one of the kernel's files.
pub fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Runs a program of the image outside of every pod: exit code and output.
pub async fn run(vm: &Vm, rights: Rights, argv: &[&str], limit: Duration) -> Result<(i32, String)> {
    // Ahead of busy pods, so that readings that belong together are close together.
    let ahead = vec![("cpu.weight".to_owned(), "10000".to_owned())];
    vm.node.act(Act::MakeCgroup { path: ABOVE.to_owned(), limits: ahead }).await?;
    vm.node.act(Act::MakeCgroup { path: BESIDE.to_owned(), limits: Vec::new() }).await?;
    let argv = argv.iter().map(|&argument| argument.to_owned()).collect();
    let program = Program { argv, environment: Vec::new(), cgroup: BESIDE.to_owned(), rights };
    vm.node.run_within(program, limit).await
}

/// Runs a program that ends with one JSON line, and prints its output.
pub async fn report(vm: &Vm, argv: &[&str], limit: Duration) -> Result<(i32, Value)> {
    let (status, output) = run(vm, Rights::Root, argv, limit).await?;
    println!("{output}");
    let line = output.trim_end().lines().last().unwrap_or_default();
    let report =
        serde_json::from_str(line).with_context(|| format!("{argv:?} ended with {status}: {output}"))?;
    Ok((status, report))
}

/// A number of a report.
pub fn number(report: &Value, name: &str) -> Result<u64> {
    match report.get(name).and_then(Value::as_u64) {
        Some(number) => Ok(number),
        None => bail!("no number {name} in {report}"),
    }
}
