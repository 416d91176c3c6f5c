//! What a connection may do (authentication.md, A1, A9, A12): strangers are parted with, slow callers are cut off, headers of
//! crowded users pass.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use waggle_stand_in::{Authority, StandIn};

use crate::common::{Aggregator, MASTER, NODES, Protocol};

const SOON: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_get_one_answer_over_http2() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let stranger = Authority::new("another").unwrap().client::<&str>("a", &[]).unwrap();
    let anonymous = [("x-remote-user", "system:anonymous")];
    // Who calls, with which headers, and whether his HTTP/2 connection ends.
    let rows = [
        ("nothing presented", None, &[][..], StatusCode::FORBIDDEN, true),
        ("a bad token", None, &[("authorization", "Bearer x")], StatusCode::UNAUTHORIZED, true),
        ("a bad certificate", Some(&stranger), &[], StatusCode::UNAUTHORIZED, true),
        (
            "the front proxy for somebody",
            Some(stand_in.front_proxy_client()),
            &[("x-remote-user", "bob")],
            StatusCode::FORBIDDEN,
            false,
        ),
        (
            "the front proxy for a stranger",
            Some(stand_in.front_proxy_client()),
            &anonymous,
            StatusCode::FORBIDDEN,
            false,
        ),
        (
            "the front proxy without a user",
            Some(stand_in.front_proxy_client()),
            &[],
            StatusCode::UNAUTHORIZED,
            true,
        ),
    ];
    for (case, identity, headers, code, parts) in rows {
        for protocol in Protocol::BOTH {
            let mut connection = aggregator.connect(identity, protocol).await;
            let answer = connection.get(NODES, headers).await.unwrap();
            assert_eq!(answer.status, code, "{case}");
            if parts && protocol == Protocol::Http2 {
                assert!(connection.ends_within(SOON).await, "{case}: no GOAWAY");
            } else {
                let again = connection.get(NODES, headers).await.unwrap();
                assert_eq!(again.status, code, "{case} over {protocol:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_up_to_a_mebibyte_pass() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let names: Vec<String> =
        (0..1000).map(|number| format!("group-{number:04}-{}", "x".repeat(500))).collect();
    let mut crowd = vec![("x-remote-user", "bob"), ("x-remote-group", "system:masters")];
    crowd.extend(names.iter().take(998).map(|name| ("x-remote-group", name.as_str())));
    for protocol in Protocol::BOTH {
        let mut proxy = aggregator.connect(Some(stand_in.front_proxy_client()), protocol).await;
        let answer = proxy.get(NODES, &crowd).await.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "half a mebibyte in 1,000 headers over {protocol:?}");
    }
    let many: Vec<_> = (0..1100).map(|_| ("x-remote-group", "g")).collect();
    let mut proxy = aggregator.connect(Some(stand_in.front_proxy_client()), Protocol::Http1).await;
    let answer = proxy.get(NODES, &many).await.unwrap();
    assert_eq!(answer.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "HTTP/1.1 takes 1,024 headers");
    let long = "x".repeat(1 << 20);
    let huge = [MASTER[0], MASTER[1], ("x-remote-group", &*long)];
    let mut proxy = aggregator.connect(Some(stand_in.front_proxy_client()), Protocol::Http2).await;
    assert!(
        proxy.get(NODES, &huge).await.map_or(true, |answer| answer.status != StatusCode::OK),
        "more than a mebibyte does not pass"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_callers_are_cut_off() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let handshake = async {
        let mut silent = TcpStream::connect(aggregator.api).await.unwrap();
        let began = Instant::now();
        let mut byte = [0];
        assert_eq!(silent.read(&mut byte).await.unwrap_or(0), 0, "closed without a word");
        began.elapsed()
    };
    let head = async |first: bool| {
        let tls = aggregator.tls(None);
        let mut stream = aggregator.handshake(tls, Protocol::Http1).await.unwrap();
        if !first {
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            let mut answer = [0; 4096];
            let length = stream.read(&mut answer).await.unwrap();
            assert!(answer[..length].starts_with(b"HTTP/1.1 200 OK"));
        }
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n").await.unwrap();
        let began = Instant::now();
        let mut rest = Vec::new();
        // A drip that never ends the headers, and then nothing: bytes do not prolong the time.
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(4)).await;
            if stream.write_all(b"x-drip: 1\r\n").await.is_err() {
                break;
            }
        }
        // Whether with a close-notify or without is not the point.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("200 OK"), "{}", String::from_utf8_lossy(&rest));
        began.elapsed()
    };
    let (handshake, first, second) = tokio::join!(handshake, head(true), head(false));
    assert!((4..=7).contains(&handshake.as_secs()), "5 s for the first byte, took {handshake:?}");
    assert!((4..=13).contains(&first.as_secs()), "5 s for the first head, found out after {first:?}");
    assert!((31..=36).contains(&second.as_secs()), "32 s for the second head, took {second:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_never_read() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    for protocol in Protocol::BOTH {
        let mut proxy = aggregator.connect(Some(stand_in.front_proxy_client()), protocol).await;
        let answer = proxy.send(&Method::POST, NODES, &MASTER).await.unwrap();
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    let tls = aggregator.tls(Some(stand_in.front_proxy_client()));
    let mut stream = aggregator.handshake(tls, Protocol::Http1).await.unwrap();
    let head = format!(
        "POST {NODES} HTTP/1.1\r\nhost: x\r\nx-remote-user: m\r\nx-remote-group: system:masters\r\ncontent-length: \
         1000000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection is closed, not read for a gigabyte");
    assert!(answer.starts_with(b"HTTP/1.1 405"), "{}", String::from_utf8_lossy(&answer));
}
