//! What the peer of one connection presented, and what that was last found to be worth. The verdict is kept with the
//! connection, never beyond a new configuration or the next moment at which time itself would change it.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{
    authenticate::{Judgement, judge},
    bundle::Bundle,
    config::Snapshot,
    x509,
};

/// The certificates that the peer of a connection presented, leaf first; empty when it presented none. The handshake
/// proved possession of the leaf's key and nothing else. A request extension of every request on the API port.
#[derive(Clone, Default)]
pub struct PeerCertificates {
    connection: Arc<Connection>,
}

#[derive(Default)]
struct Connection {
    chain: Vec<CertificateDer<'static>>,
    judged: ArcSwapOption<Judged>,
}

/// A verdict, and how long it stands.
#[derive(Debug)]
pub(super) struct Judged {
    generation: u64,
    /// Seconds since the epoch at which a certificate begins or ceases to be valid.
    until: u64,
    pub(super) judgement: Judgement,
}

impl std::fmt::Debug for PeerCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerCertificates").field("presented", &self.connection.chain.len()).finish()
    }
}

impl PeerCertificates {
    /// Of a connection whose handshake is done.
    pub fn new(chain: Vec<CertificateDer<'static>>) -> Self {
        Self { connection: Arc::new(Connection { chain, judged: ArcSwapOption::empty() }) }
    }

    /// Whether the peer presented none.
    pub fn is_empty(&self) -> bool {
        self.connection.chain.is_empty()
    }

    /// What they are worth now.
    pub(super) fn judged(&self, snapshot: &Snapshot, now: UnixTime) -> Arc<Judged> {
        let standing = self.connection.judged.load_full();
        let stands =
            |known: &Arc<Judged>| known.generation == snapshot.generation && now.as_secs() < known.until;
        if let Some(known) = standing.filter(stands) {
            return known;
        }
        let judgement = judge(&self.connection.chain, snapshot, now);
        let until = next_edge(&self.connection.chain, snapshot, now);
        let judged = Arc::new(Judged { generation: snapshot.generation, until, judgement });
        self.connection.judged.store(Some(Arc::clone(&judged)));
        judged
    }
}

/// The next second at which some certificate, presented or trusted, begins or ceases to be valid.
fn next_edge(chain: &[CertificateDer<'_>], snapshot: &Snapshot, now: UnixTime) -> u64 {
    let presented = chain.iter().filter_map(|certificate| x509::validity(certificate).ok());
    let bundles = snapshot.client_ca.iter().chain(snapshot.request_header.iter().map(|rules| &rules.ca));
    let edges = presented
        .chain(bundles.flat_map(Bundle::validities))
        .flat_map(|(not_before, not_after)| [not_before, not_after.saturating_add(1)]);
    edges
        .filter_map(|edge| u64::try_from(edge).ok())
        .filter(|edge| *edge > now.as_secs())
        .min()
        .unwrap_or(u64::MAX)
}
