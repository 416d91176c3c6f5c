//! The self-managed CA: its first life, replicas that agree, rotation, loss, and everything that can be wrong with its objects.

use std::{sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use http::StatusCode;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use waggle_stand_in::{Authority, Kind, StandIn};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    common::{Aggregator, MASTER},
    load::{Load, Peer, Server, ask, until},
};

/// Looks often, so that the tests are short; readers of the bundle in these tests take up to a second.
const QUICK: [&str; 4] = ["--ca-interval", "300ms", "--ca-overlap", "2s"];
const NAME: &str = "waggle-aggregator.waggle-system.svc";

pub struct Installation {
    pub stand_in: Arc<StandIn>,
    pub files: tempfile::TempDir,
}

impl Installation {
    pub async fn shipped() -> Self {
        let installation = Self::without_objects().await;
        installation.stand_in.ship_certificates().unwrap();
        installation
    }

    async fn without_objects() -> Self {
        let stand_in = Arc::new(StandIn::builder().start().await.unwrap());
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("kubeconfig"), stand_in.aggregator_kubeconfig().unwrap()).unwrap();
        Self { stand_in, files }
    }

    pub async fn launch(&self, flags: &[&str]) -> Aggregator {
        Aggregator::launch(self.files.path(), &[&QUICK, flags].concat()).await
    }

    /// Everything that a client of this replica needs, trusting what the ConfigMap says.
    pub fn server(&self, aggregator: &Aggregator) -> Server {
        let stand_in = Arc::clone(&self.stand_in);
        Server {
            address: aggregator.api,
            name: ServerName::try_from(NAME).unwrap(),
            bundle: Arc::new(move || config_map(&stand_in)),
        }
    }

    pub fn front_proxy(&self) -> Peer {
        Peer { identity: self.stand_in.front_proxy_client().clone(), headers: MASTER.to_vec() }
    }

    /// Waits until the replica answers the front proxy.
    pub async fn serves(&self, aggregator: &Aggregator) {
        let (server, peer) = (self.server(aggregator), self.front_proxy());
        until("a certificate of a published CA", async || server.certificate().await.is_ok()).await;
        until("the front proxy let in", async || {
            let sender = server.open(&peer).await.unwrap();
            ask(sender, &peer).await.unwrap() == StatusCode::OK
        })
        .await;
    }

    fn secret(&self) -> Value {
        self.stand_in.get(Kind::Secret, "waggle-system", "waggle-ca").unwrap()
    }

    fn set_secret(&self, data: &Value) {
        let mut secret = self.secret();
        secret["data"] = data.clone();
        self.stand_in.apply(secret).unwrap();
    }

    /// The certificate of the CA that signs; empty where there is none.
    fn signer(&self) -> String {
        let data = self.secret()["data"]["ca.crt"].as_str().unwrap_or_default().to_owned();
        String::from_utf8(STANDARD.decode(data).unwrap()).unwrap()
    }

    /// As the manual says: any value under `rotate`.
    fn ask_for_rotation(&self) {
        let mut data = self.secret()["data"].clone();
        data["rotate"] = json!(STANDARD.encode("now"));
        self.set_secret(&data);
    }
}

fn config_map(stand_in: &StandIn) -> String {
    let object = stand_in.get(Kind::ConfigMap, "waggle-system", "waggle-ca");
    object.and_then(|object| object["data"]["ca.crt"].as_str().map(str::to_owned)).unwrap_or_default()
}

fn ca_bundle(stand_in: &StandIn, version: &str) -> String {
    let object = stand_in.get(Kind::ApiService, "", &format!("{version}.metrics.k8s.io")).unwrap();
    let bundle = STANDARD.decode(object["spec"]["caBundle"].as_str().unwrap_or_default()).unwrap();
    String::from_utf8(bundle).unwrap()
}

/// The common name of the issuer of what a server serves with.
async fn issuer(server: &Server) -> String {
    let certificate = server.certificate().await.unwrap();
    let (_, certificate) = X509Certificate::from_der(&certificate).unwrap();
    certificate.issuer().to_string()
}

