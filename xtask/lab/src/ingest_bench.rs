//! What the streams of a large cluster cost the aggregator: the real program, fed by simulated agents of a thousand
//! nodes over TLS, each with its own connection and token. Processor time and memory are read from `/proc`.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    central::Central,
    control::Work,
    layout::Qos,
    paths::Paths,
    scenario::{Container, Pod},
    simulate::{Load, Population},
};

const PODS: usize = 30;
const CONTAINERS: [&str; 2] = ["app", "sidecar"];
/// Until windows are full and buffers have their size.
const SETTLE: Duration = Duration::from_secs(20);
/// What is measured.
const SPAN: Duration = Duration::from_secs(30);
/// All streams must be there and all pods served within this time.
const START: Duration = Duration::from_mins(3);
/// Sockets and files of this process beside its two for each node.
const FILES: u64 = 500;

/// What a process used since it began.
#[derive(Debug, Clone, Copy)]
struct Process {
    cpu: Duration,
    resident_kib: u64,
    peak_kib: u64,
}

/// Measures with `nodes` simulated nodes and prints the results with the targets for 1,000. Returns whether all were met.
pub async fn run(paths: &Paths, nodes: usize) -> Result<bool> {
    raise_file_limit(nodes)?;
    let containers = nodes * PODS * CONTAINERS.len();
    println!("bench: {nodes} nodes × {PODS} pods × {} containers, a snapshot a second", CONTAINERS.len());
    let mut central = Central::start(paths, "bench-ingest", "60s").await?;
    let population =
        Population::prepare(&central, nodes, |node| (0..PODS).map(|pod| make(node, pod)).collect())?;
    central.start_aggregator().await?;
    // Its lists come from the stand-in, which says nothing of how long a kube-apiserver takes for them.
    println!(
        "the aggregator knows pods and nodes after {:.1} s",
        central.wait_informed(START).await?.as_secs_f64()
    );
    let begun = Instant::now();
    population.connect();
    wait("streams", nodes, async || Ok(population.fleet.live_streams())).await?;
    println!("all streams are welcome after {:.1} s", begun.elapsed().as_secs_f64());
    // Each node's agent runs in a pod too.
    wait("served pods", nodes * (PODS + 1), async || Ok(central.pods().await?.len())).await?;
    println!("all pods are served after {:.1} s", begun.elapsed().as_secs_f64());

    let pid = central.aggregator_pid().context("the aggregator does not run")?;
    vary(&population, SETTLE).await?;
    let (before, sent_before) = (process(pid)?, sent(&population));
    let measured = Instant::now();
    vary(&population, SPAN).await?;
    let (after, sent_after, span) = (process(pid)?, sent(&population), measured.elapsed().as_secs_f64());
    ensure!(population.fleet.live_streams() == nodes, "streams were lost while it was measured");
    let (snapshots, bytes) = (sent_after.0 - sent_before.0, sent_after.1 - sent_before.1);
    println!(
        "{:.0} snapshots a second, {:.1} bytes per container in each",
        snapshots as f64 / span,
        bytes as f64 / snapshots as f64 / (containers / nodes) as f64
    );
    let cores = after.cpu.saturating_sub(before.cpu).as_secs_f64() / span;
    let mebibytes = |kib: u64| kib as f64 / 1024.0;
    println!("\n{:<34} {:>9} {:>9}   metrics-server 0.9.0 (baseline.md)", "", "measured", "target");
    // A snapshot of each node in each second, but for those at the edges of the span.
    let pace = snapshots as f64 / span / nodes as f64;
    let mut met = line("snapshots of a node a second", pace, "≥ 0.95", pace >= 0.95, "one scrape in 15 s");
    met &=
        line("aggregator, cores", cores, "< 0.3", cores < 0.3, "0.071 at 15 s, real kubelets' answers faked");
    let resident = mebibytes(after.resident_kib);
    met &= line("aggregator resident, MiB", resident, "< 130", resident < 130.0, "539 idle, 729 peak");
    println!("{:<34} {:>9.2}", "aggregator resident at most, MiB", mebibytes(after.peak_kib));
    Ok(met)
}

fn line(what: &str, measured: f64, target: &str, met: bool, peer: &str) -> bool {
    println!("{what:<34} {measured:>9.3} {target:>9} {:<6} {peer}", if met { "met" } else { "MISSED" });
    met
}

fn make(node: usize, number: usize) -> (Pod, Vec<Load>) {
    let containers = CONTAINERS.map(|name| Container::new(name, Work::Sleep, None)).to_vec();
    let name = format!("web-{node:04}-{number:02}");
    let pod = Pod::new(&format!("team-{:02}", node % 50), &name, Qos::Burstable, containers);
    let (n, m) = (number as u64, node as u64 % 100);
    (pod, vec![Load::new(5 + n * 7 + m, 32 + n * 4 + m), Load::new(1 + n % 3, 8)])
}

/// Lets a tenth of all containers change what they use, each second, for a span: memory of real containers is never
/// still.
async fn vary(population: &Population, span: Duration) -> Result<()> {
    let end = Instant::now() + span;
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while Instant::now() < end {
        seconds.tick().await;
        for node in &population.nodes {
            for pod in &node.pods {
                if fastrand::u8(0..5) == 0 {
                    let load = Load::new(fastrand::u64(1..250), fastrand::u64(8..256));
                    node.set_load(&pod.name, CONTAINERS[0], load)?;
                }
            }
        }
    }
    sleep(end.saturating_duration_since(Instant::now())).await;
    Ok(())
}

async fn wait(what: &str, wanted: usize, count: impl AsyncFn() -> Result<usize>) -> Result<()> {
    let begun = Instant::now();
    loop {
        let now = count().await?;
        if now >= wanted {
            return Ok(());
        }
        ensure!(begun.elapsed() < START, "{now} of {wanted} {what} after {START:?}");
        sleep(Duration::from_millis(500)).await;
    }
}

/// Snapshots and bytes that all agents have sent.
fn sent(population: &Population) -> (u64, u64) {
    let metrics = population.fleet.metrics();
    (metrics.snapshots.get(), metrics.bytes.get())
}

/// The aggregator inherits the limit too.
fn raise_file_limit(nodes: usize) -> Result<()> {
    let wanted = 2 * nodes as u64 + FILES;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        ensure!(
            limit.maximum.is_none_or(|most| most >= wanted),
            "{nodes} nodes need {wanted} open files; raise the hard limit: ulimit -Hn {wanted}"
        );
        let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    }
    Ok(())
}

fn process(pid: u32) -> Result<Process> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))
    };
    parse(&read("stat")?, &read("status")?, rustix::param::clock_ticks_per_second())
        .context("/proc has not the form it is documented to have")
}

fn parse(stat: &str, status: &str, ticks_per_second: u64) -> Option<Process> {
    // After the program's name in brackets: the state is field 3, utime and stime are 14 and 15.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    let kib = |key: &str| -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(Process {
        cpu: Duration::from_millis(ticks * 1000 / ticks_per_second),
        resident_kib: kib("VmRSS:")?,
        peak_kib: kib("VmHWM:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read() {
        let stat = "12 (a b) c) S 1 12 12 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 4 0 999 1 2 3";
        let status = "Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        let process = parse(stat, status, 100).unwrap();
        assert_eq!(
            (process.cpu, process.resident_kib, process.peak_kib),
            (Duration::from_secs(3), 1024, 2048)
        );
        assert!(parse(stat, "Name:\ta\n", 100).is_none() && parse("12", status, 100).is_none());
    }
}
