//! Tabs on their way from the page that opened them to the session they belong to.

use std::sync::{Mutex, PoisonError};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Duration, Instant, timeout_at},
};

use super::Page;

/// Most time a reply waits for tabs that are just opening.
const SETTLING: Duration = Duration::from_secs(1);

/// Questions that may wait for the guard: one a call, and one call runs at a time.
const FLUSHES: usize = 8;

/// Who asks whether every event so far has been seen.
pub(super) type Flush = oneshot::Sender<()>;

/// Pages that nobody has taken over yet, and how many are being made ready.
#[derive(Debug)]
pub(super) struct Arrivals {
    ready: Mutex<Vec<Page>>,
    opening: watch::Sender<usize>,
    flush: mpsc::Sender<Flush>,
    /// Until the guard takes them.
    flushes: Mutex<Option<mpsc::Receiver<Flush>>>,
}

impl Default for Arrivals {
    fn default() -> Self {
        let (flush, flushes) = mpsc::channel(FLUSHES);
        Self { ready: Mutex::default(), opening: watch::Sender::new(0), flush, flushes: Mutex::new(Some(flushes)) }
    }
}

impl Arrivals {
    /// For the one guard of the context; a second one would get nothing to do.
    pub(super) fn flushes(&self) -> mpsc::Receiver<Flush> {
        let mut flushes = self.flushes.lock().unwrap_or_else(PoisonError::into_inner);
        flushes.take().unwrap_or_else(|| mpsc::channel(1).1)
    }

    pub(super) fn begins(&self) {
        self.opening.send_modify(|opening| *opening += 1);
    }

    /// A tab is ready, or will never be.
    pub(super) fn ends(&self, page: Option<Page>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).extend(page);
        self.opening.send_modify(|opening| *opening -= 1);
    }

    /// Waits until every tab the browser has told of is ready.
    pub(super) async fn settled(&self) {
        let deadline = Instant::now() + SETTLING;
        let (seen, answer) = oneshot::channel();
        let settled = async {
            // Without a guard there is nothing to wait for.
            if self.flush.send(seen).await.is_ok() {
                let _guard_gone = answer.await;
            }
            let mut opening = self.opening.subscribe();
            let _sender_is_ours = opening.wait_for(|opening| *opening == 0).await;
        };
        // One that takes longer is shown by a later reply.
        let _slow = timeout_at(deadline, settled).await;
    }

    pub(super) fn take(&self) -> Vec<Page> {
        std::mem::take(&mut *self.ready.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
