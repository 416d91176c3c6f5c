//! Admissions that wait until the inventory of the node that they claim changes. Nobody else is woken: with thousands of
//! agents at once, each change would wake all of them.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Notify, futures::Notified};

#[derive(Debug, Default)]
pub(super) struct Waiters(Mutex<HashMap<Box<str>, Arc<Notify>>>);

/// One of them.
#[derive(Debug)]
pub(super) struct Waiter<'a> {
    waiters: &'a Waiters,
    node: &'a str,
    notify: Arc<Notify>,
}

impl Waiters {
    /// For changes of that node.
    pub(super) fn wait_for<'a>(&'a self, node: &'a str) -> Waiter<'a> {
        let mut waiting = self.0.lock();
        let notify = match waiting.get(node) {
            Some(notify) => Arc::clone(notify),
            None => Arc::clone(waiting.entry(node.into()).or_default()),
        };
        Waiter { waiters: self, node, notify }
    }

    pub(super) fn notify(&self, node: &str) {
        if let Some(notify) = self.0.lock().get(node) {
            notify.notify_waiters();
        }
    }

    pub(super) fn notify_all(&self) {
        self.0.lock().values().for_each(|notify| notify.notify_waiters());
    }

    #[cfg(test)]
    pub(super) fn nodes(&self) -> usize {
        self.0.lock().len()
    }
}

impl Waiter<'_> {
    /// Resolves with the next change, also if that comes before it is polled.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.notify.notified()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let mut waiting = self.waiters.0.lock();
        // The table's and this one.
        if Arc::strong_count(&self.notify) == 2 {
            waiting.remove(self.node);
        }
    }
}
