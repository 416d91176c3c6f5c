//! Log lines and the registry of metrics: how they are set up, never what is in them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use prometheus_client::{
    metrics::{gauge::Gauge, info::Info},
    registry::Registry,
};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::args::LogFormat;

/// The pause between two log lines of one kind that strangers can cause.
const PAUSE: Duration = Duration::from_mins(1);

/// Keeps strangers from filling the log: one line of a kind per minute.
#[derive(Debug, Default)]
pub struct Seldom {
    said: Mutex<HashMap<&'static str, Instant>>,
}

impl Seldom {
    /// Whether a line of this kind may be written now.
    pub fn may_say(&self, kind: &'static str, now: Instant) -> bool {
        let mut said = self.said.lock();
        let may = said.get(kind).is_none_or(|last| now.saturating_duration_since(*last) >= PAUSE);
        if may {
            said.insert(kind, now);
        }
        may
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_of_a_kind_a_minute() {
        let (seldom, began) = (Seldom::default(), Instant::now());
        assert!(seldom.may_say("a", began) && seldom.may_say("b", began));
        assert!(!seldom.may_say("a", began + Duration::from_secs(59)));
        assert!(seldom.may_say("a", began + Duration::from_mins(1)));
        assert!(!seldom.may_say("a", began + Duration::from_secs(61)));
    }
}
