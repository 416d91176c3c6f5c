//! The server's process.

use std::{fs, io::Write as _, path::Path, sync::Arc, time::Duration};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls_pki_types::PrivatePkcs8KeyDer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use waggle_aggregator::{
    api::{Now, server},
    serve::Limits,
    tls,
};

use crate::cluster::{Cluster, NODES, api};

/// Nodes sampled together: a thousand spread over each second.
const TOGETHER: usize = 10;

/// Serves until it is killed or its standard input ends. The certificate lies in `directory` as `tls.crt`; the first line
/// of the output is the address.
pub async fn serve(directory: &Path) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(directory.join("tls.crt"), cert.pem()).expect("the certificate can be written");
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let live = tls::Live::default();
    live.replace(tls::Serving::new(vec![cert.der().clone()], key.into()).expect("they were made together"));
    let config = tls::api_config(live).expect("the provider has both versions");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("it is bound");

    let mut cluster = Cluster::new(NODES);
    let served = Arc::new(api(&cluster.source, Now::read));
    let ports =
        server::serve(served, listener, config, Limits::api(), CancellationToken::new(), Duration::ZERO);
    tokio::spawn(ports);
    let mut out = std::io::stdout();
    writeln!(out, "{address}").and_then(|()| out.flush()).expect("the parent reads");

    let pace =
        Duration::from_secs(1) * u32::try_from(TOGETHER).unwrap_or(1) / u32::try_from(NODES).unwrap_or(1);
    let mut ticks = tokio::time::interval(pace);
    let mut parent = Box::pin(tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())));
    let mut next = 0;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = &mut parent => std::process::exit(0),
        }
        for index in next..next + TOGETHER {
            cluster.sample(index);
        }
        next = (next + TOGETHER) % NODES;
    }
}
