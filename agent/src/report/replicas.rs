//! One stream per aggregator process, however many addresses lead to it.
//!
//! A headless Service with two address families has two addresses per replica, and so have two names of one Service.
//! Streaming to both would be worse than useless: the aggregator keeps the newest stream of a node, so that each of the
//! two would end the other for ever. Choosing a family by configuration or by preference fails where the node can reach
//! only the other one, which an agent cannot know before it tried. So the aggregator names its process in the response
//! headers, before it reads `Hello`: the first address that gets so far claims the process, the others wait until that
//! stream has ended and then try at once. Whichever family is reachable wins, and each is the other's fallback.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use tokio::sync::watch;

/// Claims by the text that identifies an aggregator's process.
#[derive(Debug, Clone)]
pub(super) struct Replicas(Arc<watch::Sender<HashMap<Box<str>, Holder>>>);

#[derive(Debug, Clone, Copy)]
struct Holder {
    address: SocketAddr,
    /// A stream that is being renewed overlaps its successor.
    streams: usize,
}

/// Held for as long as a stream to the process is open.
#[derive(Debug)]
pub(super) struct Claim {
    replicas: Replicas,
    instance: Box<str>,
}

impl Default for Replicas {
    fn default() -> Self {
        Self(Arc::new(watch::channel(HashMap::new()).0))
    }
}

impl Replicas {
    /// Claims a process for `address`; `None` if another address holds it.
    pub(super) fn claim(&self, instance: &str, address: SocketAddr) -> Option<Claim> {
        let mut claimed = false;
        self.0.send_if_modified(|holders| {
            let holder = holders.entry(instance.into()).or_insert(Holder { address, streams: 0 });
            claimed = holder.address == address;
            holder.streams += usize::from(claimed);
            // Only a release is news for those who wait.
            false
        });
        claimed.then(|| Claim { replicas: self.clone(), instance: instance.into() })
    }

    /// Resolves when nobody streams to that process.
    pub(super) async fn released(&self, instance: &str) {
        // Fails only without a sender, which `self` is.
        let _ = self.0.subscribe().wait_for(|holders| !holders.contains_key(instance)).await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.replicas.0.send_if_modified(|holders| {
            let Some(holder) = holders.get_mut(&self.instance) else { return false };
            holder.streams -= 1;
            let last = holder.streams == 0;
            if last {
                holders.remove(&self.instance);
            }
            last
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn the_first_address_holds_a_process_until_its_last_stream_ends() {
        let replicas = Replicas::default();
        let [v4, v6] = ["127.0.0.1:8444", "[::1]:8444"].map(|address| address.parse().unwrap());
        let first = replicas.claim("a", v4).unwrap();
        let renewed = replicas.claim("a", v4).unwrap();
        assert!(replicas.claim("a", v6).is_none());
        assert!(replicas.claim("b", v6).is_some(), "another process");
        let released = replicas.released("a");
        tokio::pin!(released);
        drop(first);
        let early = tokio::time::timeout(Duration::from_millis(20), &mut released).await;
        assert!(early.is_err(), "the renewed stream goes on");
        drop(renewed);
        released.await;
        assert!(replicas.claim("a", v6).is_some());
    }
}
