//! Bodies of answers: one piece, or frames made while they are sent.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

/// A body. It holds the request's place among those in flight until it is sent or dropped.
#[derive(Default)]
pub struct Body {
    ready: Option<Bytes>,
    rest: Option<Box<dyn Iterator<Item = Bytes> + Send>>,
    place: Option<OwnedSemaphorePermit>,
}

impl Body {
    /// One piece.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        Self { ready: Some(bytes.into()).filter(|bytes| !bytes.is_empty()), ..Self::default() }
    }

    /// Frames. If the first is all, the body's length is known.
    pub fn frames(mut frames: Box<dyn Iterator<Item = Bytes> + Send>) -> Self {
        let first = frames.next();
        let second = frames.next();
        let Some(second) = second else { return Self::full(first.unwrap_or_default()) };
        let rest = Box::new(std::iter::once(second).chain(frames));
        Self { ready: first, rest: Some(rest), place: None }
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
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = self.ready.take().or_else(|| self.rest.as_mut()?.next());
        if next.is_none() {
            self.rest = None;
            self.place = None;
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_none() && self.rest.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let ready = u64::try_from(self.ready.as_ref().map_or(0, Bytes::len)).unwrap_or(u64::MAX);
        let mut hint = SizeHint::with_exact(ready);
        if self.rest.is_some() {
            hint = SizeHint::new();
            hint.set_lower(ready);
        }
        hint
    }
}
