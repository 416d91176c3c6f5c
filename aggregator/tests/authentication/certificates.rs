//! TLS of the API port (authentication.md, A1) and client certificates (A5).

use std::sync::Arc;

use http::StatusCode;
use parking_lot::Mutex;
use rcgen::{DnType, ExtendedKeyUsagePurpose};
use rustls::{
    ClientConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use serde_json::json;
use waggle_stand_in::{Authority, Identity, StandIn};

use crate::{
    common::{Aggregator, Connection, NODES, Protocol},
    reviewed,
};

/// `kubernetes.io` subject attribute for UIDs.
const UID: [u64; 8] = [1, 3, 6, 1, 4, 1, 57683, 2];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_client_certificate_must_be() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let late_ca = Authority::expired("late-ca").unwrap();
    let mut config = stand_in.authentication_config();
    config["data"]["client-ca-file"] = json!(format!("{}{}", stand_in.cluster_ca_pem(), late_ca.pem()));
    stand_in.apply(config).unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let cluster = stand_in.cluster_ca();
    let middle = cluster.intermediate("middle-ca").unwrap();
    let below = middle.client("below", &["dev"]).unwrap();
    let with_chain =
        Identity { certificate_pem: format!("{}{}", below.certificate_pem, middle.pem()), ..below.clone() };
    let uid = |value: &'static str| {
        cluster.client_with("uid", |params| {
            params.distinguished_name.push(DnType::CustomDnType(UID.to_vec()), value);
        })
    };
    let usage = |usages: Vec<ExtendedKeyUsagePurpose>| {
        cluster.client_with("usage", |params| params.extended_key_usages = usages)
    };
    let rows = [
        ("two organizations", cluster.client("two", &["a", "b"]).unwrap(), Some(json!(["two", null]))),
        ("a UID", uid("u-1").unwrap(), Some(json!(["uid", "u-1"]))),
        ("no common name", cluster.client("", &["dev"]).unwrap(), None),
        ("no extended key usage", usage(vec![]).unwrap(), Some(json!(["usage", null]))),
        ("for servers only", usage(vec![ExtendedKeyUsagePurpose::ServerAuth]).unwrap(), None),
        ("for signing code only", usage(vec![ExtendedKeyUsagePurpose::CodeSigning]).unwrap(), None),
        ("with its intermediate", with_chain, Some(json!(["below", null]))),
        ("without its intermediate", below, None),
        ("a CA whose own time is over", late_ca.client("late", &["dev"]).unwrap(), None),
    ];
    for protocol in Protocol::BOTH {
        for (number, (case, identity, expected)) in rows.iter().enumerate() {
            stand_in.take_access_reviews();
            let path = format!("{NODES}/{protocol:?}-{number}");
            let answer = aggregator.caller(Some(identity), protocol).get(&path, &[]).await;
            let Some(expected) = expected else {
                assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{case}");
                continue;
            };
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{case}: {}", answer.body);
            let spec = reviewed(&stand_in, case);
            assert_eq!(json!([spec["user"], spec["uid"]]), *expected, "{case}");
            let credential = spec["extra"]["authentication.kubernetes.io/credential-id"][0].as_str().unwrap();
            assert!(credential.starts_with("X509SHA256=") && credential.len() == 11 + 64, "{credential}");
        }
    }
}

/// Remembers which CAs the server names, and presents nothing.
#[derive(Debug, Default)]
struct Hints(Mutex<Vec<usize>>);

impl ResolvesClientCert for Hints {
    fn resolve(&self, hints: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.lock().push(hints.len());
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_asked_for_without_naming_a_ca() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    let hints = Arc::new(Hints::default());
    let mut tls = aggregator.tls(None);
    tls.client_auth_cert_resolver = Arc::clone(&hints) as _;
    let mut connection = connect(&aggregator, tls, Protocol::Http2).await;
    assert_eq!(connection.get("/livez", &[]).await.unwrap().status, StatusCode::OK);
    assert_eq!(*hints.0.lock(), [0], "asked once, with no names of CAs");
}

async fn connect(aggregator: &Aggregator, tls: ClientConfig, protocol: Protocol) -> Connection {
    let stream = aggregator.handshake(tls, protocol).await.unwrap();
    Connection::open(stream, aggregator.api, protocol).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_never_resumed() {
    let stand_in = StandIn::builder().start().await.unwrap();
    let aggregator = Aggregator::start(&stand_in).await;
    for version in [&TLS12, &TLS13] {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let (chain, key) = stand_in.front_proxy_client().to_rustls().unwrap();
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(aggregator.roots.clone())
            .with_client_auth_cert(chain, key)
            .unwrap();
        // One store for all attempts: what the server gave the first time could be used the second.
        tls.resumption = Resumption::in_memory_sessions(16);
        for attempt in 0..3 {
            let stream = aggregator.handshake(tls.clone(), Protocol::Http2).await.unwrap();
            let session = stream.get_ref().1;
            assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full), "{version:?} {attempt}");
            assert_eq!(session.protocol_version(), Some(version.version));
            let mut connection = Connection::open(stream, aggregator.api, Protocol::Http2).await;
            // An answer read: tickets would have come before it.
            assert_eq!(
                connection.get("/livez", &[("x-remote-user", "a")]).await.unwrap().status,
                StatusCode::OK
            );
        }
    }
}
