//! Answers with a lifetime, each fetched once for all callers that wait for it. The fetching caller decides what is kept
//! and for how long.

use std::{hash::Hash, time::Duration};

use moka::{Expiry, future};

/// An answer and how long it is kept; `None` gives it to the present waiters only.
pub(super) type Fetched<V> = (V, Option<Duration>);

/// A bounded cache with single flight.
pub(super) struct Cache<K, V> {
    entries: future::Cache<K, Kept<V>>,
}

#[derive(Clone)]
struct Kept<V> {
    value: V,
    lifetime: Duration,
}

/// Each entry has a lifetime of its own.
struct Lifetimes;

impl<K, V> Expiry<K, Kept<V>> for Lifetimes {
    fn expire_after_create(&self, _: &K, kept: &Kept<V>, _: std::time::Instant) -> Option<Duration> {
        Some(kept.lifetime)
    }

    /// Also called for an entry that has expired and is not yet removed.
    fn expire_after_update(
        &self,
        _: &K,
        kept: &Kept<V>,
        _: std::time::Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some(kept.lifetime)
    }
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new(capacity: u64) -> Self {
        let entries = future::Cache::builder().max_capacity(capacity).expire_after(Lifetimes).build();
        Self { entries }
    }

    /// The kept answer, or the one in flight, or another one. A fetch ends with the caller that began it; the next waiter then
    /// begins its own.
    pub(super) async fn get<F>(&self, key: K, fetch: impl FnOnce() -> F) -> V
    where
        F: Future<Output = Fetched<V>>,
    {
        let fetched = async {
            match fetch().await {
                (value, Some(lifetime)) => Ok(Kept { value, lifetime }),
                (value, None) => Err(value),
            }
        };
        match self.entries.try_get_with(key, fetched).await {
            Ok(kept) => kept.value,
            Err(value) => (*value).clone(),
        }
    }

    /// The kept answer, if there is one.
    pub(super) async fn kept(&self, key: &K) -> Option<V> {
        self.entries.get(key).await.map(|kept| kept.value)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicU32, Ordering},
        },
        time::Instant,
    };

    use super::*;

    fn counted(
        fetches: &Arc<AtomicU32>,
        keep: Option<Duration>,
    ) -> impl Future<Output = Fetched<u32>> + use<> {
        let fetches = Arc::clone(fetches);
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            (fetches.fetch_add(1, Ordering::Relaxed) + 1, keep)
        }
    }

    #[tokio::test]
    async fn one_fetch_serves_all_who_wait_and_all_who_come_in_time() {
        let cache = Cache::new(4);
        let fetches = Arc::new(AtomicU32::new(0));
        let keep = Duration::from_millis(500);
        let ask = || cache.get("a", || counted(&fetches, Some(keep)));
        for round in 1..=3 {
            assert_eq!(tokio::join!(ask(), ask(), ask()), (round, round, round));
            let since = Instant::now();
            let again = ask().await;
            assert!(again == round || since.elapsed() >= keep);
            assert_eq!(cache.kept(&"a").await, Some(again));
            tokio::time::sleep(keep).await;
            assert_eq!(cache.kept(&"a").await, None);
        }
    }

    #[tokio::test]
    async fn what_is_not_to_be_kept_is_fetched_again() {
        let cache = Cache::new(4);
        let fetches = Arc::new(AtomicU32::new(0));
        assert_eq!(cache.get("a", || counted(&fetches, None)).await, 1);
        assert_eq!(cache.get("a", || counted(&fetches, None)).await, 2);
    }

    #[tokio::test]
    async fn a_fetch_that_everybody_left_leaves_nothing_behind() {
        let cache = Cache::new(4);
        let keep = Some(Duration::from_secs(10));
        let secret = Arc::new("a token");
        let held = Arc::downgrade(&secret);
        let mut waiting: Vec<_> = (0..2)
            .map(|_| {
                let secret = Arc::clone(&secret);
                Box::pin(cache.get("a", || async move {
                    std::future::pending::<()>().await;
                    (secret.len(), keep)
                }))
            })
            .collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        drop((secret, waiting));
        assert!(held.upgrade().is_none());
        assert_eq!(cache.get("a", || async { (1, keep) }).await, 1, "a later caller asks again");
    }

    #[tokio::test]
    async fn the_next_waiter_goes_on_when_the_first_one_leaves() {
        let cache = Cache::new(4);
        let fetches = Arc::new(AtomicU32::new(0));
        let keep = Some(Duration::from_secs(10));
        let mut first = Box::pin(cache.get("a", || counted(&fetches, keep)));
        let mut second = Box::pin(cache.get("a", || counted(&fetches, keep)));
        assert!(
            futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending()
        );
        drop(first);
        assert_eq!(second.await, 1);
    }

    #[tokio::test]
    async fn stays_within_its_capacity_and_keeps_what_is_used() {
        let cache = Cache::new(8);
        let fetches = Arc::new(AtomicU32::new(0));
        let keep = Some(Duration::from_secs(10));
        for key in 0..100 {
            cache.get(key, || counted(&fetches, keep)).await;
            cache.get(0, || counted(&fetches, keep)).await;
            cache.entries.run_pending_tasks().await;
            assert!(cache.entries.entry_count() <= 8);
        }
        assert_eq!(fetches.load(Ordering::Relaxed), 100, "the entry in use was dropped");
    }
}
