//! Log lines and the registry of metrics: how they are set up, never what is in them.

use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::{
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::args::LogFormat;

/// Starts writing log lines to stderr: `info` and above, or what `RUST_LOG` says.
pub fn log(format: LogFormat) {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second subscriber is refused; the first one stays, which is what a test wants.
    let _ = match format {
        LogFormat::Text => lines.with_ansi(false).try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

/// A registry with the build and the start time in it. Who registers gives full names, beginning with `waggle_`.
pub fn registry(started_seconds: u64) -> Arc<RwLock<Registry>> {
    let mut registry = Registry::default();
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("waggle_build", "The program's version", build);
    let started: Gauge = Gauge::default();
    started.set(i64::try_from(started_seconds).unwrap_or(i64::MAX));
    registry.register("waggle_start_time_seconds", "When the process started, since the epoch", started);
    Arc::new(RwLock::new(registry))
}
