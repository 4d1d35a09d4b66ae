//! Getting a browser from one of the daemons: two are asked without waiting, then the caller queues at the one with the
//! shorter line, and looks once a second whether another one has a browser free.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::Duration,
};

use browserfleet_common::error_code::ErrorCode;
use tokio::time::{Instant, sleep};

use super::{
    Fleet,
    client::{QueueWatch, Unwatched},
    placement::{Event, Index},
};
use crate::{
    access::Access,
    failure::DaemonError,
    session::{LeaseRef, Record},
};

/// How many daemons have to be full before the caller queues.
const TRIES: usize = 2;
/// How often one who waits looks for a browser elsewhere.
const ELSEWHERE: Duration = Duration::from_secs(1);

/// A browser that is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) session: &'a Record,
    /// What its owner may do.
    pub(crate) access: &'a Access,
    /// Of the lease.
    pub(crate) ttl: Duration,
    /// How long to wait in a queue.
    pub(crate) wait: Duration,
}

impl Wanted<'_> {
    /// Draws the two daemons: callers who race for one session ask the same two, and a daemon grants a session once.
    fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.session.birth.hash(&mut hasher);
        hasher.finish()
    }
}

/// How an acquisition that did not succeed goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It has nothing to give: others may.
    Full,
    /// It is not well: others may be.
    Failed,
    /// The answer would be the same everywhere.
    Final,
}

impl Fleet {
    /// Gets a browser, wherever there is one. Dropping it leaves the queue.
    pub(crate) async fn place(
        &self,
        wanted: Wanted<'_>,
        watch: &mut (impl QueueWatch + Send),
    ) -> Result<LeaseRef, DaemonError> {
        let deadline = Instant::now() + wanted.wait;
        let mut failed = Vec::new();
        let mut last = None;
        if self.count() > 1 {
            let mut full = 0;
            let tries = self.known().placement.tries(wanted.seed(), Instant::now());
            for index in tries {
                match self.ask(index, Wanted { wait: Duration::ZERO, ..wanted }, &mut Unwatched).await {
                    Ok(lease) => return Ok(lease),
                    Err((_, Next::Full)) => full += 1,
                    Err((error, Next::Failed)) => {
                        failed.push(index);
                        last = Some(error);
                    }
                    Err((error, Next::Final)) => return Err(error),
                }
                if full == TRIES {
                    break;
                }
            }
        }
        // Each daemon refuses at most once, so this ends.
        loop {
            let line = self.known().placement.line(&failed, Instant::now());
            let Some(index) = line else { return Err(last.unwrap_or(DaemonError::Unreachable)) };
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.queue(index, Wanted { wait, ..wanted }, watch).await {
                Ok(lease) => return Ok(lease),
                Err((error, next)) => {
                    // Who has waited long enough has no time left for another queue.
                    if next == Next::Final || deadline <= Instant::now() {
                        return Err(error);
                    }
                    failed.push(index);
                    last = Some(error);
                }
            }
        }
    }

    /// Asks the daemon of a lost lease whether it still has it: acquisitions are idempotent. `None`: it answers, and has
    /// nothing for us.
    pub(crate) async fn resume(&self, daemon: &str, wanted: Wanted<'_>) -> Result<Option<LeaseRef>, DaemonError> {
        let index = self.named(daemon).ok_or(DaemonError::Unreachable)?;
        match self.ask(index, Wanted { wait: Duration::ZERO, ..wanted }, &mut Unwatched).await {
            Ok(lease) => Ok(Some(lease)),
            Err((DaemonError::Refused(_), _)) => Ok(None),
            Err((silence, _)) => Err(silence),
        }
    }

    /// Waits in a daemon's queue, and meanwhile for a browser elsewhere.
    async fn queue(
        &self,
        index: Index,
        wanted: Wanted<'_>,
        watch: &mut (impl QueueWatch + Send),
    ) -> Result<LeaseRef, (DaemonError, Next)> {
        tokio::select! {
            biased;
            answer = self.ask(index, wanted, watch) => answer,
            // The place in the queue goes with its stream. A grant that was on its way is never bound, so it lapses.
            lease = self.elsewhere(index, wanted) => Ok(lease),
        }
    }

    async fn elsewhere(&self, queued_at: Index, wanted: Wanted<'_>) -> LeaseRef {
        loop {
            sleep(ELSEWHERE).await;
            let free = self.known().placement.free(&[queued_at], Instant::now());
            for index in free {
                if let Ok(lease) = self.ask(index, Wanted { wait: Duration::ZERO, ..wanted }, &mut Unwatched).await {
                    return lease;
                }
            }
        }
    }

    /// Asks one daemon, and takes note of how that went.
    async fn ask(
        &self,
        index: Index,
        wanted: Wanted<'_>,
        watch: &mut (impl QueueWatch + Send),
    ) -> Result<LeaseRef, (DaemonError, Next)> {
        let Some(daemon) = self.client(index) else { return Err((DaemonError::Unreachable, Next::Failed)) };
        self.note(index, Event::Asked);
        let error = match daemon.acquire(wanted, watch).await {
            Ok(lease) => {
                self.note(index, Event::Granted);
                return Ok(lease);
            }
            Err(error) => error,
        };
        let (event, next) = match &error {
            DaemonError::Unreachable | DaemonError::Broken => {
                self.note(index, Event::Unreachable);
                (Event::Failed, Next::Failed)
            }
            DaemonError::Refused(failure) => match failure.code {
                ErrorCode::PoolFull | ErrorCode::QueueTimeout => (Event::Full, Next::Full),
                ErrorCode::Draining => (Event::Draining, Next::Failed),
                // The daemon is right, and so would be the others.
                ErrorCode::QuotaExceeded
                | ErrorCode::InvalidArgument
                | ErrorCode::Unauthorized
                | ErrorCode::Forbidden => (Event::Refused, Next::Final),
                _ => (Event::Failed, Next::Failed),
            },
        };
        self.note(index, event);
        Err((error, next))
    }
}
