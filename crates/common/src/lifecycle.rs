//! Tasks and shutdown: how everything that runs is started, counted and stopped.
//!
//! Shutdown has two stages, as in `matrix-authentication-service`: *soft* means finish what you are doing and take
//! nothing new, *hard* means stop now. The first signal starts the soft stage, a second signal or the deadline the hard one.

use std::{
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument as _;

/// Starts tasks and knows when the last of them has ended. Cheap to clone; all clones count together.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Tasks that ended in a panic since the start. A panic is logged where it happens and never lost.
    panics: Arc<AtomicU64>,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts `future` as a tracked task with a span of its name. A panic in it is logged and counted; the handle then
    /// answers `None`.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<Option<F::Output>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let panics = Arc::clone(&self.panics);
        let guarded = async move {
            match AssertUnwindSafe(future).catch_unwind().await {
                Ok(output) => Some(output),
                Err(payload) => {
                    panics.fetch_add(1, Ordering::Relaxed);
                    tracing::error!(task = name, panic = panic_text(payload.as_ref()), "task panicked");
                    None
                }
            }
        };
        self.tracker.spawn(guarded.instrument(tracing::debug_span!("task", name)))
    }

    /// How many tasks are running.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// How many tasks have ended in a panic.
    pub fn panicked(&self) -> u64 {
        self.panics.load(Ordering::Relaxed)
    }

    /// Waits until every task has ended, at most `limit`. Answers how many are still running: 0 is a clean end.
    pub async fn join(&self, limit: Duration) -> usize {
        self.tracker.close();
        // The count below is the answer, whether the wait ended by itself or by the limit.
        let _elapsed = timeout(limit, self.tracker.wait()).await;
        self.tracker.len()
    }
}

impl fmt::Debug for Tasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("running", &self.running()).field("panicked", &self.panicked()).finish()
    }
}

/// The text of a panic, for the log.
pub fn panic_text(payload: &(dyn std::any::Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

/// The two stages of the end. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    soft: CancellationToken,
    hard: CancellationToken,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when no new work may start.
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Cancelled when running work must stop at once. Always after, or together with, [`Self::soft`].
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Starts the soft stage.
    pub fn begin(&self) {
        self.soft.cancel();
    }

    /// Starts the hard stage.
    pub fn force(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Turns signals into stages: the first SIGINT or SIGTERM begins, the second forces.
    ///
    /// # Errors
    /// When the process cannot install signal handlers.
    pub fn on_signals(&self, tasks: &Tasks) -> std::io::Result<()> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let shutdown = self.clone();
        tasks.spawn("signals", async move {
            loop {
                let name = tokio::select! {
                    _ = interrupt.recv() => "SIGINT",
                    _ = terminate.recv() => "SIGTERM",
                    // The program ends by itself: nothing left to translate.
                    () = shutdown.hard.cancelled() => return,
                };
                if shutdown.soft.is_cancelled() {
                    tracing::warn!(signal = name, "second signal: stopping at once");
                    shutdown.force();
                    return;
                }
                tracing::info!(signal = name, "stopping; a second signal stops at once");
                shutdown.begin();
            }
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_panic_is_counted_and_does_not_spread() {
        let tasks = Tasks::new();
        let broken = tasks.spawn("broken", async { panic!("on purpose") });
        let fine = tasks.spawn("fine", async { 7 });
        assert_eq!(fine.await.unwrap(), Some(7));
        assert_eq!(broken.await.unwrap(), None::<()>);
        assert_eq!((tasks.panicked(), tasks.join(Duration::from_secs(1)).await), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn join_says_who_did_not_come() {
        let tasks = Tasks::new();
        let stuck = tasks.spawn("stuck", std::future::pending::<()>());
        assert_eq!(tasks.join(Duration::from_secs(1)).await, 1);
        stuck.abort();
        assert_eq!(tasks.join(Duration::from_secs(1)).await, 0);
    }
}
