//! Everything a person runs: install what is missing, build, test, show. It orchestrates other programs and holds no
//! product code, so that it compiles in seconds on a machine that has nothing yet.

#[path = "../lab/src/architecture.rs"]
mod architecture;
mod bench;
mod build;
mod cache;
mod cluster;
mod fuzz;
mod image;
mod lab;
mod progress;
mod setup;
mod steps;
mod summary;
mod tally;
mod test;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum, builder::PossibleValuesParser};

/// Waggle's workbench.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Install what this machine lacks: packages, the BPF toolchain, kernels, kubectl, a control plane.
    Setup,
    /// Run every test; the last line is `N passed, N failed, N skipped`.
    Test {
        /// Leave out what needs a virtual machine.
        #[arg(long)]
        quick: bool,
        /// Only the kernel matrix, the whole of it: every test on every kernel, and 100,000 walks.
        #[arg(long, conflicts_with = "quick")]
        kernels: bool,
    },
    /// Boot a node in a virtual machine and show its metrics with kubectl.
    Demo {
        /// On a real cluster instead: two nodes with kubelet and containerd, kubectl apply -k, an autoscaler (needs root).
        #[arg(long, conflicts_with = "keep")]
        cluster: bool,
        /// Leave everything up until Ctrl-C, and print the kubeconfig. (For a real cluster: cargo xtask cluster up --nodes 2.)
        #[arg(long)]
        keep: bool,
    },
    /// Look for inputs that break what reads from strangers.
    Fuzz {
        /// One target; without one all of them, two at a time.
        #[arg(value_parser = fuzz::TARGETS)]
        target: Option<String>,
        /// How long each runs.
        #[arg(long, default_value_t = fuzz::SECONDS)]
        seconds: u64,
        /// Only this input, as an earlier run left it.
        #[arg(long)]
        input: Option<PathBuf>,
    },
    /// Measure, and print the figures beside their targets.
    Bench {
        /// What to measure.
        what: Bench,
    },
    /// Pack agent and aggregator as container images (OCI archives), each with a list of what is linked into it.
    Image {
        /// The processor architecture.
        #[arg(long, default_value = "amd64")]
        arch: architecture::Architecture,
    },
    /// A real cluster on this machine with Waggle in it: etcd, kube-apiserver, controllers, and virtual machines as nodes.
    Cluster {
        /// Start it, end it, or say how it is.
        what: Cluster,
        /// Real nodes: virtual machines with kubelet and containerd (needs root). Without any, the aggregator is a process
        /// beside the control plane.
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(..=10))]
        nodes: u8,
        /// The cgroup driver of the nodes. kubeadm's default is systemd; without it they boot faster.
        #[arg(long, default_value = DRIVERS[0], value_parser = DRIVERS)]
        driver: String,
    },
    /// Waggle's life on real nodes: install, upgrade, rollback, evictions, rotation, reboot, drain, uninstall, helm, and the way from
    /// metrics-server and back.
    E2e {
        /// Virtual machines as nodes; with one, the steps that need two are skipped.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=10))]
        nodes: u8,
    },
    /// Boot real nodes one after the other until one fails: whether the machines can be relied on.
    Soak {
        /// How many.
        #[arg(long, default_value_t = 50)]
        boots: u32,
        /// The cgroup driver of the nodes.
        #[arg(long, default_value = DRIVERS[0], value_parser = DRIVERS)]
        driver: String,
    },
    /// Record what metrics-server answers, for the tests that compare Waggle's answers with it.
    Record,
    /// Boot a node in a virtual machine and open a shell on it.
    Vm {
        /// The kernel's release line.
        #[arg(long, default_value = "6.12", value_parser = PossibleValuesParser::new(setup::kernels::lines()))]
        kernel: String,
        /// How the node names its cgroups.
        #[arg(long, default_value = "systemd", value_parser = ["systemd", "cgroupfs"])]
        layout: String,
    },
}

/// What a kubelet makes cgroups by, the default of the lab first.
const DRIVERS: [&str; 2] = ["cgroupfs", "systemd"];

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// Values of known workloads on a real node, beside metrics-server's and the kubelet's: errors, ages, times (needs root).
    Accuracy,
    /// The eBPF walk against the cgroup files, and the agent's steady state.
    Collector,
    /// What the streams of a thousand nodes cost the aggregator.
    Ingest,
    /// Lists over TLS and in process: times, server's CPU and memory, against derived encoders.
    Api,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Cluster {
    /// Start it, and print the kubeconfig.
    Up,
    /// End its processes.
    Down,
    /// Show its processes, versions and registrations.
    Status,
}

fn run(command: Command) -> Result<ExitCode> {
    let root = cache::workspace_root()?;
    match command {
        Command::Setup => setup::all(&root).map(|()| ExitCode::SUCCESS),
        Command::Test { kernels: true, .. } => test::kernels(&root),
        Command::Test { quick, .. } => test::run(&root, quick),
        Command::Record => cluster::record(&root),
        Command::Demo { cluster: true, .. } => cluster::on_nodes(&root, &["demo", "--cluster"]),
        Command::Demo { keep, .. } => lab::run(&root, if keep { &["demo", "--keep"] } else { &["demo"] }),
        Command::Fuzz { target, seconds, input } => {
            fuzz::run(&root, target.as_deref(), seconds, input.as_deref())
        }
        Command::Bench { what: Bench::Accuracy } => {
            cluster::beside_metrics_server(&root, &["bench", "accuracy"])
        }
        Command::Bench { what: Bench::Collector } => lab::run(&root, &["bench", "collector"]),
        Command::Bench { what: Bench::Ingest } => lab::run(&root, &["bench", "ingest"]),
        Command::Image { arch } => image::run(&root, arch),
        Command::Cluster { what: Cluster::Up, nodes, driver } => cluster::up(&root, nodes, &driver),
        Command::Cluster { what: Cluster::Down, .. } => cluster::ask(&root, "down"),
        Command::Cluster { what: Cluster::Status, .. } => cluster::ask(&root, "status"),
        Command::E2e { nodes } => cluster::e2e(&root, nodes),
        Command::Soak { boots, driver } => cluster::soak(&root, boots, &driver),
        Command::Bench { what: Bench::Api } => bench::api(&root),
        Command::Vm { kernel, layout } => lab::run(&root, &["vm", "--kernel", &kernel, "--layout", &layout]),
    }
}

fn main() -> ExitCode {
    if let Some(code) = fuzz::as_wrapper() {
        return code;
    }
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
