//! The command line. Parsing only: nothing here opens a file or a socket.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use waggle_proto::duration::InvalidDuration;
pub use waggle_proto::duration::flag as duration;

use crate::collect::{Options, Preference};

/// Exit code of bad usage or configuration (`EX_USAGE`).
pub const EXIT_USAGE: u8 = 64;

/// Reads the cgroups of a node's pods and streams them to Waggle's aggregator.
#[derive(Debug, Parser)]
#[command(name = "waggle-agent", version)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Walk the node's pod cgroups again and again and stream what they say to the aggregators
    Run(RunArgs),
    /// Say what this node offers, which collector would run, and why. Ends with 0 only if one would
    Check(NodeArgs),
    /// Walk the node's pod cgroups once and print what they say
    Snapshot(SnapshotArgs),
}

/// Where to read from and how.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArgs {
    /// Where cgroup2 is mounted, or a directory in it
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/cgroup")]
    pub cgroup_root: PathBuf,
    /// How cgroups are read; `auto` takes the eBPF walk where the node allows it
    #[arg(long, value_enum, default_value_t)]
    pub collector: CollectorArg,
    /// How log lines on standard error look
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// `--collector`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum CollectorArg {
    /// The eBPF walk, or files.
    #[default]
    Auto,
    /// The eBPF walk.
    Bpf,
    /// Files.
    Cgroupfs,
}

/// `--log-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `snapshot`.
#[derive(Debug, Clone, clap::Args)]
pub struct SnapshotArgs {
    /// Where to read from and how.
    #[command(flatten)]
    pub node: NodeArgs,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// Walk again after this time and print CPU rates too, for example 1s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub over: Option<Duration>,
}

/// `--output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Output {
    /// Columns for people.
    #[default]
    Table,
    /// One JSON object.
    Json,
}

/// `run`.
#[derive(Debug, Clone, clap::Args)]
pub struct RunArgs {
    /// Where to read from and how.
    #[command(flatten)]
    pub node: NodeArgs,
    /// An aggregator's ingest port: an address, or a name all of whose addresses are streamed to. May be repeated
    #[arg(long = "aggregator", value_name = "HOST:PORT", required = true)]
    pub aggregators: Vec<String>,
    /// PEM certificates that the aggregator's certificate must chain to; read again for each connection
    #[arg(long, value_name = "FILE")]
    pub aggregator_ca: PathBuf,
    /// The name that the aggregator's certificate must carry
    #[arg(long, value_name = "NAME", default_value = "waggle-ingest.waggle-system.svc")]
    pub aggregator_name: String,
    /// The service-account token to present; read again for each connection
    #[arg(long, value_name = "FILE")]
    pub token_file: PathBuf,
    /// Where to serve /metrics, /livez and /readyz over plain HTTP; empty: nowhere
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:10255", value_parser = optional_address)]
    pub metrics_bind: OptionalAddress,
    /// Time between snapshots, from 100ms to 5s
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
}

/// An address to listen on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionalAddress(pub Option<SocketAddr>);

impl NodeArgs {
    /// The same for [`crate::collect::choose()`].
    pub fn options(&self) -> Options {
        let Self { cgroup_root, collector, log_format: _ } = self;
        let preference = match collector {
            CollectorArg::Auto => Preference::Auto,
            CollectorArg::Bpf => Preference::Bpf,
            CollectorArg::Cgroupfs => Preference::Cgroupfs,
        };
        Options { cgroup_root: cgroup_root.clone(), preference }
    }
}

/// Every walk holds `cgroup_mutex`, which creating and removing any cgroup needs too.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// The aggregator computes rates over a window of 15 s by default (`--window`) and needs two snapshots in it. At 5 s the
/// window has three, so that one lost snapshot costs no rate; `--max-age` (60 s) outlasts ten of them.
const LONGEST_INTERVAL: Duration = Duration::from_secs(5);

/// Not a time between snapshots that an agent can keep and an aggregator can use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInterval {
    /// Not a duration.
    #[error(transparent)]
    Duration(#[from] InvalidDuration),
    /// Below `SHORTEST_INTERVAL`.
    #[error("interval {0:?} is too short: expected at least 100ms, every walk holds a lock of the kernel")]
    TooShort(Duration),
    /// Above `LONGEST_INTERVAL`.
    #[error(
        "interval {0:?} is too long: expected at most 5s, the aggregator's rates need several snapshots in 15s"
    )]
    TooLong(Duration),
}

fn interval(text: &str) -> Result<Duration, InvalidInterval> {
    match duration(text)? {
        short if short < SHORTEST_INTERVAL => Err(InvalidInterval::TooShort(short)),
        long if long > LONGEST_INTERVAL => Err(InvalidInterval::TooLong(long)),
        interval => Ok(interval),
    }
}

fn optional_address(text: &str) -> Result<OptionalAddress, String> {
    if text.is_empty() {
        return Ok(OptionalAddress(None));
    }
    match text.parse() {
        Ok(address) => Ok(OptionalAddress(Some(address))),
        Err(_) => Err("no address: write for example 0.0.0.0:10255, or nothing for none".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[derive(Debug, Parser)]
    struct Run {
        #[command(flatten)]
        run: RunArgs,
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
        Run::command().debug_assert();
    }

    #[test]
    fn intervals_suit_the_kernel_and_the_aggregator() {
        assert_eq!(interval("100ms"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("2.5s"), Ok(Duration::from_millis(2500)));
        assert_eq!(interval("5s"), Ok(Duration::from_secs(5)));
        let refused = |text| interval(text).unwrap_err().to_string();
        assert!(refused("99ms").starts_with("interval 99ms is too short: expected at least 100ms"));
        assert!(refused("5001ms").starts_with("interval 5.001s is too long: expected at most 5s"));
        assert!(refused("1h").starts_with("interval 3600s is too long"), "the grammar has hours");
        assert_eq!(refused("5 s"), "invalid duration \"5 s\": expected e.g. 500ms, 15s or 1m");
    }

    #[test]
    fn run_has_the_defaults_that_are_documented() {
        let line =
            ["x", "--aggregator", "a:1", "--aggregator", "b:2", "--aggregator-ca", "c", "--token-file", "t"];
        let Run { run } = Run::parse_from(line);
        assert_eq!(run.aggregators, ["a:1", "b:2"]);
        assert_eq!(run.interval, Duration::from_secs(1));
        assert_eq!(run.aggregator_name, "waggle-ingest.waggle-system.svc");
        assert_eq!(run.metrics_bind.0.unwrap().port(), 10255);
        assert_eq!(run.node.cgroup_root, PathBuf::from("/sys/fs/cgroup"));
        assert_eq!(run.node.options().preference, Preference::Auto);
        let off = line.into_iter().chain(["--metrics-bind", ""]);
        assert_eq!(Run::parse_from(off).run.metrics_bind.0, None);
        assert!(Run::try_parse_from(["x"]).is_err(), "without an aggregator");
    }
}
