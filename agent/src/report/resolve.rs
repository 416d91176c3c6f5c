//! From names to addresses, repeatedly, and one task per address. An address that is gone from the names keeps its
//! stream for as long as that is open.

use std::{collections::HashSet, net::SocketAddr, str::FromStr, sync::Arc, sync::atomic::Ordering};

use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    Shared,
    names::{Names, SHORTEST},
    stream,
};

/// A literal address or a name, with a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// Streamed to as it is.
    Address(SocketAddr),
    /// Resolved repeatedly.
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
    let mut names = Names::new(&shared.config.aggregators);
    loop {
        names.look_up(Instant::now(), || shared.live.load(Ordering::Relaxed) > 0).await;
        let addresses = names.addresses();
        wanted.send_replace(addresses.clone());
        for address in addresses {
            if running.insert(address) {
                tasks.spawn(stream::run(Arc::clone(shared), address, wanted.subscribe()));
            }
        }
        loop {
            let due = names.due();
            tokio::select! {
                () = wait_until(due) => break,
                () = shared.lost.notified() => names.hurry(Instant::now(), fastrand::f64()),
                Some(ended) = tasks.join_next() => match ended {
                    Ok(address) => {
                        running.remove(&address);
                    }
                    Err(error) => {
                        tracing::error!(%error, "a stream's task failed");
                        running.clear();
                        tasks.shutdown().await;
                        sleep(SHORTEST).await;
                        break;
                    }
                },
            }
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        // Literal addresses only.
        None => std::future::pending().await,
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
