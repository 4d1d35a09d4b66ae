//! Tabs on their way from the page that opened them to the session they belong to.

use std::sync::{Mutex, OnceLock, PoisonError};

use browserfleet_cdp::Watermark;
use tokio::{
    sync::watch,
    time::{Duration, Instant, timeout_at},
};

use super::Page;

/// Most time a reply waits for tabs that are just opening.
const SETTLING: Duration = Duration::from_secs(1);

/// Pages that nobody has taken over yet, and how many are being made ready.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    ready: Mutex<Vec<Page>>,
    opening: watch::Sender<usize>,
    /// How much of what the browser has told the context's guard has seen, once there is one.
    seen: OnceLock<Watermark>,
}

impl Arrivals {
    pub(super) fn guarded(&self, seen: Watermark) {
        // A context has one guard.
        let _first = self.seen.set(seen);
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
        let settled = async {
            if let Some(seen) = self.seen.get() {
                seen.reached().await;
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
