//! Bodies of answers: one piece, or frames made while they are sent.

use std::{
    fmt, iter,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Frames that cannot fail.
pub type Frames = Box<dyn Iterator<Item = Bytes> + Send>;
/// Frames that are made from others.
pub type Transformed = Box<dyn Iterator<Item = Result<Bytes, BodyError>> + Send>;

/// An answer breaks off behind its head: the connection tells the client so.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Laying out what was encoded.
    #[error("cannot write an answer as YAML: {0}")]
    Yaml(String),
    /// Compressing.
    #[error("cannot compress an answer: {0}")]
    Compress(std::io::Error),
}

/// A body. It holds the request's place among those in flight until it is sent or dropped: `serve` drops it when its client
/// does not read.
#[derive(Default)]
pub struct Body {
    ready: Option<Bytes>,
    rest: Option<Transformed>,
    place: Option<OwnedSemaphorePermit>,
    live: Option<mpsc::Receiver<Bytes>>,
}

impl Body {
    /// One piece.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { ready: Some(bytes.into()).filter(|bytes| !bytes.is_empty()), ..Self::default() }
    }

    /// Frames. If the first is all, the body's length is known.
    pub fn frames(frames: Frames) -> Self {
        Self::transformed(Box::new(frames.map(Ok)))
    }

    /// Frames that may fail. If the first is all, the body's length is known.
    pub fn transformed(mut frames: Transformed) -> Self {
        let (first, second) = (frames.next(), frames.next());
        match (first, second) {
            (None, _) => Self::default(),
            (Some(Ok(first)), None) => Self::full(first),
            (Some(Ok(first)), Some(second)) => {
                let rest: Transformed = Box::new(iter::once(second).chain(frames));
                Self { ready: Some(first), rest: Some(rest), ..Self::default() }
            }
            (Some(Err(error)), _) => Self { rest: Some(Box::new(iter::once(Err(error)))), ..Self::default() },
        }
    }

    /// Frames that come when they come, until their sender is gone.
    pub fn stream(frames: mpsc::Receiver<Bytes>) -> Self {
        Self { live: Some(frames), ..Self::default() }
    }

    /// Whether it has no end of its own.
    pub fn is_stream(&self) -> bool {
        self.live.is_some()
    }

    /// The frames, taken out.
    pub fn take(&mut self) -> Transformed {
        let rest = self.rest.take().unwrap_or_else(|| Box::new(iter::empty()));
        Box::new(self.ready.take().map(Ok).into_iter().chain(rest))
    }

    /// The length, where it is known before the frames are made.
    pub fn known_length(&self) -> Option<usize> {
        self.rest.is_none().then(|| self.ready.as_ref().map_or(0, Bytes::len))
    }

    /// Keeps a place until the end of the body.
    pub fn keep(&mut self, place: Option<OwnedSemaphorePermit>) {
        self.place = place;
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Body")
            .field("ready", &self.ready)
            .field("more", &self.rest.is_some())
            .finish_non_exhaustive()
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(live) = &mut self.live {
            return live.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))));
        }
        let next = self.ready.take().map(Ok).or_else(|| self.rest.as_mut()?.next());
        if !matches!(next, Some(Ok(_))) {
            self.ready = None;
            self.rest = None;
            self.place = None;
        }
        Poll::Ready(next.map(|frame| frame.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.rest.is_none() && self.live.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_stream() {
            return SizeHint::default();
        }
        let ready = u64::try_from(self.ready.as_ref().map_or(0, Bytes::len)).unwrap_or(u64::MAX);
        let mut hint = SizeHint::with_exact(ready);
        if self.rest.is_some() {
            hint = SizeHint::new();
            hint.set_lower(ready);
        }
        hint
    }
}
