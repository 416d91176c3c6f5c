//! What the program itself has to say, passed on to the agent's log.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Log, Metadata, Record};

/// Reads the program's messages from their ring, which is made before capabilities are dropped.
pub(super) struct Warnings(EbpfLogger<ToTracing>);

impl Warnings {
    /// Takes the ring out of a loaded object.
    pub(super) fn of(object: &mut Ebpf) -> Result<Self, aya_log::Error> {
        EbpfLogger::init_with_logger(object, ToTracing).map(Self)
    }

    /// Passes on what has come since the last call. Without messages it is two loads of memory, no system call.
    pub(super) fn pass_on(&mut self) {
        self.0.flush();
    }
}

/// aya-log speaks to a [`Log`]; the agent logs with tracing.
struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        tracing::warn!(level = %record.level(), "cgroup program: {}", record.args());
    }

    fn flush(&self) {}
}
