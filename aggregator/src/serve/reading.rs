//! Deadlines for peers that do not read. hyper polls a body only when the peer has room for it, so a deadline inside a body
//! never passes for a peer without room: a timer outside of it has to end the response. Over HTTP/2 that is the task of
//! the stream, whose end resets the stream and leaves the others of the connection alone; over HTTP/1.1 it is the connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tracing::Instrument as _;

use super::{Metrics, usage::InFlight};

tokio::task_local! {
    /// The watch over the task that can be ended without ending anything else.
    static WATCH: Arc<Watch>;
}

/// Response extension: how long the peer may take to read the response. Without it there is no limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReadLimits {
    /// All of it.
    pub(crate) until: Option<Instant>,
    /// Each of its frames.
    pub(crate) frame: Duration,
}

/// Watches how the responses of one task are read.
#[derive(Default)]
pub(super) struct Watch {
    reading: Mutex<Option<Reading>>,
    begun: Notify,
}

struct Reading {
    limits: ReadLimits,
    /// When a frame was handed over, where the next one was not asked for yet.
    handed: Option<Instant>,
}

impl Watch {
    /// Runs a task's future with this watch over the responses in it.
    pub(super) async fn over<F: Future>(self: Arc<Self>, task: F) -> F::Output {
        WATCH.scope(self, task).await
    }

    fn begin(&self, limits: ReadLimits) {
        *self.reading.lock() = Some(Reading { limits, handed: Some(Instant::now()) });
        self.begun.notify_one();
    }

    fn handed(&self, at: Option<Instant>) {
        if let Some(reading) = &mut *self.reading.lock() {
            reading.handed = at;
        }
    }

    fn end(&self) {
        *self.reading.lock() = None;
    }

    /// Why the response is overdue now, or when to look again; `None` where there is nothing to wait for.
    fn look(&self, now: Instant) -> Option<Result<&'static str, Instant>> {
        let reading = self.reading.lock();
        let Reading { limits, handed } = reading.as_ref()?;
        let stalled = handed.map(|at| at + limits.frame);
        if limits.until.is_some_and(|until| until <= now) {
            return Some(Ok("deadline"));
        }
        if stalled.is_some_and(|at| at <= now) {
            return Some(Ok("stalled"));
        }
        // A frame that is handed over meanwhile is overdue no earlier than this.
        let next = stalled.unwrap_or(now + limits.frame);
        Some(Err(limits.until.map_or(next, |until| until.min(next))))
    }

    /// Returns, with the reason, when the response was not read in time.
    pub(super) async fn overdue(&self) -> &'static str {
        loop {
            match self.look(Instant::now()) {
                Some(Ok(reason)) => return reason,
                Some(Err(at)) => tokio::select! {
                    () = tokio::time::sleep_until(at) => {}
                    () = self.begun.notified() => {}
                },
                None => self.begun.notified().await,
            }
        }
    }
}

/// Spawns hyper's HTTP/2 streams, each with a watch over its response.
#[derive(Clone)]
pub(super) struct Streams {
    pub(super) metrics: Metrics,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let watch = Arc::new(Watch::default());
        let metrics = self.metrics.clone();
        let watched = async move {
            tokio::select! {
                biased;
                _ = Arc::clone(&watch).over(stream) => {}
                reason = watch.overdue() => metrics.response_cut(reason),
            }
        };
        tokio::spawn(watched.in_current_span());
    }
}

/// A body that reports how it is read, and keeps its request in flight to its end.
pub(super) struct Watched<B> {
    body: B,
    watch: Option<Arc<Watch>>,
    _request: InFlight,
}

impl<B> Watched<B> {
    pub(super) fn new(body: B, limits: Option<ReadLimits>, request: InFlight) -> Self {
        let watch = limits.and_then(|limits| {
            let watch = WATCH.try_with(Arc::clone).ok()?;
            watch.begin(limits);
            Some(watch)
        });
        Self { body, watch, _request: request }
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.end();
        }
    }
}

impl<B: Body + Unpin> Body for Watched<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Some(watch) = &this.watch {
            watch.handed(polled.is_ready().then(Instant::now));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
