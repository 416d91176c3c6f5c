//! Answers that are good for a while, each asked for once however many wait for it. Owns no policy: what is kept and for how
//! long is said by whoever fetches.

use std::{collections::HashMap, future::Future, hash::Hash, time::Duration};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::time::Instant;

/// An answer, and for how long it may be given again; `None`: only to those who wait for it now.
pub(super) type Fetched<V> = (V, Option<Duration>);

type Flight<V> = Shared<BoxFuture<'static, Fetched<V>>>;

/// A bounded cache with single flight.
pub(super) struct Cache<K, V: Clone> {
    state: Mutex<State<K, V>>,
    capacity: usize,
}

struct State<K, V: Clone> {
    kept: HashMap<K, Kept<V>>,
    flights: HashMap<K, Flight<V>>,
    uses: u64,
}

struct Kept<V> {
    value: V,
    until: Instant,
    used: u64,
}

impl<K: Hash + Eq + Clone, V: Clone + Send + Sync + 'static> Cache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        let state = State { kept: HashMap::new(), flights: HashMap::new(), uses: 0 };
        Self { state: Mutex::new(state), capacity }
    }

    /// The kept answer, or the one in flight, or a new one. The fetch goes on as long as anybody waits for it, and is dropped with the last.
    pub(super) async fn get<F>(&self, key: K, fetch: impl FnOnce() -> F) -> V
    where
        F: Future<Output = Fetched<V>> + Send + 'static,
    {
        let flight = {
            let mut state = self.state.lock();
            if let Some(value) = state.kept(&key) {
                return value;
            }
            state.flights.entry(key.clone()).or_insert_with(|| fetch().boxed().shared()).clone()
        };
        let seat = Seat { cache: self, key: &key, flight };
        let (value, keep) = seat.flight.clone().await;
        let flight = seat.flight.clone();
        let mut state = self.state.lock();
        if state.flights.get(&key).is_some_and(|current| current.ptr_eq(&flight)) {
            state.flights.remove(&key);
            if let Some(keep) = keep {
                state.keep(key.clone(), value.clone(), Instant::now() + keep, self.capacity);
            }
        }
        drop(state);
        drop(seat);
        value
    }

    /// The kept answer, if there is one.
    pub(super) fn kept(&self, key: &K) -> Option<V> {
        self.state.lock().kept(key)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.state.lock().kept.len()
    }
}

/// Somebody who waits for a flight. Whoever leaves last takes the flight along: nobody would drive it any more.
struct Seat<'a, K: Hash + Eq, V: Clone> {
    cache: &'a Cache<K, V>,
    key: &'a K,
    flight: Flight<V>,
}

impl<K: Hash + Eq, V: Clone> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut state = self.cache.state.lock();
        let mine = state.flights.get(self.key).is_some_and(|current| current.ptr_eq(&self.flight));
        // The map's and ours.
        if mine && self.flight.strong_count().is_none_or(|holders| holders <= 2) {
            state.flights.remove(self.key);
        }
    }
}

impl<K: Hash + Eq, V: Clone> State<K, V> {
    fn kept(&mut self, key: &K) -> Option<V> {
        self.uses += 1;
        let kept = self.kept.get_mut(key).filter(|kept| kept.until > Instant::now())?;
        kept.used = self.uses;
        Some(kept.value.clone())
    }

    fn keep(&mut self, key: K, value: V, until: Instant, capacity: usize) {
        if self.kept.len() >= capacity {
            self.make_room(capacity);
        }
        self.kept.insert(key, Kept { value, until, used: self.uses });
    }

    /// Drops what has expired, then the least recently used quarter if that was not enough: the cost of looking at all
    /// entries is shared by a quarter of the capacity's insertions.
    fn make_room(&mut self, capacity: usize) {
        let now = Instant::now();
        self.kept.retain(|_, kept| kept.until > now);
        if self.kept.len() < capacity {
            return;
        }
        let mut uses: Vec<u64> = self.kept.values().map(|kept| kept.used).collect();
        uses.sort_unstable();
        let oldest = uses.get(capacity / 4).copied().unwrap_or(u64::MAX);
        self.kept.retain(|_, kept| kept.used > oldest);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
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

    #[tokio::test(start_paused = true)]
    async fn one_fetch_serves_all_who_wait_and_all_who_come_in_time() {
        let cache = Cache::new(4);
        let fetches = Arc::new(AtomicU32::new(0));
        let keep = Some(Duration::from_secs(10));
        let ask = || cache.get("a", || counted(&fetches, keep));
        assert_eq!(tokio::join!(ask(), ask(), ask()), (1, 1, 1));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(ask().await, 1);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(ask().await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_to_be_kept_is_fetched_again() {
        let cache = Cache::new(4);
        let fetches = Arc::new(AtomicU32::new(0));
        assert_eq!(cache.get("a", || counted(&fetches, None)).await, 1);
        assert_eq!(cache.get("a", || counted(&fetches, None)).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_that_everybody_left_leaves_nothing_behind() {
        let cache = Cache::new(4);
        let fetches = Arc::new(AtomicU32::new(0));
        let keep = Some(Duration::from_secs(10));
        let left =
            tokio::time::timeout(Duration::from_millis(1), cache.get("a", || counted(&fetches, keep))).await;
        assert!(left.is_err());
        assert!(cache.state.lock().flights.is_empty());
        assert_eq!(cache.get("a", || counted(&fetches, keep)).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn stays_within_its_capacity_and_keeps_what_is_used() {
        let cache = Cache::new(8);
        let fetches = Arc::new(AtomicU32::new(0));
        let keep = Some(Duration::from_secs(10));
        for key in 0..100 {
            cache.get(key, || counted(&fetches, keep)).await;
            cache.get(0, || counted(&fetches, keep)).await;
            assert!(cache.len() <= 8);
        }
        assert_eq!(fetches.load(Ordering::Relaxed), 100, "the entry in use was dropped");
    }
}
