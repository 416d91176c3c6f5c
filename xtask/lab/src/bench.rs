//! What collecting costs: the three ways on each kernel in a virtual machine, where ratios can be compared, and the
//! agent's share of a processor natively, because emulation inflates it.

use std::{fs, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    architecture::Architecture,
    central::Central,
    cluster::agent_pod,
    control::{Act, Program, Rights, Work},
    layout::Qos,
    matrix::{ROWS, Row},
    paths::Paths,
    scenario::{self, Container, Pod},
    vm::{Boot, Vm},
};

const EXAMPLE: &str = "examples/collector_bench";
/// Pods that `collector_bench` makes, of four cgroups each: 100, 400 and 2,000 cgroups.
const SIZES: [usize; 3] = [25, PODS, 500];
/// Pods of the agent that is measured over a time.
const PODS: usize = 100;
const CONTAINERS: usize = 3;
const STEADY: &str = "30s";
/// The kernel on which the agent's kernel memory is measured, and memory's share of a snapshot.
const LINE: &str = "6.12";
const KEPT: (&str, f64) = ("≥ 8", 8.0);
const OPEN: (&str, f64) = ("≥ 20", 20.0);

/// Runs all benchmarks and prints the results with their targets. Returns whether all targets were met.
pub async fn run(paths: &Paths) -> Result<bool> {
    let mut tables = Vec::new();
    let mut dearer = f64::NAN;
    let mut charged = Vec::new();
    for row in ROWS.iter().filter(|row| row.collector == "bpf" && row.architecture == Architecture::Amd64) {
        println!(
            "\nbench: a virtual machine with kernel {} (emulated: only the ratios say something)",
            row.line
        );
        let vm = Machine::boot(paths, row).await?;
        let mut reports = Vec::new();
        for pods in SIZES {
            reports.push(vm.bench(rounds(pods), &["--pods", &pods.to_string()]).await?);
        }
        if row.line == LINE {
            println!("\nbench: the same 400 cgroups without the memory controller");
            dearer = cpu_of(reports.get(1).unwrap_or(&Value::Null))
                / cpu_of(&vm.bench(rounds(PODS), &["--without-memory"]).await?);
            for collector in ["auto", "cgroupfs"] {
                println!("\nbench: kernel memory of an agent over 400 cgroups, --collector {collector}");
                charged.push((collector, vm.charged(collector).await?));
            }
        }
        tables.push((row.line, reports));
    }
    println!(
        "\nbench: waggle-agent run, its stream live, over 400 cgroups on this machine's own kernel, {STEADY}"
    );
    let native = natively(paths).await?;
    let mut met = true;
    for (line, reports) in &tables {
        met &= summary(line, reports);
    }
    println!("\n{:<66} {:>10} {:>10}", "", "measured", "target");
    fact("eBPF snapshot with the memory controller against without, times", dearer);
    for (collector, report) in &charged {
        let kib = |name: &str| report["steady"]["charged"][name].as_f64().unwrap_or(f64::NAN) / 1024.0;
        fact(&format!("kernel memory charged to the agent, --collector {collector}, KiB"), kib("kernel"));
        fact("  and anonymous memory, KiB", kib("anon"));
    }
    let Some(native) = native else { return Ok(false) };
    let steady = &native["steady"];
    let share = steady["share_of_a_core"].as_f64().unwrap_or(f64::NAN) * 100.0;
    let resident = steady["rss_kib"].as_f64().unwrap_or(f64::NAN) / 1024.0;
    met &= line("agent's share of a core at one snapshot a second, %", share, "< 0.1", share < 0.1);
    met &= line("agent resident, MiB", resident, "< 16", resident < 16.0);
    if !memory_was_read(&native) {
        // The machine has memory on cgroup v1. What the memory controller would add to each second's snapshot, by the
        // ratio above; the rest of the agent does the same work with it.
        let snapshot = cpu_of(&native) / 1e9 * 100.0;
        let with_memory = share + snapshot * (dearer - 1.0).max(0.0);
        met &=
            line("the same if memory were read too (estimate), %", with_memory, "< 0.1", with_memory < 0.1);
    }
    Ok(met)
}

/// Snapshots of each way: an emulated machine takes over a second to read the files of 2,000 cgroups once.
fn rounds(pods: usize) -> usize {
    (40 * PODS / pods).clamp(10, 40)
}

fn cpu_of(report: &Value) -> f64 {
    report["bpf"]["cpu_median_ns"].as_f64().unwrap_or(f64::NAN)
}

