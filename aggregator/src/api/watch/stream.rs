//! One client's watch: what it has not seen yet, in frames, for as long as it reads them. A client that is slow is given
//! each object's newest state when it is ready for it; one that reads nothing for long is let go.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    Metrics, Selection,
    feed::{Feed, Gone, Pass, Seen, Watched},
    frame::Writer,
    options::Start,
    version::ResourceVersion,
};
use crate::api::{Now, status::Failure};

/// A frame is closed once it holds this much.
const FRAME: usize = 64 * 1024;
/// A client that takes no frame for so long is let go.
pub(in crate::api) const PATIENCE: Duration = Duration::from_secs(30);
/// Between two bookmarks.
const BOOKMARKS: Duration = Duration::from_mins(1);

/// A watch that has begun.
pub(super) struct Stream<T> {
    pub(super) feed: Arc<Feed<T>>,
    pub(super) selection: Selection,
    pub(super) start: Start,
    pub(super) bookmarks: bool,
    pub(super) until: Instant,
    pub(super) writer: Writer,
    pub(super) now: fn() -> Now,
    pub(super) stop: CancellationToken,
    pub(super) out: mpsc::Sender<Bytes>,
    pub(super) metrics: Metrics,
    /// Held to the end.
    pub(super) _place: OwnedSemaphorePermit,
}

/// Why a watch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its time was over.
    Timeout,
    /// The client went away.
    Left,
    /// The client did not read.
    Slow,
    /// What the client had seen is too old to resume from.
    Expired,
    /// This process ends.
    Stopped,
}

impl End {
    const fn reason(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Left => "left",
            Self::Slow => "slow",
            Self::Expired => "expired",
            Self::Stopped => "stopped",
        }
    }
}

impl<T: Watched> Stream<T> {
    /// Runs to the end of the watch.
    pub(super) async fn run(mut self) {
        self.metrics.open.inc();
        let end = self.watch().await;
        self.metrics.open.dec();
        self.metrics.ended(end.reason());
    }

    async fn watch(&mut self) -> End {
        match self.passes().await {
            Ok(end) | Err(end) => end,
        }
    }

    /// Pass after pass, each of what changed since the one before.
    async fn passes(&mut self) -> Result<End, End> {
        let mut changes = self.feed.changes();
        let (mut seen, mut marked) = match self.start {
            Start::All { marked } => (Seen::Nothing, marked),
            Start::Now => (Seen::Upto(self.feed.version()), false),
            Start::After(version) => (Seen::Upto(version), false),
        };
        let mut bookmark = Instant::now() + BOOKMARKS;
        loop {
            changes.mark_unchanged();
            let pass = match self.feed.pass(seen, |item| self.selection.selects(item)) {
                Ok(pass) => pass,
                Err(gone) => return self.expire(gone).await,
            };
            let upto = self.tell(pass, std::mem::take(&mut marked)).await?;
            seen = Seen::Upto(upto);
            loop {
                tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Ok(End::Stopped),
                    () = self.out.closed() => return Ok(End::Left),
                    () = tokio::time::sleep_until(self.until) => {
                        if self.bookmarks {
                            self.bookmark(upto, false).await?;
                        }
                        return Ok(End::Timeout);
                    }
                    _ = changes.changed() => break,
                    () = tokio::time::sleep_until(bookmark), if self.bookmarks => {
                        self.bookmark(upto, false).await?;
                        bookmark = Instant::now() + BOOKMARKS;
                    }
                }
            }
        }
    }

    /// Sends the events of a pass. What they are was decided in one moment: a client that reads them slowly is behind,
    /// but misses nothing.
    async fn tell(&mut self, pass: Pass<T>, marked: bool) -> Result<ResourceVersion, End> {
        self.metrics.events.inc_by(pass.events.len() as u64);
        let mut frame = BytesMut::new();
        for event in pass.events {
            self.writer.event(&mut frame, event, (self.now)().real);
            if frame.len() >= FRAME {
                self.send(frame.split().freeze()).await?;
            }
        }
        self.send(frame.freeze()).await?;
        if marked {
            self.bookmark(pass.upto, true).await?;
        }
        Ok(pass.upto)
    }

    async fn bookmark(&self, version: ResourceVersion, end: bool) -> Result<(), End> {
        let mut frame = BytesMut::new();
        self.writer.bookmark::<T>(&mut frame, version, end);
        self.send(frame.freeze()).await
    }

    async fn expire(&self, gone: Gone) -> Result<End, End> {
        let mut frame = BytesMut::new();
        self.writer.error(&mut frame, &Failure::expired(gone.to_string()));
        self.send(frame.freeze()).await?;
        Ok(End::Expired)
    }

    async fn send(&self, frame: Bytes) -> Result<(), End> {
        if frame.is_empty() {
            return Ok(());
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(End::Stopped),
            sent = tokio::time::timeout(PATIENCE, self.out.send(frame)) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) => Err(End::Left),
                Err(_) => Err(End::Slow),
            },
        }
    }
}
