//! How a container's first process ends: the kernel gives it no default for any signal, and every orphan of its pod.

use std::{io, sync::Arc};

use anyhow::Result;
use rustix::{
    io::Errno,
    process::{WaitOptions, wait},
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{Signal, SignalKind, signal},
    sync::Notify,
};

/// The signals that matter, taken over from the kernel.
pub struct Signals {
    runtime: Runtime,
    terminate: Signal,
    interrupt: Signal,
    child: Signal,
    done: Arc<Notify>,
}

/// Tells that the work is done.
pub struct Teller(Arc<Notify>);

impl Teller {
    /// Ends [`Signals::wait`].
    pub fn tell(&self) {
        self.0.notify_one();
    }
}

impl Signals {
    /// From here on no signal is lost.
    pub fn take() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().build()?;
        let inside = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let child = signal(SignalKind::child())?;
        drop(inside);
        Ok(Self { runtime, terminate, interrupt, child, done: Arc::default() })
    }

    /// Something that ends the waiting.
    pub fn teller(&self) -> Teller {
        Teller(Arc::clone(&self.done))
    }

    /// Waits for SIGTERM, SIGINT or the end of the work.
    pub fn wait(self) -> Result<()> {
        let Self { runtime, mut terminate, mut interrupt, mut child, done } = self;
        runtime.block_on(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                    () = done.notified() => return Ok(()),
                    _ = child.recv() => bury()?,
                }
            }
        })
    }
}

/// Waits for every child that has ended: one signal may stand for several.
fn bury() -> Result<()> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
