//! Waggle's node agent: puts the parts together, does nothing itself.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use waggle_agent::args::{Args, Command, EXIT_USAGE, LogFormat, NodeArgs};
use waggle_agent::{check, run, snapshot};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are errors to clap, not to us.
            let code = if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS };
            // Nowhere left to say that standard error is closed.
            let _ = error.print();
            return code;
        }
    };
    let done = match &args.command {
        Command::Run(args) => {
            log_to_stderr(&args.node, "info");
            match run::Config::new(args) {
                Ok(config) => run::run(config).map(|()| ExitCode::SUCCESS),
                Err(error) => {
                    let _ = writeln!(io::stderr(), "waggle-agent: {error:#}");
                    return ExitCode::from(EXIT_USAGE);
                }
            }
        }
        Command::Check(node) => {
            log_to_stderr(node, "warn");
            check::check(node, &mut io::stdout())
        }
        Command::Snapshot(args) => {
            log_to_stderr(&args.node, "warn");
            snapshot::snapshot(args, &mut io::stdout()).map(|()| ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "waggle-agent: {error:#}");
        ExitCode::FAILURE
    })
}

/// Logs to standard error from this level up, or as `RUST_LOG` sets; standard output belongs to the command.
fn log_to_stderr(node: &NodeArgs, least: &str) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(least));
    // A log is read by programs: no colours.
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(io::stderr).with_env_filter(filter);
    match node.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