/// One kernel's table, by size; whether its ratios are met.
fn summary(kernel: &str, reports: &[Value]) -> bool {
    println!(
        "\nkernel {kernel}: medians per snapshot, in µs\n{:>8} {:>7} {:>7} {:>9} {:>7} {:>9} {:>9} {:>9} {:>7} {:>7}",
        "cgroups", "flush", "walk", "identify", "encode", "snapshot", "kept", "open", "kept×", "open×"
    );
    let mut met = true;
    let mut points = Vec::new();
    for report in reports {
        let us = |value: &Value| value.as_f64().unwrap_or(f64::NAN) / 1000.0;
        let phase = |name: &str| us(&report["phases"][name]);
        let wall = |method: &str| us(&report[method]["wall_median_ns"]);
        let ratio = |name: &str| report["ratios"][name].as_f64().unwrap_or(f64::NAN);
        let (kept, open) = (ratio("kept_to_bpf"), ratio("open_to_bpf"));
        let cgroups = report["cgroups"].as_f64().unwrap_or(f64::NAN);
        println!(
            "{cgroups:>8} {:>7.0} {:>7.0} {:>9.0} {:>7.0} {:>9.0} {:>9.0} {:>9.0} {kept:>7.1} {open:>7.1}",
            phase("flush_median_ns"),
            phase("walk_median_ns"),
            phase("identify_median_ns"),
            phase("encode_median_ns"),
            wall("bpf"),
            wall("kept"),
            wall("open"),
        );
        points.push((cgroups, wall("bpf")));
        met &= kept >= KEPT.1 && open >= OPEN.1;
    }
    let (fixed, each) = fit(&points);
    println!(
        "snapshot = {fixed:.0} µs + {each:.3} µs × cgroups; targets: kept× {}, open× {}: {}",
        KEPT.0,
        OPEN.0,
        verdict(met)
    );
    met
}

