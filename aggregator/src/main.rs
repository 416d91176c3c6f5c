//! Waggle's aggregator: composes, and turns failures into texts and exit codes.
#![forbid(unsafe_code)]

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use waggle_aggregator::{args::Args, run::Prepared, telemetry};

/// `EX_USAGE`: the command line or a file that it names is wrong. Nothing was bound.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(answer) => {
            // Help and version are answers, not errors. A closed terminal cannot be told.
            let _ = answer.print();
            return if answer.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    telemetry::log(args.log_format);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed("cannot start threads", &error.into(), 1),
    };
    runtime.block_on(async {
        let prepared = match Prepared::from_args(args).await {
            Ok(prepared) => prepared,
            Err(error) => return failed("bad configuration", &error.into(), USAGE),
        };
        match prepared.serve().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed("cannot serve", &error, 1),
        }
    })
}

fn failed(what: &str, error: &anyhow::Error, code: u8) -> ExitCode {
    // A closed stderr leaves the exit code to say it.
    let _ = writeln!(std::io::stderr(), "waggle-aggregator: {what}: {error:#}");
    ExitCode::from(code)
}
