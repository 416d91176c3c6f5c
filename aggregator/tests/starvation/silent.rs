//! Connections that say nothing.

use std::time::{Duration, Instant};

use http::StatusCode;
use tokio::{io::AsyncReadExt, net::TcpStream};
use waggle_stand_in::StandIn;

use crate::common::{Aggregator, Protocol};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_tcp_connections_delay_no_probe() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let mut silent = Vec::new();
    for _ in 0..150 {
        silent.push(TcpStream::connect(aggregator.api).await.unwrap());
    }
    for probe in 0..6 {
        // A new connection each, as the kubelet makes it.
        let began = Instant::now();
        let answer = aggregator.caller(None, Protocol::Http1).get("/livez", &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "probe {probe}");
        assert!(began.elapsed() < Duration::from_secs(1), "probe {probe} took {:?}", began.elapsed());
    }
    let began = Instant::now();
    for stream in &mut silent {
        // Closed or reset: either way it is over.
        assert_eq!(stream.read(&mut [0]).await.unwrap_or(0), 0);
    }
    assert!(began.elapsed() < Duration::from_secs(7), "silence lasted {:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_a_request_ends_within_seconds() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    for protocol in Protocol::BOTH {
        let mut stream = aggregator.handshake(aggregator.tls(None), protocol).await.unwrap();
        let began = Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(7), async {
            // Whatever the server sends first (SETTINGS), the connection ends.
            while stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
        });
        ended.await.unwrap_or_else(|_| panic!("{protocol:?} still open after {:?}", began.elapsed()));
    }
}
