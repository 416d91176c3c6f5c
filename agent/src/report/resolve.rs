//! From names to addresses, again and again, and one task per address. An address that is gone from the names keeps its
//! stream for as long as that lives.

use std::{collections::HashSet, net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use hickory_resolver::TokioResolver;
use tokio::{sync::watch, task::JoinSet};

use super::{Shared, stream};

const EVERY: Duration = Duration::from_secs(5);

/// A literal address or a name, with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Streamed to as it is.
    Address(SocketAddr),
    /// Resolved again and again.
    Name {
        /// A DNS name.
        host: String,
        /// TCP port.
        port: u16,
    },
}

/// Not `HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no aggregator address: write HOST:PORT, as in waggle-ingest.waggle-system.svc:8444 or [::1]:8444"
)]
pub struct TargetError(String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let error = || TargetError(text.to_owned());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        let name = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if host.is_empty() || host.len() > 253 || !host.bytes().all(name) {
            return Err(error());
        }
        Ok(Self::Name { host: host.to_owned(), port: port.parse().map_err(|_| error())? })
    }
}

/// Never ends; dropped, it ends all streams.
pub(super) async fn run(shared: &Arc<Shared>) {
    let (wanted, _) = watch::channel(HashSet::new());
    let mut tasks = JoinSet::new();
    let mut running = HashSet::new();
    let mut names = Names::default();
    loop {
        let mut addresses = HashSet::new();
        for target in &shared.config.aggregators {
            match target {
                Target::Address(address) => {
                    addresses.insert(*address);
                }
                Target::Name { host, port } => addresses.extend(names.resolve(host, *port).await),
            }
        }
        wanted.send_replace(addresses.clone());
        for address in addresses {
            if running.insert(address) {
                tasks.spawn(stream::run(Arc::clone(shared), address, wanted.subscribe()));
            }
        }
        let next = tokio::time::Instant::now() + EVERY;
        while let Ok(Some(ended)) = tokio::time::timeout_at(next, tasks.join_next()).await {
            match ended {
                Ok(address) => running.remove(&address),
                Err(error) => {
                    tracing::error!(%error, "a stream's task failed");
                    running.clear();
                    tasks.abort_all();
                    break;
                }
            };
        }
        tokio::time::sleep_until(next).await;
    }
}

/// The last good answer for each name, for the time that the name servers give none.
#[derive(Default)]
struct Names {
    resolver: Option<TokioResolver>,
    last: std::collections::HashMap<(String, u16), HashSet<SocketAddr>>,
}

impl Names {
    async fn resolve(&mut self, host: &str, port: u16) -> HashSet<SocketAddr> {
        let key = (host.to_owned(), port);
        match self.look_up(host).await {
            Ok(addresses) => {
                let addresses: HashSet<_> =
                    addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect();
                self.last.insert(key, addresses.clone());
                addresses
            }
            Err(error) => {
                tracing::warn!(host, %error, "cannot resolve the aggregator's name; is the cluster DNS reachable?");
                self.last.get(&key).cloned().unwrap_or_default()
            }
        }
    }

    async fn look_up(
        &mut self,
        host: &str,
    ) -> Result<Vec<std::net::IpAddr>, hickory_resolver::net::NetError> {
        let resolver = if let Some(resolver) = self.resolver.take() {
            resolver
        } else {
            let mut builder = TokioResolver::builder_tokio()?;
            // Each look is a look: the names' records change with every aggregator that comes or goes.
            builder.options_mut().cache_size = 0;
            builder.build()?
        };
        let found = resolver.lookup_ip(host).await.map(|found| found.iter().collect());
        self.resolver = Some(resolver);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses_or_names() {
        let name = |host: &str, port| Ok(Target::Name { host: host.to_owned(), port });
        assert_eq!("127.0.0.1:8444".parse(), Ok(Target::Address(([127, 0, 0, 1], 8444).into())));
        assert_eq!("[::1]:1".parse(), Ok(Target::Address((std::net::Ipv6Addr::LOCALHOST, 1).into())));
        assert_eq!(
            "waggle-ingest.waggle-system.svc:8444".parse(),
            name("waggle-ingest.waggle-system.svc", 8444)
        );
        for wrong in ["", "host", ":8444", "host:", "host:70000", "https://host:1", "::1:1"] {
            assert!(wrong.parse::<Target>().is_err(), "{wrong}");
        }
    }
}
