//! The log of a test: what its thread writes. One subscriber for all threads, because interest in a line is cached for
//! the whole process.

use std::{cell::RefCell, io, sync::Once};

thread_local! {
    static WRITTEN: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

static SUBSCRIBER: Once = Once::new();

/// Records what a test of one thread logs from now on, `info` and above.
pub struct Log(());

impl Log {
    pub fn record() -> Self {
        SUBSCRIBER.call_once(|| {
            let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::INFO).with_ansi(false);
            lines.with_writer(|| Writer).init();
        });
        WRITTEN.set(Some(Vec::new()));
        Self(())
    }

    /// The lines that contain `text`.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let Self(()) = self;
        let written = WRITTEN.with_borrow(|written| written.clone().unwrap_or_default());
        let written = String::from_utf8_lossy(&written).into_owned();
        written.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// Writes to the log of this thread's test, if it is recorded.
struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        WRITTEN.with_borrow_mut(|written| written.as_mut().map(|written| written.extend_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
