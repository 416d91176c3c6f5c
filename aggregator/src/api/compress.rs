//! Compression of long answers, with the rules of kube-apiserver: gzip at its fastest level, where the client offers it
//! and more than 128 KiB are to be sent. Frames are compressed one by one while they are sent.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::body::{Body, BodyError, Transformed};

/// Shorter answers cost more to compress than to send.
const THRESHOLD: usize = 128 * 1024;

/// Compresses the answer, if its client offers it and it is long. Frames are made until that is known.
pub fn apply(request: &HeaderMap, response: &mut Response<Body>) {
    let is_short = response.body().known_length().is_some_and(|length| length <= THRESHOLD);
    let is_encoded = response.headers().contains_key(header::CONTENT_ENCODING);
    if is_short || is_encoded || response.status() != StatusCode::OK || !is_offered(request) {
        return;
    }
    let mut frames = response.body_mut().take();
    let (mut made, mut length) = (Vec::new(), 0);
    while length <= THRESHOLD {
        let Some(frame) = frames.next() else { break };
        length += frame.as_ref().map_or(0, Bytes::len);
        made.push(frame);
    }
    let frames: Transformed = Box::new(made.into_iter().chain(frames));
    *response.body_mut() = if length > THRESHOLD {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        let encoder = GzEncoder::new(Vec::new(), Compression::fast());
        Body::transformed(Box::new(Gzip { frames, encoder: Some(encoder) }))
    } else {
        Body::transformed(frames)
    };
}

/// `gzip` stands among the offers, without a quality: Kubernetes looks no closer.
fn is_offered(request: &HeaderMap) -> bool {
    let offers = request.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok());
    offers.is_some_and(|text| text.split(',').any(|token| token.trim() == "gzip"))
}

struct Gzip {
    frames: Transformed,
    encoder: Option<GzEncoder<Vec<u8>>>,
}

impl Iterator for Gzip {
    type Item = Result<Bytes, BodyError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut encoder = self.encoder.take()?;
        loop {
            match self.frames.next() {
                None => return Some(encoder.finish().map(Bytes::from).map_err(BodyError::Compress)),
                Some(Err(error)) => return Some(Err(error)),
                Some(Ok(frame)) => {
                    if let Err(error) = encoder.write_all(&frame) {
                        return Some(Err(BodyError::Compress(error)));
                    }
                }
            }
            // It keeps what it cannot compress well yet; an empty frame would say nothing.
            let made = std::mem::take(encoder.get_mut());
            if !made.is_empty() {
                self.encoder = Some(encoder);
                return Some(Ok(made.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn offering(text: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))])
    }

    /// `count` frames of 64 KiB, each with its number.
    fn answer(count: usize) -> (Response<Body>, Vec<u8>) {
        let frame = |index: usize| format!("{index:016}").repeat(4096);
        let text = (0..count).map(frame).collect::<String>().into_bytes();
        let frames = (0..count).map(move |index| Bytes::from(frame(index)));
        (Response::new(Body::frames(Box::new(frames))), text)
    }

    fn read(mut response: Response<Body>) -> (Vec<usize>, Vec<u8>) {
        let frames: Vec<_> = response.body_mut().take().map(Result::unwrap).collect();
        (frames.iter().map(Bytes::len).collect(), frames.concat())
    }

    #[test]
    fn long_answers_are_compressed_frame_by_frame() {
        for count in [3, 40] {
            let (mut response, text) = answer(count);
            apply(&offering("br, gzip"), &mut response);
            assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
            assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
            let (frames, bytes) = read(response);
            assert!(bytes.len() < text.len() / 10, "{} of {}", bytes.len(), text.len());
            assert!(count < 10 || frames.len() > 3, "{frames:?}");
            let mut plain = Vec::new();
            GzDecoder::new(&*bytes).read_to_end(&mut plain).unwrap();
            assert_eq!(plain, text);
        }
    }

    #[test]
    fn others_are_left_alone() {
        let mut encoded = answer(3).0;
        encoded.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("br"));
        let mut failed = answer(3).0;
        *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        for (mut response, count, offer) in [
            (answer(2).0, 2, "gzip"),
            (answer(1).0, 1, "gzip"),
            (answer(3).0, 3, "br"),
            (answer(3).0, 3, "gzip;q=0"),
            (encoded, 3, "gzip"),
            (failed, 3, "gzip"),
        ] {
            let before = response.headers().clone();
            apply(&offering(offer), &mut response);
            assert_eq!(*response.headers(), before, "{offer}");
            assert_eq!(read(response).1, answer(count).1);
        }
        let mut response = answer(3).0;
        apply(&HeaderMap::new(), &mut response);
        assert!(response.headers().is_empty());
    }

    #[test]
    fn an_answer_that_breaks_off_breaks_off() {
        let frames = [
            Ok(Bytes::from(vec![0; THRESHOLD])),
            Ok(Bytes::from_static(b"x")),
            Err(BodyError::Yaml(String::new())),
        ];
        let mut response = Response::new(Body::transformed(Box::new(frames.into_iter())));
        apply(&offering("gzip"), &mut response);
        assert!(response.body_mut().take().any(|frame| frame.is_err()));
    }
}
