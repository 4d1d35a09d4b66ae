//! Making sure that a session has a browser, and remembering when it has lost it.

use std::{sync::Arc, time::Duration};

use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::progress::Progress;
use crate::{
    access::Access,
    core::Core,
    failure::{DaemonError, Failure},
    fleet::{QueueWatch, Wanted},
    session::{LeaseRef, LeaseState, Loss, Record, Swapped},
    usage::{Held, Kind, Place},
};

/// Least time a lease is asked for, however close the session's end is.
const TTL_MIN: Duration = Duration::from_secs(10);
/// How often a lease that is lost before it was bound is asked for again.
const ATTEMPTS: usize = 2;

/// Whoever may have to wait for a browser.
#[derive(Clone, Copy)]
pub(super) struct Waiting<'a> {
    /// Where it is told how far it is.
    pub(super) progress: &'a Progress,
    /// What it may do.
    pub(super) access: &'a Access,
    /// What it waits for.
    pub(super) tool: &'static str,
}

/// The lease the session holds, or a new one, bound to the session and confirmed to its daemon. `record` follows. When the
/// session's browser is out of reach but may still be there, only a call that `may_move` gets another one.
pub(super) async fn ensure(
    core: &Arc<Core>,
    record: &mut Record,
    waiting: Waiting<'_>,
    deadline: Instant,
    may_move: bool,
) -> Result<LeaseRef, Failure> {
    if let Some(lease) = &record.lease.lease {
        return Ok(lease.clone());
    }
    for _ in 0..ATTEMPTS {
        let ttl = ttl(core, record);
        let wait = core.config.call.queue_wait.min(deadline.saturating_duration_since(Instant::now()));
        let wanted = Wanted { session: record, access: waiting.access, ttl, wait };
        let lease = acquire(core, wanted, waiting, may_move).await?;
        let lease = bind(core, record, lease).await?;
        match core.fleet.renew(record, &lease, ttl).await {
            Ok(()) => return Ok(lease),
            // It was lost between grant and binding: there is nothing in it to mourn.
            Err(DaemonError::Refused(failure)) if failure.code == ErrorCode::LeaseLost => {
                forget(core, record, &lease, None).await?;
            }
            Err(error) => return Err(error.into_failure()),
        }
    }
    Err(Failure::unreachable())
}

/// A grant: of the browser the session had, if it may still be there, else of any.
async fn acquire(
    core: &Arc<Core>,
    wanted: Wanted<'_>,
    waiting: Waiting<'_>,
    may_move: bool,
) -> Result<LeaseRef, Failure> {
    if let Some(loss) = wanted.session.lease.lost.as_ref().filter(|loss| loss.reason.is_uncertain()) {
        match core.fleet.resume(&loss.daemon, wanted).await {
            Ok(Some(lease)) => return Ok(lease),
            Ok(None) => {}
            Err(_unreachable) if may_move => {}
            Err(_unreachable) if core.fleet.in_service() > 0 => {
                return Err(Failure::out_of_reach(&loss.daemon));
            }
            Err(error) => return Err(error.into_failure()),
        }
    }
    let mut line = InLine {
        core,
        access: wanted.access,
        tool: waiting.tool,
        session: wanted.session.name.digest(),
        progress: waiting.progress.clone(),
        place: None,
        full: CancellationToken::new(),
    };
    let full = line.full.clone();
    tokio::select! {
        // Who has no place does not get a browser by waiting on.
        biased;
        () = full.cancelled() => Err(no_place()),
        placed = core.fleet.place(wanted, &mut line) => placed.map_err(DaemonError::into_failure),
    }
}

/// A caller in a daemon's queue: it has one of its principal's places there from the first word about waiting on.
struct InLine<'a> {
    core: &'a Core,
    access: &'a Access,
    tool: &'static str,
    /// The digest of its name.
    session: String,
    progress: Progress,
    place: Option<Held>,
    /// Cancelled when the principal has as many callers waiting as it may.
    full: CancellationToken,
}

