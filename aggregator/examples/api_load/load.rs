//! Requests over TLS to the server in its own process.

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    SERVE,
    client::{Connection, Protocol},
    cluster::{ALL_NODES, ALL_PODS, ONE_DEPLOYMENT},
    process::Process,
    report::{Report, mib, ms, quantile, row, table},
};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const NO_PAUSE: Duration = Duration::ZERO;
/// What was asked for at once.
const CONCURRENT: usize = 10;

/// A running server.
struct Server {
    child: Child,
    process: Process,
    directory: TempDir,
    port: u16,
}

impl Server {
    fn start() -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(SERVE, directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut line = String::new();
        let output = child.stdout.take().expect("it is piped");
        BufReader::new(output).read_line(&mut line).expect("the server says its address");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok()).expect("an address");
        Self { process: Process(child.id()), child, directory, port }
    }

    fn connect(&self, protocol: Protocol) -> Connection {
        let certificate: PathBuf = self.directory.path().join("tls.crt");
        Connection::new(&certificate, self.port, protocol)
    }

    /// CPU that the ring takes by itself, per second.
    async fn background(&self) -> Duration {
        let (began, before) = (Instant::now(), self.process.cpu());
        tokio::time::sleep(Duration::from_secs(5)).await;
        self.process.cpu().saturating_sub(before).div_f64(began.elapsed().as_secs_f64())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub async fn run(report: &mut Report) {
    let server = Server::start();
    let background = server.background().await;
    table("Server at rest, one sample of each of 1,000 nodes a second through ring and view", "");
    row("CPU, mcores", &format!("{:>9.1}", background.as_secs_f64() * 1000.0));
    row("resident, MiB", &format!("{:>9.1}", mib(server.process.resident())));

    table(
        "Ten lists of all pods at once, each on its own connection: server's memory",
        "   before     peak    extra, MiB",
    );
    let mut extra = 0.0_f64;
    for (name, accept, protocol, pause) in [
        ("JSON, HTTP/2", JSON, Protocol::Http2, NO_PAUSE),
        ("JSON, HTTP/1.1", JSON, Protocol::Http1, NO_PAUSE),
        ("protobuf, HTTP/2", PROTOBUF, Protocol::Http2, NO_PAUSE),
        ("JSON, HTTP/2, clients that pause at every frame", JSON, Protocol::Http2, Duration::from_millis(5)),
    ] {
        extra = extra.max(concurrent(&server, name, (accept, protocol, pause)).await);
    }
    report.goal(
        "peak extra memory, ten lists of all pods",
        extra,
        32.0,
        "MiB",
        "metrics-server +190 MiB (539 → 729)",
    );

    table(
        "Over TLS on loopback, one request after the other",
        "      bytes      p50      p99   CPU of server and client per request",
    );
    let mut figures = Vec::new();
    for (name, path, accept, protocol, rounds) in [
        ("all pods, JSON, HTTP/2", ALL_PODS, JSON, Protocol::Http2, 41),
        ("all pods, JSON, HTTP/1.1", ALL_PODS, JSON, Protocol::Http1, 41),
        ("all pods, protobuf, HTTP/2", ALL_PODS, PROTOBUF, Protocol::Http2, 41),
        ("all pods, protobuf, HTTP/1.1", ALL_PODS, PROTOBUF, Protocol::Http1, 41),
        ("all pods, Table, HTTP/2", ALL_PODS, TABLE, Protocol::Http2, 41),
        ("all nodes, JSON, HTTP/2", ALL_NODES, JSON, Protocol::Http2, 201),
        ("30 pods by label, protobuf, HTTP/2", ONE_DEPLOYMENT, PROTOBUF, Protocol::Http2, 4001),
        ("30 pods by label, JSON, HTTP/2", ONE_DEPLOYMENT, JSON, Protocol::Http2, 4001),
        ("30 pods by label, JSON, HTTP/1.1", ONE_DEPLOYMENT, JSON, Protocol::Http1, 4001),
    ] {
        let connection = server.connect(protocol);
        for _ in 0..3 {
            connection.ask(path, accept, NO_PAUSE).await;
        }
        let client = Process(std::process::id());
        let (began, before, client_before) = (Instant::now(), server.process.cpu(), client.cpu());
        let mut times = Vec::new();
        let mut bytes = 0;
        for _ in 0..rounds {
            let answer = connection.ask(path, accept, NO_PAUSE).await;
            times.push(answer.took);
            bytes = answer.bytes;
        }
        let own = background.mul_f64(began.elapsed().as_secs_f64());
        let used = server.process.cpu().saturating_sub(before).saturating_sub(own);
        let (each, client_each) = (used / rounds, client.cpu().saturating_sub(client_before) / rounds);
        let (p50, p99) = (quantile(&mut times, 0.5), quantile(&mut times, 0.99));
        let (each_ms, client_ms) = (ms(each), ms(client_each));
        row(
            name,
            &format!(
                "{bytes:>11} {:>5.1} ms {:>5.1} ms   {each_ms:>8.3} ms {client_ms:>8.3} ms",
                ms(p50),
                ms(p99)
            ),
        );
        figures.push((name, ms(p50), ms(p99), ms(each)));
    }
    let figure = |name: &str| figures.iter().find(|row| row.0 == name).expect("it was measured");
    let (json, protobuf) = (figure("all pods, JSON, HTTP/2"), figure("all pods, protobuf, HTTP/2"));
    let by_label = figure("30 pods by label, JSON, HTTP/2");
    let hpa = figure("30 pods by label, protobuf, HTTP/2");
    println!();
    report.goal("all pods, JSON, HTTP/2, p50", json.1, 60.0, "ms", "metrics-server 648 ms, 483 ms of CPU");
    report.goal(
        "all pods, protobuf, HTTP/2, p50",
        protobuf.1,
        40.0,
        "ms",
        "metrics-server 532 ms, 460 ms of CPU",
    );
    report.goal(
        "30 pods by label, JSON, server CPU",
        by_label.3,
        0.5,
        "ms",
        "metrics-server 43 ms (a namespace, p50)",
    );
    report.goal("30 pods by label, protobuf, p99", hpa.2, 2.0, "ms", "metrics-server 16 ms (HPA's list)");
}

async fn concurrent(
    server: &Server,
    name: &str,
    (accept, protocol, pause): (&'static str, Protocol, Duration),
) -> f64 {
    server.process.forget_peak();
    let before = server.process.resident();
    let lists = (0..CONCURRENT).map(|_| {
        let connection = server.connect(protocol);
        tokio::spawn(async move { connection.ask(ALL_PODS, accept, pause).await })
    });
    let lists: Vec<_> = lists.collect();
    for list in lists {
        let answer = list.await.expect("the list is read");
        assert!(answer.bytes > 1 << 20, "a list of {} bytes is none of all pods", answer.bytes);
    }
    let peak = server.process.peak();
    let extra = mib(peak.saturating_sub(before));
    row(name, &format!("{:>9.1} {:>8.1} {:>8.1}", mib(before), mib(peak), extra));
    extra
}