/// The straight line of least squares through points: its value at 0, and its slope.
fn fit(points: &[(f64, f64)]) -> (f64, f64) {
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let variance: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    let slope = covariance / variance;
    (y - slope * x, slope)
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn line(what: &str, measured: f64, target: &str, met: bool) -> bool {
    println!("{what:<66} {measured:>10.3} {target:>10} {}", verdict(met));
    met
}

fn fact(what: &str, measured: f64) {
    println!("{what:<66} {measured:>10.3}");
}

struct Machine(Vm);

impl Machine {
    async fn boot(paths: &Paths, row: &Row) -> Result<Self> {
        let files = [EXAMPLE, "waggle-agent"].map(|program| {
            let path = paths.program(program);
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = program.rsplit('/').next().unwrap_or_default();
            Ok((format!("bin/{name}"), 0o755, content))
        });
        let boot = Boot {
            label: "bench".to_owned(),
            kernel: row.line.to_owned(),
            processors: row.processors,
            files: files.into_iter().collect::<Result<_>>()?,
            ..Boot::default()
        };
        Ok(Self(Vm::boot(paths, boot).await?))
    }

    async fn bench(&self, rounds: usize, more: &[&str]) -> Result<Value> {
        let node = &self.0.node;
        let cgroup = "system.slice/lab.service".to_owned();
        node.act(Act::MakeCgroup { path: cgroup.clone(), limits: Vec::new() }).await?;
        let rounds = rounds.to_string();
        let argv = ["/bin/collector_bench", "--make-below", "/sys/fs/cgroup", "--rounds", &rounds];
        let program = Program {
            argv: argv.iter().chain(more).map(|&argument| argument.to_owned()).collect(),
            environment: vec![("PATH".to_owned(), "/bin".to_owned())],
            cgroup,
            rights: Rights::Root,
        };
        let (status, output) = node.run(program).await?;
        if status != 0 {
            bail!("collector_bench ended with {status} in the machine:\n{output}");
        }
        split(&output)
    }

    /// An agent over 400 cgroups that reaches no aggregator, with what its cgroup is charged.
    async fn charged(&self, collector: &str) -> Result<Value> {
        let agent = "--steady 10s -- /bin/waggle-agent run --aggregator 127.0.0.1:1 --aggregator-ca /etc/none \
                     --token-file /etc/none --metrics-bind 127.0.0.1:0 --collector";
        let arguments: Vec<&str> = agent.split_whitespace().chain([collector]).collect();
        self.bench(rounds(PODS), &arguments).await
    }
}

/// The agent as it ships, streaming to an aggregator that serves what it reports. `None`, with the reason printed,
/// where this machine does not let a cgroup be made.
async fn natively(paths: &Paths) -> Result<Option<Value>> {
    let mut central = Central::start(paths, "bench", "60s").await?;
    let agent = agent_pod();
    central.stand_in.apply(this_machine()?)?;
    central.stand_in.apply(agent.object())?;
    for number in 0..PODS {
        central.stand_in.apply(pod(number).object())?;
    }
    central.start_aggregator().await?;
    let dir = tempfile::tempdir().context("cannot make a temporary folder")?;
    let (ca, token) = (dir.path().join("ca.crt"), dir.path().join("token"));
    fs::write(&ca, central.stand_in.cluster_ca_pem()).context("cannot write the CA")?;
    fs::write(&token, central.agent_token(&agent)?).context("cannot write the token")?;
    let ingest = central.ingest.to_string();
    let program = paths.program("waggle-agent");
    let mut command = Command::new(paths.program(EXAMPLE));
    command.args(["--rounds", "40", "--steady", STEADY, "--"]).arg(program).args([
        "run",
        "--aggregator",
        &ingest,
    ]);
    command.arg("--aggregator-ca").arg(&ca).arg("--token-file").arg(&token);
    command.args(["--metrics-bind", "127.0.0.1:0"]).stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let bench = command.spawn().context("cannot start collector_bench")?.wait_with_output();
    let (output, live) = tokio::join!(bench, live(&central));
    let output = output.context("cannot wait for collector_bench")?;
    if !output.status.success() {
        println!("cannot be measured here: {}", String::from_utf8_lossy(&output.stderr).trim());
        return Ok(None);
    }
    live?;
    let report = split(&String::from_utf8_lossy(&output.stdout))?;
    // It has just ended: the stream was live to the end if the values are of now.
    let node = central.node_metrics().await?.context("the node is not served at the end")?;
    let age = jiff::Timestamp::now().duration_since(node.timestamp).unsigned_abs();
    anyhow::ensure!(
        age < Duration::from_secs(4),
        "the stream was not live to the end: the newest value is {age:?} old"
    );
    let served = central.pods().await?;
    if memory_was_read(&report) {
        let whole = |pod: &&Value| {
            let containers = pod["containers"].as_array();
            containers.is_some_and(|all| {
                all.len() == CONTAINERS && all.iter().all(|one| one["usage"]["cpu"] != "0")
            })
        };
        let whole = served.iter().filter(whole).count();
        anyhow::ensure!(whole == PODS, "{whole} of {PODS} pods are served whole");
    } else {
        // A container without a memory value is never published; its CPU time was streamed all the same.
        anyhow::ensure!(served.is_empty(), "{} pods are served without memory", served.len());
        println!(
            "memory is on cgroup v1 here: CPU of 400 cgroups was read and streamed, and the node served"
        );
    }
    Ok(Some(report))
}

fn memory_was_read(report: &Value) -> bool {
    report["files"].as_array().is_some_and(|files| files.len() > 1)
}

/// The Node object with this machine's size: an aggregator refuses what is more than a node has.
fn this_machine() -> Result<Value> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
    let memory = format!("{}Ki", total.context("no MemTotal in /proc/meminfo")?);
    let processors = std::thread::available_parallelism().context("cannot count the processors")?;
    let mut node = scenario::node_object();
    for size in ["capacity", "allocatable"] {
        node["status"][size] = json!({"cpu": processors.to_string(), "memory": memory, "pods": "110"});
    }
    Ok(node)
}

/// Waits until what the agent streams is served.
async fn live(central: &Central) -> Result<()> {
    let begun = Instant::now();
    while central.node_metrics().await?.is_none() {
        // The rounds come first.
        anyhow::ensure!(begun.elapsed() < Duration::from_mins(1), "the agent's node is not served");
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// The object of the pod whose cgroups `collector_bench` makes under this number.
fn pod(number: usize) -> Pod {
    let containers = (0..CONTAINERS).map(|index| {
        let id = format!("{:064x}", number * CONTAINERS + index);
        Container { id, ..Container::new(&format!("c{index}"), Work::Sleep, None) }
    });
    let pod = Pod::new("bench", &format!("pod-{number}"), Qos::Burstable, containers.collect());
    Pod { uid: format!("{number:08x}-1c2d-4e5f-8a9b-0c1d2e3f4a5b"), ..pod }
}

/// Prints the table and returns the JSON that is the last line.
fn split(output: &str) -> Result<Value> {
    let (table, last) = output.trim_end().rsplit_once('\n').context("collector_bench printed no report")?;
    println!("{table}");
    serde_json::from_str(last).with_context(|| format!("collector_bench's last line is not JSON: {last}"))
}

#[cfg(test)]
mod tests {
    use super::fit;

    #[test]
    fn the_fit_of_points_on_a_line_is_the_line() {
        let (fixed, each) = fit(&[(100.0, 70.0), (400.0, 220.0), (2000.0, 1020.0)]);
        assert!((fixed - 20.0).abs() < 1e-9 && (each - 0.5).abs() < 1e-9, "{fixed} {each}");
    }
}
