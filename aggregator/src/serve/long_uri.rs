//! 414 for a URI that h2 cannot represent (the `http` crate ends at 65,534 bytes). h2 answers it with
//! `RST_STREAM(PROTOCOL_ERROR)`, after which Go's client takes the connection out of use: one long selector would cost
//! kube-apiserver the connection that all its users share. RFC 9113, section 8.1.1, allows a response before the reset of a
//! malformed request, so this layer between h2 and TLS sends one in its place. It reads nothing but the heads of frames,
//! and acts only on requests whose header block is long enough to have such a URI.

use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const HEAD: usize = 9;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const PROTOCOL_ERROR: [u8; 4] = [0, 0, 0, 1];
/// A client begins with `PRI * HTTP/2.0 …`, frames follow.
const PREFACE: usize = 24;
/// A shorter header block has no URI of that length: HPACK's shortest code for a character has 5 bits.
const LONG: usize = 65_535 * 5 / 8;
/// HEADERS with `END_STREAM` and `END_HEADERS`; its block is `:status` (8 in the static table) as a literal that neither
/// reads nor changes the compression state.
const URI_TOO_LONG: [u8; 5] = [0, 0, 5, HEADERS, 5];
const BLOCK: [u8; 5] = [0x08, 3, b'4', b'1', b'4'];

/// The head of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Head {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEAD>()?;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
        Some(Self { length, kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1) })
    }
}

/// Where the next byte of one direction lies.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes to the next head.
    skip: usize,
    /// A head that is not complete.
    head: Vec<u8>,
}

impl Frames {
    /// Passes these bytes, and gives each head in them that is complete.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Head)) {
        while !bytes.is_empty() {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            let rest = bytes.get(skipped..).unwrap_or_default();
            let (head, rest) = rest.split_at((HEAD - self.head.len()).min(rest.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            if let Some(head) = Head::parse(&self.head) {
                self.head.clear();
                self.skip = head.length;
                each(head);
            }
        }
    }

    /// The bytes to the end of the frame that `bytes` begin or go on with, as far as that is known.
    fn rest(&self, bytes: &[u8]) -> usize {
        match Head::parse(bytes) {
            _ if self.skip > 0 => self.skip,
            Some(head) if self.head.is_empty() => HEAD + head.length,
            _ => HEAD - self.head.len(),
        }
    }

    /// The stream that `bytes` reset as malformed, where they begin with such a frame.
    fn reset(&self, bytes: &[u8]) -> Option<u32> {
        let head = Head::parse(bytes).filter(|_| self.skip == 0 && self.head.is_empty())?;
        let code = bytes.get(HEAD..HEAD + PROTOCOL_ERROR.len())?;
        (head.kind == RST_STREAM && *code == PROTOCOL_ERROR).then_some(head.stream)
    }
}

/// The transport of a connection; of HTTP/2 where it says so, else nothing is looked at.
pub(super) struct LongUri<T> {
    transport: T,
    http2: bool,
    read: Frames,
    written: Frames,
    /// The newest header block: stream, whether it ends the request, length.
    block: (u32, bool, usize),
    /// Requests with a long header block that nothing was answered to, and whether they ended.
    long: BTreeMap<u32, bool>,
    /// Replaces a reset.
    pending: Vec<u8>,
}

impl<T> LongUri<T> {
    pub(super) fn new(transport: T, http2: bool) -> Self {
        let read = Frames { skip: PREFACE, ..Frames::default() };
        let (written, block) = (Frames::default(), (0, false, 0));
        Self { transport, http2, read, written, block, long: BTreeMap::new(), pending: Vec::new() }
    }

    fn was_read(&mut self, bytes: &[u8]) {
        let Self { read, block, long, .. } = self;
        read.pass(bytes, |head| {
            match head.kind {
                HEADERS => *block = (head.stream, head.flags & END_STREAM != 0, head.length),
                CONTINUATION => block.2 += head.length,
                RST_STREAM => {
                    long.remove(&head.stream);
                    return;
                }
                _ => return,
            }
            let (stream, ended, length) = *block;
            if length >= LONG {
                long.insert(stream, ended);
            }
        });
    }

    fn was_written(&mut self, bytes: &[u8]) {
        let Self { written, long, .. } = self;
        written.pass(bytes, |head| {
            if matches!(head.kind, HEADERS | RST_STREAM) {
                long.remove(&head.stream);
            }
        });
    }

