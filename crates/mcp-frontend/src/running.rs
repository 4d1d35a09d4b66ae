//! The calls that are running here: how many, when the last has ended, and stopping one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Counts running calls. Keyed by an id of our own: JSON-RPC ids are unique within one client only.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// A plain mutex: every use is one map operation, none waits.
    calls: Arc<Mutex<HashMap<Uuid, Call>>>,
    count: Arc<watch::Sender<usize>>,
}

#[derive(Debug)]
struct Call {
    since: Instant,
    /// Cancelled when somebody wants it stopped over `/calls`.
    stop: CancellationToken,
}

impl Running {
    pub(crate) fn new() -> Self {
        Self { calls: Arc::default(), count: Arc::new(watch::Sender::new(0)) }
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn enter(&self, id: Uuid) -> Guard {
        let stop = CancellationToken::new();
        self.change(|calls| calls.insert(id, Call { since: Instant::now(), stop: stop.clone() }));
        Guard { running: self.clone(), id, stop }
    }

    /// Stops a call, if it runs here.
    pub(crate) fn stop(&self, id: Uuid) {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get(&id) {
            call.stop.cancel();
        }
    }

    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }

    /// How long the oldest call has been running.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        let calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.values().map(|call| call.since).min().map(|since| since.elapsed())
    }

    /// Waits until no call is running, at most `limit`. Answers how many still are.
    pub(crate) async fn drained(&self, limit: Duration) -> usize {
        let mut count = self.count.subscribe();
        // The count below is the answer, whether the wait ended by itself or by the limit.
        let _elapsed = timeout(limit, count.wait_for(|count| *count == 0)).await;
        self.count()
    }

    fn change<T>(&self, change: impl FnOnce(&mut HashMap<Uuid, Call>) -> T) {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut calls);
        self.count.send_replace(calls.len());
    }
}

/// A call that is running.
#[derive(Debug)]
pub(crate) struct Guard {
    running: Running,
    id: Uuid,
    stop: CancellationToken,
}

impl Guard {
    /// Until somebody wants the call stopped over `/calls`.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.running.change(|calls| calls.remove(&self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_the_last_call_but_not_for_ever() {
        let running = Running::new();
        let guard = running.enter(Uuid::new_v4());
        assert_eq!(running.drained(Duration::from_secs(1)).await, 1);
        assert!(running.oldest() >= Some(Duration::from_secs(1)));
        drop(guard);
        assert_eq!((running.drained(Duration::from_secs(1)).await, running.oldest()), (0, None));
    }
}
