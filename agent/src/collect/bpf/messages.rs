//! Messages of the program itself, forwarded to the agent's log.

use std::time::{Duration, Instant};

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};
use parking_lot::Mutex;

/// The same message is logged again after this time: a condition that lasts would repeat it at every walk.
const REPEAT: Duration = Duration::from_mins(1);

/// Reads the program's messages from their ring buffer, which is created before capabilities are dropped.
pub(super) struct Messages(EbpfLogger<ToTracing>);

impl Messages {
    /// Takes the ring buffer out of a loaded object.
    pub(super) fn of(object: &mut Ebpf) -> Result<Self, aya_log::Error> {
        EbpfLogger::init_with_logger(object, ToTracing::default()).map(Self)
    }

    /// Forwards what has come since the last call. Without messages it is two loads of memory, no system call.
    pub(super) fn pass_on(&mut self) {
        self.0.flush();
    }
}

/// aya-log writes to a [`Log`]; the agent logs with tracing.
#[derive(Default)]
struct ToTracing(Mutex<Option<(String, Instant)>>);

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let mut last = self.0.lock();
        if last.as_ref().is_some_and(|(last, at)| *last == text && at.elapsed() < REPEAT) {
            return;
        }
        tracing::warn!(level = %record.level(), "cgroup program: {text}");
        *last = Some((text, Instant::now()));
    }

    fn flush(&self) {}
}
