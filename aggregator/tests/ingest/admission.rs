//! How long a stream lasts and what comes after it (authentication.md, B5), and what the port itself demands (B8).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{io::AsyncReadExt, net::TcpStream};
use waggle_agent::collect;
use waggle_proto::ingest::{Clock, Hello, Snapshot, agent_message::Message};

use crate::{
    log::Log,
    messages::{hello, snapshot},
    tokens::{agent_review, expiring},
    world::{INTERVAL, World, until, within},
};

#[tokio::test]
async fn the_old_stream_serves_until_the_new_one_is_admitted() {
    let token = expiring(Duration::from_secs(8));
    let world = World::new([(token, agent_review("n1"))]);
    let port = world.port(None).await;
    let mut agent = world.agent_with("n1", token, port.address);
    agent.walk(0);
    until("the stream", || (agent.publisher.live_streams() == 1).then_some(())).await;
    tokio::time::sleep(INTERVAL).await;
    agent.walk(10_000_000);
    until("served", || world.served("n1")).await;
    let began = Instant::now();
    let mut oldest = Duration::ZERO;
    // The clamp makes it a life of 10 s, and a new stream is wanted after half of that: an end before the 10 s can only be
    // the admission of the new one.
    while world.count("streams_closed", "planned") == 0 {
        assert!(began.elapsed() < Duration::from_secs(9), "no planned close before the end");
        tokio::time::sleep(INTERVAL / 2).await;
        agent.walk(5_000_000);
        assert!(agent.publisher.live_streams() >= 1, "there was a moment without a stream");
        let age = world.view("n1").pods.iter().next().unwrap().measured.seen.elapsed();
        oldest = oldest.max(age);
    }
    assert!(began.elapsed() > Duration::from_secs(3), "too early: {:?}", began.elapsed());
    assert!(oldest < INTERVAL * 4, "the values were up to {oldest:?} old");
    until("one stream", || (port.state.streams() == 1 && agent.publisher.live_streams() == 1).then_some(()))
        .await;
    let before = world.view("n1");
    agent.walk(5_000_000);
    until("the new stream's values", || (world.view("n1").pods != before.pods).then_some(())).await;
    assert_eq!(
        world.count("streams_closed", "superseded"),
        0,
        "a stream that was asked for supersedes nobody"
    );
    assert_eq!(world.count("samples_dropped", "foreign-pod"), 0);
    port.stop().await;
}

#[tokio::test]
async fn a_slow_review_makes_no_sample_look_younger() {
    let world = World::new([("slow-token", agent_review("n1"))]);
    let port = world.port(None).await;
    let mut agent = world.agent_with("n1", "slow-token", port.address);
    let began = Instant::now();
    while world.served("n1").is_none() {
        assert!(began.elapsed() < Duration::from_secs(15), "nothing is served");
        agent.walk(5_000_000);
        tokio::time::sleep(INTERVAL).await;
    }
    assert!(began.elapsed() > Duration::from_secs(6), "the review was not slow");
    for _ in 0..4 {
        agent.walk(5_000_000);
        tokio::time::sleep(INTERVAL).await;
    }
    assert!(!world.exported().iter().any(|line| line.starts_with("faults_total")), "{:?}", world.exported());
    let age = world.view("n1").pods.iter().next().unwrap().measured.seen.elapsed();
    assert!(age < INTERVAL * 4, "the newest value looks {age:?} old");
    port.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token_whatever_its_agent_does() {
    let token = expiring(Duration::from_secs(1));
    let world = World::new([(token, agent_review("n1"))]);
    let port = world.port(None).await;
    let mut client = world.client(port.address, Some(token)).await.unwrap();
    let (boot, real) = collect::clocks();
    client
        .send(Message::Hello(Hello {
            protocol: 1,
            boot_id: "0".repeat(36),
            clock: Some(Clock { boot_ns: boot.0, realtime_ns: real.0 }),
            page_size: 4096,
            ..Hello::default()
        }))
        .await;
    client.welcome().await;
    // The shortest life, for clocks that disagree; the wish for a new stream is ignored.
    let began = Instant::now();
    let end = tokio::time::timeout(Duration::from_secs(13), async {
        loop {
            match client.answers.message().await {
                Ok(Some(_)) => {}
                ended => return ended,
            }
        }
    });
    let end = end.await.expect("the stream goes on with an expired token");
    assert!(matches!(end, Ok(None)), "a planned close is no error: {end:?}");
    assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
    assert_eq!(world.count("streams_closed", "planned"), 1);
}

#[tokio::test]
async fn the_port_speaks_tls_1_3_and_http2_alone() {
    let world = World::new([]);
    let port = world.port(None).await;
    let certificate = std::fs::read(world.directory.path().join("ca.crt")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificate).unwrap()).unwrap();
    for (version, protocol, served) in
        [(&TLS13, "h2", true), (&TLS12, "h2", false), (&TLS13, "http/1.1", false), (&TLS13, "", false)]
    {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        config.alpn_protocols =
            Some(protocol.as_bytes().to_vec()).filter(|name| !name.is_empty()).into_iter().collect();
        let tcp = TcpStream::connect(port.address).await.unwrap();
        let name = ServerName::try_from("waggle-ingest.waggle-system.svc").unwrap();
        let mut first = [0];
        let heard = match within(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
        {
            // An HTTP/2 server's settings come first; a refused peer finds the connection closed.
            Ok(mut stream) => within(stream.read(&mut first)).await.unwrap_or(0) == 1,
            Err(_) => false,
        };
        assert_eq!(heard, served, "{version:?} {protocol:?}");
    }
    until("three refusals", || {
        (world.count("handshakes_failed", "failed") + world.count("handshakes_failed", "no-h2") == 3)
            .then_some(())
    })
    .await;
}

/// A reader of the log has to find the agent: by its address, and by the pod and node that its token names.
#[tokio::test]
async fn the_log_names_the_agent_that_was_refused_or_ended() {
    let log = Log::record();
    let mut foreign = agent_review("n1");
    foreign.extra.insert("authentication.kubernetes.io/node-name".into(), vec!["n2".into()]);
    let world = World::new([("foreign", foreign)]);
    let port = world.port(None).await;
    for token in [Some("foreign"), Some("unknown-token"), None] {
        world.client(port.address, token).await.err().expect("refused");
    }
    let mut client = world.client(port.address, Some("token-n1")).await.unwrap();
    client.send(hello()).await;
    client.welcome().await;
    client.send(Message::Snapshot(Snapshot { clock: None, ..snapshot() })).await;
    client.end().await.expect("a status");
    let line = |text: &str| {
        let lines = log.lines(text);
        let [line] = &lines[..] else { panic!("one line with {text}: {lines:?}") };
        assert!(line.contains("WARN") && line.contains("peer=127.0.0.1:"), "{line}");
        line.clone()
    };
    let named = [r#"pod="agent-n1""#, r#"node="n2""#, r#"reason="pod-mismatch""#];
    assert!(named.iter().all(|part| line("pod-mismatch").contains(part)), "{}", line("pod-mismatch"));
    line("token-rejected");
    line("token-missing");
    let ended = line("a snapshot has no clock");
    assert!(ended.contains(r#"pod="agent-n1""#) && ended.contains(r#"node="n1""#), "{ended}");
    for token in ["foreign", "unknown-token", "token-n1", "Bearer"] {
        assert_eq!(log.lines(token), [""; 0], "a token in the log");
    }
}
