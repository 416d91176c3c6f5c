//! Clients that do not read, over real TLS: their responses end in time, with all that they hold, and nothing else does.

use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::timeout,
};

use super::{port::Port, *};
use crate::serve::Limits;

const SHORT: Duration = Duration::from_millis(500);
const LONG: Duration = Duration::from_secs(20);
const PODS: &str = "/apis/metrics.k8s.io/v1/pods";
/// More than sockets buffer.
const CROWD: u32 = 40_000;

fn crowded(settings: Settings, pods: u32) -> Api<Told> {
    let source = source();
    crowd(&source, pods);
    api_of(source, Decision::Allow, Settings { now, ..settings })
}

type Sender = http2::SendRequest<Empty<bytes::Bytes>>;

/// A connection on which no response may have a byte.
async fn without_window(port: &Port) -> Sender {
    let stream = TokioIo::new(port.connect().await);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    let (sender, connection) = builder.initial_stream_window_size(0).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn get(port: &Port, path: &str) -> Request<Empty<bytes::Bytes>> {
    Request::get(format!("https://{}{path}", port.address)).body(Empty::new()).unwrap()
}

#[tokio::test]
async fn a_stalled_stream_is_reset_and_its_connection_stays() {
    for (timeout_of_request, stall) in [(SHORT, LONG), (LONG, SHORT)] {
        let settings =
            Settings { timeout: timeout_of_request, stall, in_flight: one_direct(), ..Settings::default() };
        let port = Port::serve(crowded(settings, 2000), Limits::api(), b"h2", LONG).await;
        let mut sender = without_window(&port).await;
        let mut bodies = Vec::new();
        let answer = sender.send_request(get(&port, PODS)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        bodies.push(answer.into_body());
        // The only place is taken. A refusal has a body too, and it would stall as well.
        let refused = sender.send_request(get(&port, PODS)).await.unwrap();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        bodies.push(refused.into_body());
        for mut body in bodies {
            let frame = timeout(SHORT * 4, body.frame()).await.expect("cut").expect("not the end");
            let error = format!("{:?}", frame.unwrap_err());
            assert!(error.contains("CANCEL"), "a reset of the stream: {error}");
        }
        let again =
            timeout(SHORT, sender.send_request(get(&port, PODS))).await.expect("the connection is open");
        assert_eq!(again.unwrap().status(), StatusCode::OK, "its place is free again");
        port.stop.cancel();
        timeout(SHORT * 4, port.serving).await.expect("no stream delays the end").unwrap();
    }
}

#[tokio::test]
async fn a_client_that_does_not_read_over_http1_is_cut_off() {
    let settings = Settings { stall: SHORT, in_flight: one_direct(), ..Settings::default() };
    let port = Port::serve(crowded(settings, CROWD), Limits::api(), b"http/1.1", LONG).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let stream = socket.connect(port.address).await.unwrap();
    let mut stalled = port.connector.connect(port.address.ip().into(), stream).await.unwrap();
    let request = format!("GET {PODS} HTTP/1.1\r\nhost: x\r\n\r\n");
    stalled.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(SHORT * 4).await;
    let mut other = port.connect().await;
    other.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    timeout(LONG, other.read_exact(&mut head)).await.expect("an answer").unwrap();
    assert_eq!(&head, b"HTTP/1.1 200", "its place is free again");
    let mut rest = Vec::new();
    // With or without a close-notify.
    timeout(LONG, stalled.read_to_end(&mut rest)).await.expect("closed").ok();
    assert!(rest.starts_with(b"HTTP/1.1 200") && !rest.ends_with(b"0\r\n\r\n"), "{} bytes", rest.len());
}

#[tokio::test]
async fn a_client_that_reads_slowly_gets_all_of_it() {
    let settings = Settings { stall: SHORT, ..Settings::default() };
    let port = Port::serve(crowded(settings, 2000), Limits::api(), b"h2", LONG).await;
    let stream = TokioIo::new(port.connect().await);
    let mut builder = http2::Builder::new(TokioExecutor::new());
    // Two windows for each frame of the server.
    let (mut sender, connection) =
        builder.initial_stream_window_size(32 * 1024).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let mut body = sender.send_request(get(&port, PODS)).await.unwrap().into_body();
    let began = tokio::time::Instant::now();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame.unwrap().into_data().unwrap().len();
        tokio::time::sleep(SHORT / 8).await;
    }
    assert!(length > 300_000 && began.elapsed() > SHORT * 2, "{length} bytes in {:?}", began.elapsed());
}

#[tokio::test]
async fn after_the_drain_connections_are_closed() {
    let port = Port::serve(api_with(Decision::Allow, Settings::default()), Limits::api(), b"h2", SHORT).await;
    let stream = TokioIo::new(port.connect().await);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let ended = tokio::spawn(connection);
    let request = Request::get(format!("https://{}/apis", port.address)).header("x-user", "slow");
    let slow = tokio::spawn(sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()));
    tokio::time::sleep(SHORT / 2).await;
    port.stop.cancel();
    timeout(SHORT * 3, port.serving).await.expect("the drain ends").unwrap();
    timeout(SHORT, ended).await.expect("the connection is closed").unwrap().ok();
    assert!(slow.await.unwrap().is_err());
}