impl QueueWatch for InLine<'_> {
    async fn queued(&mut self, position: u32, depth: u32) {
        if let (None, Some(most)) = (&self.place, self.access.limits.queue) {
            match self.core.usage.take(Kind::Queue, self.wanted(), Some(most)).await {
                Ok(Some(place)) => self.place = Some(place),
                Ok(None) => {
                    self.full.cancel();
                    return;
                }
                // Nobody loses a place because the count of places is away.
                Err(error) => tracing::warn!(%error, "a place in the queue could not be counted"),
            }
        }
        self.progress.queued(position, depth).await;
    }
}

impl InLine<'_> {
    fn wanted(&self) -> Place {
        Place {
            id: Uuid::new_v4(),
            principal: self.access.principal.clone(),
            tool: self.tool.to_owned(),
            session: Some(self.session.clone()),
            front_end: self.core.usage.front_end().to_owned(),
            since: self.core.clock.now(),
        }
    }
}

fn no_place() -> Failure {
    let text = "There is no browser free right now, and as many of your calls wait for one as your key or token allows. End a \
                session with session_close, or try again in a moment.";
    Failure::new(ErrorCode::QuotaExceeded, text).retry(Duration::from_secs(2))
}

/// Writes a grant into the session. Two calls that race end with one lease: the loser returns its grant at once, unless
/// it is the winner's.
async fn bind(core: &Arc<Core>, record: &mut Record, granted: LeaseRef) -> Result<LeaseRef, Failure> {
    let next = LeaseState::held(granted.clone());
    match core.sessions.swap_lease(&record.key(), &record.birth, None, next).await? {
        Swapped::Done => {
            record.lease.lease = Some(granted.clone());
            Ok(granted)
        }
        Swapped::Conflict(LeaseState { lease: Some(held), .. }) => {
            if held.lease_id != granted.lease_id {
                release(core, record, &granted).await;
            }
            record.lease.lease = Some(held.clone());
            Ok(held)
        }
        Swapped::Conflict(_) | Swapped::Gone => {
            release(core, record, &granted).await;
            Err(Failure::no_such_session())
        }
    }
}

/// Takes a lease out of the session, unless another one has taken its place meanwhile, and remembers what to tell.
/// `record` follows: it holds whatever the session holds now.
pub(super) async fn forget(
    core: &Arc<Core>,
    record: &mut Record,
    lease: &LeaseRef,
    tell: Option<Loss>,
) -> Result<(), Failure> {
    let next = LeaseState { lease: None, lost: tell };
    let expected = Some(lease.lease_id.as_str());
    match core.sessions.swap_lease(&record.key(), &record.birth, expected, next.clone()).await? {
        Swapped::Done => record.lease = next,
        Swapped::Conflict(held) => record.lease = held,
        Swapped::Gone => return Err(Failure::no_such_session()),
    }
    Ok(())
}

/// Marks a loss as told.
pub(super) async fn told(core: &Arc<Core>, record: &Record) -> Result<(), Failure> {
    // A conflict means that somebody else has got a browser for the session: just as well.
    let _swapped = core.sessions.swap_lease(&record.key(), &record.birth, None, LeaseState::default()).await?;
    Ok(())
}

/// Returns a lease, as well as possible: what cannot be returned now lapses at the daemon.
async fn release(core: &Arc<Core>, session: &Record, lease: &LeaseRef) {
    if let Err(error) = core.fleet.release(session, lease).await {
        tracing::warn!(lease = lease.lease_id, ?error, "a lease could not be returned; it will lapse");
    }
}

/// The lease lives as long as the session would without another call.
fn ttl(core: &Arc<Core>, record: &Record) -> Duration {
    let age = core.clock.now().saturating_sub(record.created);
    let rest = core.config.session.max_lifetime.saturating_sub(age);
    record.idle_ttl.min(rest).max(TTL_MIN)
}
