//! What collecting costs: the three ways on each kernel in a virtual machine, where ratios can be compared, and the
//! agent's share of a processor natively, because emulation inflates it.

mod native;
mod served;

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{
    architecture::Architecture,
    control::{Act, Program, Rights},
    matrix::{ROWS, Row},
    paths::Paths,
    scenario,
    vm::{Boot, GUEST_ADDRESS, Vm},
};
use served::Served;

const EXAMPLE: &str = "examples/collector_bench";
/// Pods that `collector_bench` makes, of four cgroups each: 100, 400 and 2,000 cgroups.
const SIZES: [usize; 3] = [25, PODS, 500];
/// Pods of the agent that is measured over a time.
const PODS: usize = 100;
const STEADY: &str = "30s";
/// The kernel on which [`AGENTS`] are measured.
const LINE: &str = "6.12";

/// An agent that runs in a machine.
struct Agent {
    what: &'static str,
    /// Of `collector_bench`, and of the agent.
    arguments: [&'static [&'static str]; 2],
}

const WITHOUT_MEMORY: &str = "--without-memory";

/// The first is compared with the second.
const AGENTS: [Agent; 3] = [
    Agent { what: "an agent with --collector auto", arguments: [&[], &["auto"]] },
    Agent { what: "the same without the memory controller", arguments: [&[WITHOUT_MEMORY], &["auto"]] },
    Agent { what: "an agent with --collector cgroupfs", arguments: [&[], &["cgroupfs"]] },
];
const KEPT: (&str, f64) = ("≥ 8", 8.0);
const OPEN: (&str, f64) = ("≥ 20", 20.0);

/// Runs all benchmarks and prints the results with their targets. Returns whether all targets were met.
pub async fn run(paths: &Paths) -> Result<bool> {
    let mut tables = Vec::new();
    let mut agents = Vec::new();
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
            for agent in AGENTS {
                println!("\nbench: {} over 400 cgroups, its stream live", agent.what);
                agents.push((agent.what, vm.steady(agent.arguments).await?));
            }
        }
        tables.push((row.line, reports));
    }
    println!(
        "\nbench: waggle-agent run, its stream live, over 400 cgroups on this machine's own kernel, {STEADY}"
    );
    let natively = native::run(paths).await?;
    let mut met = true;
    for (line, reports) in &tables {
        met &= summary(line, reports);
    }
    println!("\n{:<66} {:>10} {:>10}", "", "measured", "target");
    for (what, report) in &agents {
        let steady = &report["steady"];
        let node = |name: &str| steady["node_memory"][name].as_f64();
        let times =
            node("memory_stat_median_ns").zip(node("meminfo_median_ns")).map(|(stat, info)| stat / info);
        let kib = |name: &str| steady["charged"][name].as_f64().map(|bytes| bytes / 1024.0);
        let facts = [
            ("kernel memory charged to it, KiB", kib("kernel")),
            ("anonymous memory charged to it, KiB", kib("anon")),
            ("the node's memory by the root's memory.stat against /proc/meminfo, times", times),
        ];
        println!("{what}:");
        for (name, value) in facts {
            // Absent without the memory controller.
            if let Some(value) = value {
                fact(&format!("  {name}"), value);
            }
        }
    }
    let emulated = |at: usize| agents.get(at).map_or(f64::NAN, |(_, report)| share_of(report));
    let dearer = emulated(0) / emulated(1);
    fact("agent's CPU with the memory controller against without (emulated), times", dearer);
    let Some(natively) = natively else { return Ok(false) };
    let steady = &natively["steady"];
    let share = share_of(&natively) * 100.0;
    let resident = steady["rss_kib"].as_f64().unwrap_or(f64::NAN) / 1024.0;
    met &= line("agent's share of a core at one snapshot a second, %", share, "< 0.1", share < 0.1);
    met &= line("agent resident, MiB", resident, "< 16", resident < 16.0);
    if !native::memory_was_read(&natively) {
        // With memory on cgroup v1 no container is measured, so none is streamed. The ratio is an estimate: emulation has no
        // caches.
        let with_memory = share * dearer;
        let what = "the same with memory read and containers streamed (estimate), %";
        met &= line(what, with_memory, "< 0.1", with_memory < 0.1);
    }
    Ok(met)
}

/// Snapshots of each way: an emulated machine takes over a second to read the files of 2,000 cgroups once.
fn rounds(pods: usize) -> usize {
    (40 * PODS / pods).clamp(10, 40)
}

/// What the agent used of a core while it was watched.
fn share_of(report: &Value) -> f64 {
    report["steady"]["share_of_a_core"].as_f64().unwrap_or(f64::NAN)
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

struct Machine {
    vm: Vm,
    served: Served,
}

impl Machine {
    async fn boot(paths: &Paths, row: &Row) -> Result<Self> {
        let files = [EXAMPLE, "waggle-agent"].map(|program| {
            let path = paths.program(program);
            let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
            let name = program.rsplit('/').next().unwrap_or_default();
            Ok((format!("bin/{name}"), 0o755, content))
        });
        let served = Served::start(paths, "bench", scenario::node_object()).await?;
        let credentials = [
            ("etc/waggle/ca.crt".to_owned(), 0o444, served.ca.clone().into_bytes()),
            ("etc/waggle/token".to_owned(), 0o400, served.token.clone().into_bytes()),
        ];
        let boot = Boot {
            label: "bench".to_owned(),
            kernel: row.line.to_owned(),
            processors: row.processors,
            files: files.into_iter().chain(credentials.map(Ok)).collect::<Result<_>>()?,
            port: Some(served.central.ingest.port()),
            ..Boot::default()
        };
        Ok(Self { vm: Vm::boot(paths, boot).await?, served })
    }

    async fn bench(&self, rounds: usize, more: &[&str]) -> Result<Value> {
        let node = &self.vm.node;
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

    /// An agent over 400 cgroups, with what it uses and what its cgroup is charged.
    async fn steady(&self, arguments: [&[&str]; 2]) -> Result<Value> {
        let [of_bench, of_agent] = arguments;
        let agent = format!(
            "--steady {STEADY} -- /bin/waggle-agent run --aggregator {GUEST_ADDRESS} --metrics-bind 127.0.0.1:0 \
             --aggregator-ca /etc/waggle/ca.crt --token-file /etc/waggle/token --collector"
        );
        let agent = agent.split_whitespace().chain(of_agent.iter().copied());
        let arguments: Vec<&str> = of_bench.iter().copied().chain(agent).collect();
        let report = self.bench(rounds(PODS), &arguments).await?;
        // Processes and cgroups were removed meanwhile.
        self.served.was_live(Duration::from_secs(20)).await?;
        if !of_bench.contains(&WITHOUT_MEMORY) {
            let whole = self.served.whole_pods().await?;
            anyhow::ensure!(whole == PODS, "{whole} of {PODS} pods are served whole");
        }
        Ok(report)
    }
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
