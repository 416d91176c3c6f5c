//! What runs inside a virtual machine: pid 1, the workloads, and the step into a cgroup before another program. One
//! static binary, so that the image needs no C library.

mod boot;
mod cgroups;
mod enter;
mod processes;
mod recorder;
mod serve;
mod workloads;

use std::{env, process::ExitCode};

use anyhow::{Result, bail};
use waggle_node_init::control::{Rights, Work};

/// Where workloads write their first instruction.
const FIRSTS: &str = "/run/firsts";
/// The mount point of cgroup v2.
const CGROUP_ROOT: &str = "/sys/fs/cgroup";

fn run(args: &[String]) -> Result<()> {
    match args {
        [command, name, cgroup, work @ ..] if command == "work" => match Work::from_args(work) {
            Some(work) => workloads::run(name, cgroup, work),
            None => bail!("unknown workload {work:?}"),
        },
        [command, rights, cgroup, program @ ..] if command == "enter" => match Rights::from_name(rights) {
            Some(rights) => enter::run(cgroup, rights, program),
            None => bail!("unknown rights {rights}"),
        },
        _ if std::process::id() == 1 => {
            boot::run()?;
            serve::run()
        }
        _ => bail!("this is the first program of a virtual machine: it has nothing to do elsewhere"),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("waggle-node-init {}: {error:#}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}