    /// Whether `bytes` begin with a reset that is replaced; it is consumed then.
    fn replaced(&mut self, bytes: &[u8]) -> Option<usize> {
        let stream = self.written.reset(bytes)?;
        let ended = self.long.remove(&stream)?;
        let id = stream.to_be_bytes();
        self.pending.extend([&URI_TOO_LONG[..], &id, &BLOCK].concat());
        if !ended {
            // The response is complete: the client may stop sending the request.
            self.pending.extend([&[0, 0, 4, RST_STREAM, 0][..], &id, &[0; 4]].concat());
        }
        Some(HEAD + PROTOCOL_ERROR.len())
    }
}

impl<T: AsyncWrite + Unpin> LongUri<T> {
    fn poll_pending(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(context, &self.pending))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.pending.drain(..written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for LongUri<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.transport).poll_read(context, buffer))?;
        if self.http2 {
            self.was_read(buffer.filled().get(before..).unwrap_or_default());
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for LongUri<T> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_pending(context))?;
        let this = &mut *self;
        if this.long.is_empty() {
            let written = ready!(Pin::new(&mut this.transport).poll_write_vectored(context, slices))?;
            let mut left = if this.http2 { written } else { 0 };
            for slice in slices {
                let (passed, _) = slice.split_at(left.min(slice.len()));
                left -= passed.len();
                this.was_written(passed);
            }
            return Poll::Ready(Ok(written));
        }
        // Frame by frame, as long as one of them may have to be replaced.
        let Some(bytes) = slices.iter().find(|slice| !slice.is_empty()) else { return Poll::Ready(Ok(0)) };
        if let Some(consumed) = this.replaced(bytes) {
            return Poll::Ready(Ok(consumed));
        }
        let (frame, _) = bytes.split_at(this.written.rest(bytes).min(bytes.len()));
        let written = ready!(Pin::new(&mut this.transport).poll_write(context, frame))?;
        let (passed, _) = frame.split_at(written);
        this.was_written(passed);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.transport).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_pending(context))?;
        Pin::new(&mut self.transport).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn heads_are_found_however_the_bytes_are_cut(
            frames in proptest::collection::vec((0_u8..12, any::<u8>(), 1_u32..1 << 31, 0_usize..40), 1..10),
            cuts in proptest::collection::vec(1_usize..30, 1..60),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (kind, flags, stream, length) in frames {
                let short = u8::try_from(length).unwrap();
                bytes.extend([&[0, 0, short, kind, flags][..], &stream.to_be_bytes(), &vec![7; length]].concat());
                expected.push(Head { length, kind, flags, stream });
            }
            let (mut found, mut at) = (Vec::new(), Frames::default());
            let mut rest = &bytes[..];
            for cut in cuts.into_iter().cycle() {
                let (part, more) = rest.split_at(cut.min(rest.len()));
                at.pass(part, |head| found.push(head));
                rest = more;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, expected);
        }
    }

    /// The request's header block has this length.
    fn after_request(length: usize) -> LongUri<io::Cursor<Vec<u8>>> {
        let mut transport = LongUri::new(io::Cursor::default(), true);
        let (high, low) = (u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap());
        transport.was_read(&[0; PREFACE]);
        transport.was_read(&[0, high, low, HEADERS, END_STREAM, 0, 0, 0, 9]);
        transport
    }

    #[test]
    fn a_long_block_alone_has_its_reset_replaced_and_nothing_else() {
        let reset = |code: u8| [0, 0, 4, RST_STREAM, 0, 0, 0, 0, 9, 0, 0, 0, code];
        let status = [&URI_TOO_LONG[..], &[0, 0, 0, 9], &BLOCK].concat();
        assert_eq!(after_request(LONG).replaced(&reset(1)), Some(13));
        let mut replaced = after_request(LONG);
        replaced.replaced(&reset(1));
        assert_eq!(replaced.pending, status);
        assert_eq!(after_request(LONG).replaced(&reset(8)), None, "another error");
        assert_eq!(after_request(LONG - 1).replaced(&reset(1)), None, "a short block");
        let mut answered = after_request(LONG);
        answered.was_written(&status);
        assert_eq!(answered.replaced(&reset(1)), None, "a response was sent");
    }
}
