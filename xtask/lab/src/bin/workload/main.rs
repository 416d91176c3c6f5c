//! The one program of the pods on real nodes: uses CPU and memory in known amounts. It is its pod's first process, and
//! its pod's `pause`, too: it ends on SIGTERM and buries orphans.

mod end;
mod job;

use std::{process::ExitCode, sync::mpsc, thread};

use anyhow::{Context, Result};
use clap::Parser;

use self::job::Job;

/// Uses CPU and memory in known amounts until it is told to end.
#[derive(Debug, Parser)]
#[command(name = "workload", version)]
struct Args {
    #[command(subcommand)]
    job: Job,
}

fn run(job: Job) -> Result<u8> {
    let end = end::Signals::take().context("cannot wait for signals")?;
    job::say(&format!("{job:?} begins"));
    let (done, outcome) = mpsc::channel();
    let told = end.teller();
    thread::Builder::new()
        .spawn(move || {
            // Nobody listens once a signal has ended the program.
            let _ = done.send(job.run());
            told.tell();
        })
        .context("cannot start a thread")?;
    end.wait()?;
    // Nothing there: it was a signal.
    outcome.try_recv().unwrap_or(Ok(0))
}

fn main() -> ExitCode {
    match run(Args::parse().job) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("workload: {error:#}");
            ExitCode::FAILURE
        }
    }
}
