//! Peers that connect and say nothing: they end soon, make room, and delay no agent.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use waggle_aggregator::serve::Limits;

use crate::{
    agent::Agent,
    world::{Port, World, until},
};

const SOON: Duration = Duration::from_secs(2);

fn connector(world: &World) -> TlsConnector {
    let certificate = std::fs::read(world.directory.path().join("ca.crt")).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&certificate).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsConnector::from(Arc::new(config))
}

async fn silent(world: &World, port: &Port) -> TlsStream<TcpStream> {
    let name = ServerName::try_from("waggle-ingest.waggle-system.svc").unwrap();
    connector(world).connect(name, TcpStream::connect(port.address).await.unwrap()).await.unwrap()
}

async fn admitted(agent: &Agent) {
    let began = Instant::now();
    until("a stream", || (agent.publisher.live_streams() == 1).then_some(())).await;
    assert!(began.elapsed() < SOON, "admitted after {:?}", began.elapsed());
}

fn connections(world: &World) -> usize {
    let exported = world.exported();
    exported.iter().find_map(|line| line.strip_prefix("connections ")).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_tcp_peers_delay_no_agent() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut peers = Vec::new();
    for _ in 0..400 {
        peers.push(timeout(SOON, TcpStream::connect(port.address)).await.expect("accepted").unwrap());
    }
    let agent = world.agent("n1", port.address);
    admitted(&agent).await;
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_connections_without_a_stream_end_within_seconds() {
    let world = World::new([]);
    let port = world.port(None).await;
    let mut stream = silent(&world, &port).await;
    let read =
        timeout(Duration::from_secs(7), async { while stream.read(&mut [0; 64]).await.unwrap_or(0) > 0 {} });
    read.await.expect("closed");
    // A refused peer's connection is closed.
    assert!(world.client(port.address, Some("nobody")).await.is_err());
    timeout(SOON, async {
        while connections(&world) > 0 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("no connection is left");
    port.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_tls_connections_make_room() {
    let world = World::new([]);
    let limits = Limits { unproven: 50, first_request: Duration::from_mins(1), ..Limits::agents() };
    let port = world.port_with(None, limits).await;
    let agent = world.agent("n1", port.address);
    admitted(&agent).await;
    let mut peers = Vec::new();
    for _ in 0..150 {
        peers.push(silent(&world, &port).await);
        assert!(connections(&world) <= 51, "{} are open", connections(&world));
    }
    let other = world.agent("n2", port.address);
    admitted(&other).await;
    assert_eq!(agent.publisher.live_streams(), 1, "agents make no room");
    port.stop().await;
}