fn subjects(pem: &str) -> Vec<String> {
    x509_parser::pem::Pem::iter_from_buffer(pem.as_bytes())
        .map(|block| block.unwrap().parse_x509().unwrap().subject().to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_agree_on_one_ca() {
    let installation = Installation::shipped().await;
    let stand_in = &installation.stand_in;
    let (first, second) = tokio::join!(installation.launch(&[]), installation.launch(&[]));
    installation.serves(&first).await;
    installation.serves(&second).await;
    let signer = subjects(&installation.signer());
    assert_eq!(signer.len(), 1);
    assert_eq!(subjects(&config_map(stand_in)), signer);
    for version in ["v1", "v1beta1"] {
        assert_eq!(ca_bundle(stand_in, version), config_map(stand_in));
    }
    for replica in [&first, &second] {
        let server = installation.server(replica);
        assert_eq!(issuer(&server).await, signer[0]);
        let name = ServerName::try_from("waggle-ingest.waggle-system.svc").unwrap();
        let agents = Server { address: replica.ingest, name, ..server };
        assert_eq!(issuer(&agents).await, signer[0], "the agents' port proves its Service's name");
        for check in ["serving-certificate-valid", "ca-bundle-published", "agent-listener-ready"] {
            let path = format!("/readyz/{check}");
            let caller = Peer { headers: MASTER.to_vec(), ..installation.front_proxy() };
            until(check, async || get(&installation.server(replica), &caller, &path).await.1 == "ok").await;
        }
    }
    stand_in.backend("waggle-system", "waggle-aggregator", first.api);
    for name in ["v1.metrics.k8s.io", "v1beta1.metrics.k8s.io"] {
        until("the APIService available: the check trusts caBundle only", async || {
            stand_in.is_available(name)
        })
        .await;
    }
    let data = &installation.secret()["data"];
    assert_eq!(data.as_object().unwrap().keys().collect::<Vec<_>>(), ["ca.crt", "ca.key"]);
}

async fn get(server: &Server, peer: &Peer, path: &str) -> (StatusCode, String) {
    use http_body_util::{BodyExt, Empty};
    let mut sender = server.open(peer).await.unwrap();
    let mut request = http::Request::get(format!("https://waggle{path}"));
    for (name, value) in &peer.headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, String::from_utf8(body.to_vec()).unwrap())
}

/// The value of the first line of `/metrics` that begins so.
async fn metric(server: &Server, peer: &Peer, line: &str) -> u64 {
    let (_, text) = get(server, peer, "/metrics").await;
    let value = text.lines().find(|known| known.starts_with(line));
    value.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_own_ca_is_replaced_under_load() {
    let installation = Installation::shipped().await;
    let (first, second) = tokio::join!(installation.launch(&[]), installation.launch(&[]));
    installation.serves(&first).await;
    installation.serves(&second).await;
    let before = subjects(&installation.signer());
    // The slowest reader: it looks once a second.
    let stand_in = Arc::clone(&installation.stand_in);
    let read = parking_lot::Mutex::new((std::time::Instant::now(), config_map(&stand_in)));
    let slow = move || {
        let mut read = read.lock();
        if read.0.elapsed() > Duration::from_secs(1) {
            *read = (std::time::Instant::now(), config_map(&stand_in));
        }
        read.1.clone()
    };
    let server = Server { bundle: Arc::new(slow), ..installation.server(&first) };
    let load = Load::start(server.clone(), installation.front_proxy()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    installation.ask_for_rotation();
    until("the new CA in use", async || subjects(&installation.signer()) != before).await;
    let after = subjects(&installation.signer());
    for replica in [&first, &second] {
        let server = installation.server(replica);
        until("a certificate of the new CA", async || issuer(&server).await == after[0]).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.end().await;
    let published = subjects(&config_map(&installation.stand_in));
    assert_eq!(published.len(), 2, "old and new overlap: {published:?}");
    assert!(published.contains(&before[0]) && published.contains(&after[0]));
    assert_eq!(ca_bundle(&installation.stand_in, "v1"), config_map(&installation.stand_in));
    assert_eq!(metric(&server, &installation.front_proxy(), "waggle_ca_trusted ").await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_serving_certificate_is_renewed_under_load_and_a_ca_that_signs_no_more_goes() {
    let installation = Installation::shipped().await;
    // Renewed after 8 s; 4 s are left for a busy machine.
    let aggregator = installation.launch(&["--serving-life", "12s", "--ca-life", "1h"]).await;
    installation.serves(&aggregator).await;
    let server = installation.server(&aggregator);
    let ca = installation.signer();
    let load = Load::start(server.clone(), installation.front_proxy()).await;
    let first = server.certificate().await.unwrap();
    until("a new certificate", async || server.certificate().await.unwrap() != first).await;
    assert_eq!(installation.signer(), ca, "of the same CA");
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.end().await;
    installation.ask_for_rotation();
    // Whoever connects meanwhile trusts what he is shown.
    until("the new CA in use", async || {
        server.certificate().await.unwrap();
        installation.signer() != ca
    })
    .await;
    until("the old CA dropped", async || {
        server.certificate().await.unwrap();
        subjects(&config_map(&installation.stand_in)).len() == 1
    })
    .await;
    assert_eq!(subjects(&config_map(&installation.stand_in)), subjects(&installation.signer()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_secret_and_a_drifted_bundle_are_made_good_under_load() {
    let installation = Installation::shipped().await;
    let stand_in = &installation.stand_in;
    let aggregator = installation.launch(&[]).await;
    installation.serves(&aggregator).await;
    let before = subjects(&installation.signer());
    let server = installation.server(&aggregator);
    // A reader that has read the bundle before keeps it while somebody empties it.
    let kept = parking_lot::Mutex::new(config_map(stand_in));
    let reader = Arc::clone(stand_in);
    let bundle = move || {
        let (mut kept, read) = (kept.lock(), config_map(&reader));
        if !read.is_empty() {
            *kept = read;
        }
        kept.clone()
    };
    let load =
        Load::start(Server { bundle: Arc::new(bundle), ..server.clone() }, installation.front_proxy()).await;
    for version in ["v1", "v1beta1"] {
        stand_in.register("metrics.k8s.io", version, ("waggle-system", "waggle-aggregator"), "").unwrap();
    }
    let mut drifted = stand_in.get(Kind::ConfigMap, "waggle-system", "waggle-ca").unwrap();
    drifted["data"] = json!({});
    stand_in.apply(drifted).unwrap();
    until("the drift undone", async || {
        let bundle = config_map(stand_in);
        subjects(&bundle) == before && ["v1", "v1beta1"].iter().all(|v| ca_bundle(stand_in, v) == bundle)
    })
    .await;
    installation.set_secret(&json!({}));
    until("a new CA in use", async || {
        let signer = subjects(&installation.signer());
        !signer.is_empty() && signer != before && issuer(&server).await == signer[0]
    })
    .await;
    let published = subjects(&config_map(stand_in));
    assert!(
        published.len() == 2 && published.contains(&before[0]),
        "the old one is still trusted: {published:?}"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_api_server_a_replica_serves_with_what_it_has() {
    let installation = Installation::shipped().await;
    let aggregator = installation.launch(&[]).await;
    installation.serves(&aggregator).await;
    let server = installation.server(&aggregator);
    let load = Load::start(server.clone(), installation.front_proxy()).await;
    installation.stand_in.stop().await;
    let peer = installation.front_proxy();
    until("the loss counted", async || {
        metric(&server, &peer, "waggle_ca_errors_total{reason=\"failed\"}").await > 0
    })
    .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(get(&server, &peer, "/readyz/serving-certificate-valid").await.1, "ok");
    let ca = installation.signer();
    installation.ask_for_rotation();
    installation.stand_in.resume().await.unwrap();
    until("the CA cared for again", async || installation.signer() != ca).await;
    load.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_said_and_waited_for() {
    let installation = Installation::without_objects().await;
    let aggregator = installation.launch(&[]).await;
    let says = "Secret waggle-system/waggle-ca does not exist; it is shipped with the manifests and never created here";
    until(says, async || aggregator.log().contains(says)).await;
    assert_eq!(installation.stand_in.requests("create secrets"), 0);
    let server = installation.server(&aggregator);
    server.certificate().await.unwrap_err();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(aggregator.log().matches(says).count(), 1, "said once");
    installation.stand_in.ship_certificates().unwrap();
    installation.serves(&aggregator).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_metrics_server_its_registration_is_left_alone_until_it_points_here() {
    let installation = Installation::shipped().await;
    let stand_in = &installation.stand_in;
    let theirs = Authority::new("metrics-server's").unwrap().pem().to_owned();
    let register =
        |service, bundle: &str| stand_in.register("metrics.k8s.io", "v1beta1", service, bundle).unwrap();
    register(("kube-system", "metrics-server"), &theirs);
    let aggregator = installation.launch(&[]).await;
    installation.serves(&aggregator).await;
    let says = "APIService v1beta1.metrics.k8s.io points to another Service: its caBundle is left alone until it \
                points to waggle-system/waggle-aggregator";
    until(says, async || aggregator.log().contains(says)).await;
    assert_eq!(ca_bundle(stand_in, "v1beta1"), theirs);
    assert_eq!(ca_bundle(stand_in, "v1"), config_map(stand_in), "ours is cared for meanwhile");
    register(("waggle-system", "waggle-aggregator"), "");
    until("its bundle", async || ca_bundle(stand_in, "v1beta1") == config_map(stand_in)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_or_torn_secret_is_said_and_left_alone() {
    let installation = Installation::shipped().await;
    let aggregator = installation.launch(&[]).await;
    installation.serves(&aggregator).await;
    let (server, peer) = (installation.server(&aggregator), installation.front_proxy());
    let good = installation.secret()["data"].clone();
    let mut torn = good.clone();
    torn.as_object_mut().unwrap().remove("ca.key");
    let foreign = json!({"tls.crt": STANDARD.encode("somebody else's")});
    for (data, says) in [
        (torn, r#"it has "ca.crt" without "ca.key"; it is left as it is"#),
        (foreign, r#"it has a key "tls.crt", which is none of Waggle's; it is left as it is"#),
    ] {
        let line = "waggle_ca_errors_total{reason=\"secret-unusable\"}";
        let before = metric(&server, &peer, line).await;
        installation.set_secret(&data);
        until(says, async || aggregator.log().contains(says)).await;
        until("another attempt", async || metric(&server, &peer, line).await > before + 1).await;
        assert_eq!(installation.secret()["data"], data, "not overwritten");
        assert_eq!(
            ask(server.open(&peer).await.unwrap(), &peer).await,
            Ok(StatusCode::OK),
            "served all the same"
        );
        let fresh = installation.launch(&[]).await;
        until(says, async || fresh.log().contains(says)).await;
        installation.server(&fresh).certificate().await.unwrap_err();
        installation.set_secret(&good);
        installation.serves(&fresh).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_does_not_know_the_issuer_reads_the_bundle_anew() {
    let installation = Installation::shipped().await;
    let aggregator = installation.launch(&[]).await;
    installation.serves(&aggregator).await;
    let name = ServerName::try_from("waggle-ingest.waggle-system.svc").unwrap();
    let ca = installation.files.path().join("ca.crt");
    let connector =
        waggle_agent::report::Connector::new(ca.clone(), installation.files.path().join("token"), name);
    std::fs::write(&ca, Authority::new("another").unwrap().pem()).unwrap();
    let error = connector.connect(aggregator.ingest).await.unwrap_err().to_string();
    assert!(error.contains("UnknownIssuer"), "{error}");
    std::fs::write(&ca, config_map(&installation.stand_in)).unwrap();
    connector.connect(aggregator.ingest).await.unwrap();
    // The kubelet writes it in one step; whoever does not leaves a torn file for a moment.
    std::fs::write(&ca, &config_map(&installation.stand_in)[..200]).unwrap();
    connector.connect(aggregator.ingest).await.unwrap();
}
