//! Certificates from files: new content is served, what cannot be used is not.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use rustls::{HandshakeKind, SupportedProtocolVersion, client::Resumption};
use rustls_pki_types::ServerName;
use waggle_stand_in::{Authority, Identity, StandIn};

use crate::{
    common::{Aggregator, FILES, MASTER},
    load::{Load, Peer, Server, ask, speak, until},
};

const NAME: &str = "waggle.example";

fn write(directory: &std::path::Path, identity: &Identity) {
    // One after the other, as a careless script does it: for a moment they do not go together.
    std::fs::write(directory.join("tls.crt"), &identity.certificate_pem).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(directory.join("tls.key"), &identity.key_pem).unwrap();
}

async fn started() -> (StandIn, tempfile::TempDir, Aggregator, Server, Arc<Mutex<String>>) {
    let stand_in = StandIn::builder().start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let ca = Authority::new("first-ca").unwrap();
    std::fs::write(directory.path().join("kubeconfig"), stand_in.aggregator_kubeconfig().unwrap()).unwrap();
    write(directory.path(), &ca.serving(&[NAME]).unwrap());
    let flags = [&FILES[..], &["--file-interval", "100ms"]].concat();
    let aggregator = Aggregator::launch(directory.path(), &flags).await;
    let trusted = Arc::new(Mutex::new(ca.pem().to_owned()));
    let bundle = Arc::clone(&trusted);
    let server = Server {
        address: aggregator.api,
        name: ServerName::try_from(NAME).unwrap(),
        bundle: Arc::new(move || bundle.lock().clone()),
    };
    let peer = front_proxy(&stand_in);
    until("the front proxy let in", async || {
        ask(server.open(&peer).await.unwrap(), &peer).await.is_ok_and(|status| status == 200)
    })
    .await;
    (stand_in, directory, aggregator, server, trusted)
}

fn front_proxy(stand_in: &StandIn) -> Peer {
    Peer { identity: stand_in.front_proxy_client().clone(), headers: MASTER.to_vec() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_replaced_under_load_and_torn_ones_are_not_served() {
    let (stand_in, directory, aggregator, server, trusted) = started().await;
    let first = server.certificate().await.unwrap();
    let load = Load::start(server.clone(), front_proxy(&stand_in)).await;
    std::fs::write(directory.path().join("tls.crt"), "-----BEGIN CERTIFICATE-----\ntorn").unwrap();
    let says = "going on with the last good certificate";
    until(says, async || aggregator.log().contains(says)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // One line for each port, however often it was looked at.
    assert_eq!(aggregator.log().matches(says).count(), 2);
    assert_eq!(server.certificate().await.unwrap(), first);
    let ca = Authority::new("second-ca").unwrap();
    trusted.lock().push_str(ca.pem());
    tokio::time::sleep(Duration::from_millis(200)).await;
    let next = ca.serving(&[NAME]).unwrap();
    let path = directory.path().to_owned();
    tokio::task::spawn_blocking(move || write(&path, &next)).await.unwrap();
    until("the new certificate", async || server.certificate().await.unwrap() != first).await;
    ca.pem().clone_into(&mut trusted.lock());
    server.certificate().await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_never_resumed_after_a_rotation_nor_before_one() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        resumption(version).await;
    }
}

/// With a client that would resume; the front proxy's CA and the serving certificate are replaced in between.
async fn resumption(version: &'static SupportedProtocolVersion) {
    let (stand_in, directory, _aggregator, server, trusted) = started().await;
    let peer = front_proxy(&stand_in);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let second_ca = Authority::new("second-ca").unwrap();
    trusted.lock().push_str(second_ca.pem());
    let mut roots = rustls::RootCertStore::empty();
    for certificate in x509_parser::pem::Pem::iter_from_buffer(trusted.lock().as_bytes()) {
        roots.add(certificate.unwrap().contents.into()).unwrap();
    }
    let (chain, key) = peer.identity.to_rustls().unwrap();
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    tls.resumption = Resumption::in_memory_sessions(16);
    let tls = Arc::new(tls);
    let mut certificates = Vec::new();
    for round in 0..3 {
        let stream = server.connect(Arc::clone(&tls)).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(HandshakeKind::Full), "{version:?}, connection {round}");
        certificates.push(session.peer_certificates().unwrap()[0].clone().into_owned());
        let status = ask(speak(stream).await.unwrap(), &peer).await.unwrap();
        if round < 2 {
            assert_eq!(status, 200);
        } else {
            assert_eq!(status, 401, "{version:?}: a certificate of the CA that was taken away");
        }
        if round == 1 {
            let mut config = stand_in.authentication_config();
            config["data"]["requestheader-client-ca-file"] = Authority::new("new").unwrap().pem().into();
            stand_in.apply(config).unwrap();
            let next = second_ca.serving(&[NAME]).unwrap();
            let path = directory.path().to_owned();
            tokio::task::spawn_blocking(move || write(&path, &next)).await.unwrap();
            until("both replaced", async || {
                let refused = ask(server.open(&peer).await.unwrap(), &peer).await.unwrap() == 401;
                refused && server.certificate().await.unwrap() != certificates[0]
            })
            .await;
        }
    }
    assert_eq!(certificates[0], certificates[1]);
    assert_ne!(certificates[0], certificates[2]);
}
