//! The aggregators' names, and when to look each one up.
//!
//! A look-up is repeated when the answer's TTL has passed, at least [`SHORTEST`] and at most [`LONGEST`] after it, plus up
//! to half of that at random, so that agents whose answers came from one shared cache do not all ask when it expires. The
//! upper limit is below the 30 s of kubeadm's Corefile: in a rolling update the new replica needs streams soon.
//!
//! The name that answered is asked for from then on, without the search list: of the three names that `resolv.conf` makes
//! of `waggle-ingest.waggle-system.svc` in a pod (`ndots:5`), the third one exists. A look-up is then two queries, A and
//! AAAA. 5,000 agents make 530 queries per second at a TTL of 15 s or more (5,000 × 2 / 18.75 s), 1,600 at `CoreDNS`' own
//! default of 5 s, and 1,600 while no aggregator runs.

use std::{collections::HashSet, net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    net::NetError,
    proto::rr::{IntoName, Name},
};
use tokio::time::Instant;

use super::Target;

/// Between two look-ups of a name, at least; also while no stream is open, for then a new replica is urgent.
pub(super) const SHORTEST: Duration = Duration::from_secs(5);
/// Between two look-ups of a name, at most, before half as much again at random.
const LONGEST: Duration = Duration::from_secs(15);

/// All targets with their newest addresses.
pub(super) struct Names {
    literal: HashSet<SocketAddr>,
    entries: Vec<Entry>,
    resolver: Option<TokioResolver>,
}

/// A name. A failed look-up leaves the addresses as they were.
struct Entry {
    host: String,
    port: u16,
    /// The name out of the search list that answered.
    found_as: Option<Name>,
    addresses: HashSet<SocketAddr>,
    asked: Option<Instant>,
    due: Instant,
    failures: u32,
}

impl Names {
    pub(super) fn new(targets: &[Target]) -> Self {
        let mut names = Self { literal: HashSet::new(), entries: Vec::new(), resolver: None };
        let due = Instant::now();
        for target in targets {
            match target {
                Target::Address(address) => {
                    names.literal.insert(*address);
                }
                Target::Name { host, port } => names.entries.push(Entry {
                    host: host.clone(),
                    port: *port,
                    found_as: None,
                    addresses: HashSet::new(),
                    asked: None,
                    due,
                    failures: 0,
                }),
            }
        }
        names
    }

    /// The addresses of all targets, as far as they are known.
    pub(super) fn addresses(&self) -> HashSet<SocketAddr> {
        self.entries.iter().flat_map(|entry| &entry.addresses).chain(&self.literal).copied().collect()
    }

    /// When the next look-up is due; `None` without names.
    pub(super) fn due(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.due).min()
    }

    /// A stream was lost: its replica may have been replaced. `chance`, uniform in [0, 1), spreads the look-ups of all
    /// agents that lost one.
    pub(super) fn hurry(&mut self, now: Instant, chance: f64) {
        for entry in &mut self.entries {
            let earliest = entry.asked.map_or(now, |asked| asked + SHORTEST);
            entry.due = entry.due.min(earliest.max(now + SHORTEST.mul_f64(chance)));
        }
    }

    /// Looks up the names that are due. `is_live`: whether a stream is open.
    pub(super) async fn look_up(&mut self, now: Instant, is_live: impl Fn() -> bool) {
        for at in 0..self.entries.len() {
            let Some(entry) = self.entries.get(at).filter(|entry| entry.due <= now) else { continue };
            let (host, found_as) = (entry.host.clone(), entry.found_as.clone());
            let answer = match found_as {
                Some(name) => self.ask(name).await,
                None => self.ask(host.as_str()).await,
            };
            if let Some(entry) = self.entries.get_mut(at) {
                entry.take(answer, Instant::now(), is_live(), fastrand::f64());
            }
        }
    }

    async fn ask(&mut self, name: impl IntoName) -> Result<Answer, NetError> {
        let resolver = if let Some(resolver) = self.resolver.take() {
            resolver
        } else {
            let mut builder = TokioResolver::builder_tokio()?;
            // The TTL is honoured here, where it has limits.
            builder.options_mut().cache_size = 0;
            builder.build()?
        };
        let found = resolver.lookup_ip(name).await;
        self.resolver = Some(resolver);
        let found = found?;
        let mut name = found.as_lookup().query().name().clone();
        name.set_fqdn(true);
        // Of both families: hickory asks for both and leaves out the one that does not exist.
        let addresses = found.iter().collect();
        let until = found.as_lookup().valid_until();
        Ok(Answer { name, addresses, ttl: until.saturating_duration_since(std::time::Instant::now()) })
    }
}

/// What the name servers know of a name.
struct Answer {
    name: Name,
    addresses: Vec<std::net::IpAddr>,
    ttl: Duration,
}

impl Entry {
    fn take(&mut self, answer: Result<Answer, NetError>, now: Instant, is_live: bool, chance: f64) {
        self.asked = Some(now);
        match answer {
            Ok(Answer { name, addresses, ttl }) => {
                let port = self.port;
                self.addresses =
                    addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
                self.found_as = Some(name);
                self.failures = 0;
                self.due = now + jittered(if is_live { ttl } else { SHORTEST }, chance);
            }
            Err(error) => {
                // The search list may have changed with the cluster's domain.
                self.found_as = None;
                self.failures = self.failures.saturating_add(1);
                self.due = now + jittered(SHORTEST * 2_u32.saturating_pow(self.failures - 1), chance);
                // Log at 1, 2, 4, 8 … failures: DNS outages last a while.
                if self.failures.is_power_of_two() {
                    tracing::warn!(
                        host = self.host, %error, failures = self.failures,
                        "cannot resolve the aggregator's name; is the cluster DNS reachable?"
                    );
                }
            }
        }
    }
}

/// Within the limits, and up to half as long again.
fn jittered(wait: Duration, chance: f64) -> Duration {
    wait.clamp(SHORTEST, LONGEST).mul_f64(1.0 + chance / 2.0)
}

#[cfg(test)]
mod tests;
