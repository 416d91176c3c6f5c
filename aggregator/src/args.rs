//! The command line. One struct, taken apart completely in [`crate::run`], so that a flag without effect does not
//! compile.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Parser, ValueEnum};
use waggle_proto::duration::flag as duration;

use crate::tls;

/// Waggle's aggregator: takes the agents' streams and serves metrics.k8s.io.
#[derive(Debug, Clone, Parser)]
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[command(name = "waggle-aggregator", version, about)]
pub struct Args {
    /// Kubeconfig of the API server; without it, the pod's service account
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API port, which kube-apiserver calls
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:10250")]
    pub api_bind: SocketAddr,
    /// Address of the agents' port
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:8444")]
    pub ingest_bind: SocketAddr,
    /// Certificates of both ports
    #[command(flatten)]
    pub certificates: tls::Flags,
    /// Audience that agents' tokens must be made for
    #[arg(long, value_name = "NAME", default_value = "waggle.aggregator")]
    pub agent_audience: String,
    /// Service account that agents run as
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "waggle-system/waggle-agent", value_parser = service_account)]
    pub agent_service_account: ServiceAccount,
    /// Trust the front proxy even where requestheader-allowed-names is empty and its CA signs clients too: then any client
    /// certificate can claim any user
    #[arg(long)]
    pub requestheader_trust_overlapping_ca: bool,
    /// Span of CPU rates
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    pub window: Duration,
    /// Age at which the last values of a silent node are no longer served
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub max_age: Duration,
    /// Time between two reports of an agent, at least
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub interval: Duration,
    /// Time for requests in flight to finish once termination began
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub drain: Duration,
    /// Serve swap use beside CPU and memory, of nodes that have swap
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub swap: bool,
    /// Serve watches on nodes and pods, and resource versions to begin them from
    #[arg(long)]
    pub enable_watch: bool,
    /// Also export the metrics of metrics-server; two of them have a label for nodes
    #[arg(long)]
    pub compatibility_metrics: bool,
    /// Form of log lines; `RUST_LOG` says which
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Two settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// Values would leave before a full window of them was there.
    #[error(
        "cannot serve rates over --window {window:?} for at most --max-age {max_age:?}: the window must not be longer"
    )]
    WindowOverAge {
        /// `--window`
        window: Duration,
        /// `--max-age`
        max_age: Duration,
    },
    /// A rate needs two samples inside its window.
    #[error(
        "cannot measure rates over --window {window:?} from a report each --interval {interval:?}: the window must be at least twice as long"
    )]
    IntervalOverWindow {
        /// `--window`
        window: Duration,
        /// `--interval`
        interval: Duration,
    },
}

impl Args {
    /// Whether the settings go together.
    pub fn check(&self) -> Result<(), Contradiction> {
        let (window, max_age, interval) = (self.window, self.max_age, self.interval);
        if window > max_age {
            return Err(Contradiction::WindowOverAge { window, max_age });
        }
        if interval.saturating_mul(2) > window {
            return Err(Contradiction::IntervalOverWindow { window, interval });
        }
        Ok(())
    }
}

fn service_account(text: &str) -> Result<ServiceAccount, String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok(ServiceAccount { namespace: namespace.to_owned(), name: name.to_owned() })
        }
        _ => Err("must be NAMESPACE/NAME".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(more: &[&str]) -> Result<Args, String> {
        let line = std::iter::once(&"waggle-aggregator").chain(more);
        Args::try_parse_from(line).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_go_together() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.check(), Ok(()));
        assert_eq!((args.window, args.max_age), (Duration::from_secs(15), Duration::from_mins(1)));
        assert_eq!(args.agent_service_account.namespace, "waggle-system");
        assert!(args.swap && !args.enable_watch && !args.compatibility_metrics);
        assert!(!parse(&["--swap=false"]).unwrap().swap);
    }

    #[test]
    fn nonsense_is_refused() {
        for (more, says) in [
            (["--window", "soon"], "invalid duration \"soon\": expected e.g. 500ms, 15s or 1m"),
            (["--max-age", "0"], "expected at least 1ms"),
            (["--agent-service-account", "agent"], "must be NAMESPACE/NAME"),
            (["--api-bind", "here"], "invalid socket address"),
            (["--log-format", "xml"], "possible values: text, json"),
        ] {
            let error = parse(&more).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        let check = |more: &[&str]| parse(more).unwrap().check().map_err(|error| error.to_string());
        assert_eq!(check(&["--window", "1m", "--max-age", "1m"]), Ok(()));
        assert!(check(&["--window", "61s"]).unwrap_err().contains("the window must not be longer"));
        assert!(check(&["--interval", "8s"]).unwrap_err().contains("at least twice as long"));
    }
}
