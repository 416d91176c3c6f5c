//! What no HTTP library sends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use waggle_stand_in::StandIn;

use crate::common::{Aggregator, Protocol};

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// An HPACK string that is not Huffman-coded.
fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.len();
    if rest < 127 {
        out.push(u8::try_from(rest).unwrap());
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push(u8::try_from(rest % 128).unwrap() | 128);
            rest /= 128;
        }
        out.push(u8::try_from(rest).unwrap());
    }
    out.extend_from_slice(text.as_bytes());
    out
}

/// A GET of `path` as HEADERS and CONTINUATION frames.
fn get(stream: u32, path: &str) -> Vec<u8> {
    // `:method GET`, `:scheme https`, then `:authority` and `:path` as literals that are not indexed.
    let block = [&[0x82, 0x87, 0x01][..], &string("waggle"), &[0x04], &string(path)].concat();
    let parts: Vec<&[u8]> = block.chunks(16_384).collect();
    let mut out = Vec::new();
    for (position, part) in parts.iter().enumerate() {
        let kind = if position == 0 { HEADERS } else { CONTINUATION };
        let end_stream = u8::from(position == 0);
        let end_headers = if position + 1 == parts.len() { 4 } else { 0 };
        out.extend(frame(kind, end_stream | end_headers, stream, part));
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_uri_that_is_too_long_gets_a_status_and_keeps_the_connection() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let tls = aggregator.tls(Some(stand_in.front_proxy_client()));
    let mut stream = aggregator.handshake(tls, Protocol::Http2).await.unwrap();
    let path = format!("/apis/metrics.k8s.io/v1/pods?labelSelector={}", "a".repeat(70_000));
    let preface = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(4, 0, 0, &[])].concat();
    stream.write_all(&[preface, get(1, &path), get(3, "/livez")].concat()).await.unwrap();
    // The first frame of each stream.
    let mut first = [None, None];
    let answers = tokio::time::timeout(Duration::from_secs(5), async {
        while first.iter().any(Option::is_none) {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("the connection stays open");
            let mut payload = vec![0; usize::from(u16::from_be_bytes([head[1], head[2]]))];
            stream.read_exact(&mut payload).await.unwrap();
            let slot = match head[8] {
                1 => &mut first[0],
                3 => &mut first[1],
                _ => continue,
            };
            slot.get_or_insert((head[3], payload));
        }
    });
    answers.await.expect("an answer to both");
    let [Some((long, payload)), Some((other, _))] = first else { unreachable!() };
    assert_ne!(long, RST_STREAM, "a reset makes kube-apiserver give up its shared connection");
    assert_eq!(long, HEADERS);
    assert!(payload.windows(3).any(|text| text == b"414"), "{payload:?}");
    assert_eq!(other, HEADERS, "the other request is answered");
}
