//! The lab: started by `cargo xtask`, which installs and builds what it needs and says by environment where that is.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use waggle_lab::{
    accuracy, bench,
    control_plane::{Places, lasting},
    demo,
    image::product::{self, Build, Made},
    ingest_bench,
    layout::Layout,
    life_cycle, nodes,
    paths::Paths,
    recorded, relay, shell,
};

/// Waggle's lab. Run it by `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "waggle-lab", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Carry one connection between standard input and output and an address.
    Relay {
        /// Address and port.
        address: String,
    },
    /// Boot a node and show its metrics with kubectl.
    Demo {
        /// On a real cluster.
        #[arg(long, conflicts_with = "keep")]
        cluster: bool,
        /// Leave everything up until Ctrl-C.
        #[arg(long)]
        keep: bool,
    },
    /// Measure.
    Bench {
        /// What.
        #[arg(value_parser = ["accuracy", "collector", "ingest"])]
        what: String,
        /// Simulated nodes, for ingest.
        #[arg(long, default_value_t = 1000)]
        nodes: usize,
    },
    /// Carry the connections of the listening socket at standard input to an address.
    Forward {
        /// Address and port.
        address: String,
    },
    /// A cluster that stays.
    Cluster {
        /// What to do with it.
        #[arg(value_parser = ["up", "down", "status"])]
        what: String,
        /// Real nodes.
        #[arg(long, default_value_t = 0)]
        nodes: u8,
        /// Their cgroup driver.
        #[arg(long, default_value_t = nodes::DRIVER)]
        driver: Layout,
    },
    /// Pack the programs as container images.
    Image {
        /// The source tree.
        #[arg(long)]
        workspace: PathBuf,
        /// The static programs.
        #[arg(long)]
        binaries: PathBuf,
        /// Cargo's unit graph of the programs.
        #[arg(long)]
        units: PathBuf,
        /// Cargo's unit graph of the eBPF program.
        #[arg(long)]
        ebpf_units: PathBuf,
        /// The folder of the archives.
        #[arg(long)]
        into: PathBuf,
    },
    /// Install, upgrade, evict, reboot, drain, uninstall on real nodes.
    E2e {
        /// How many nodes.
        #[arg(long)]
        nodes: u8,
    },
    /// Boot real nodes one after the other.
    Soak {
        /// How many.
        #[arg(long)]
        boots: u32,
        /// Their cgroup driver.
        #[arg(long, default_value_t = nodes::DRIVER)]
        driver: Layout,
    },
    /// Record what metrics-server answers.
    Record {
        /// The file.
        into: PathBuf,
    },
    /// Boot a machine and open a shell.
    Vm {
        /// The kernel's release line.
        #[arg(long)]
        kernel: String,
        /// How the node names its cgroups.
        #[arg(long)]
        layout: Layout,
    },
}

fn run(command: Command) -> Result<ExitCode> {
    match &command {
        Command::Relay { address } => {
            relay::run(address)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Image { workspace, binaries, units, ebpf_units, into } => {
            images(&Build { workspace, binaries, units, ebpf_units }, into)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    if let Command::Forward { address } = &command {
        nodes::forward::run(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Cluster { what, nodes, driver } = &command
        && what == "up"
        && *nodes > 0
    {
        nodes::lasting::up(*nodes, *driver)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::E2e { nodes } = command {
        let holds = life_cycle::run(nodes)?;
        return Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if let Command::Demo { cluster: true, .. } = command {
        return Ok(if demo::cluster::run()? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    if let Command::Soak { boots, driver } = command {
        nodes::soak::run(boots, driver)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::Bench { what, .. } = &command
        && what == "accuracy"
    {
        return Ok(if accuracy::run()? { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Command::Record { into } = &command {
        return runtime.block_on(recorded::record(into)).map(|()| ExitCode::SUCCESS);
    }
    if let Command::Cluster { what, .. } = &command {
        return runtime.block_on(cluster(what));
    }
    let paths = Paths::from_environment()?;
    runtime.block_on(async {
        match command {
            Command::Relay { .. }
            | Command::Forward { .. }
            | Command::Soak { .. }
            | Command::E2e { .. }
            | Command::Cluster { .. }
            | Command::Record { .. }
            | Command::Image { .. } => Ok(ExitCode::SUCCESS),
            Command::Demo { keep, .. } => {
                let holds = demo::run(&paths, keep).await?;
                Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Command::Bench { what, nodes } => {
                let holds = match what.as_str() {
                    "ingest" => ingest_bench::run(&paths, nodes).await?,
                    _ => bench::run(&paths).await?,
                };
                Ok(if holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
            }
            Command::Vm { kernel, layout } => {
                shell::run(&paths, kernel, layout).await?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

fn images(build: &Build, into: &Path) -> Result<()> {
    for Made { name, archive, file, sbom, confirmed } in product::ship(build, into)? {
        println!("{name} ({}): {}", archive.architecture.name(), archive.digest);
        println!("    {} ({:.1} MiB)", file.display(), archive.layer_bytes as f64 / f64::from(1 << 20));
        println!("    {} (the program itself names {confirmed} packages, all of them in it)", sbom.display());
    }
    Ok(())
}

/// Who asked says what failed. While a server starts, its client would log each attempt.
const QUIET: &str = "warn,kube_client=off";

async fn cluster(what: &str) -> Result<ExitCode> {
    let places = Places::from_environment()?;
    let well = match what {
        "up" => lasting::up(&places).await.map(|()| true)?,
        "down" => lasting::down(&places).map(|()| true)?,
        _ => lasting::status(&places).await?,
    };
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(QUIET));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Args::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
