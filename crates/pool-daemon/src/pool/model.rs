//! The words of the pool's decisions: limits, events, actions, refusals, leases.

use std::time::Duration;

use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;

/// What the pool may do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most browsers, counting those being started and ended.
    pub max_browsers: usize,
    /// Browsers kept ready and unleased.
    pub min_warm: usize,
    /// Most callers waiting.
    pub max_queue: usize,
    /// An unleased browser above `min_warm` is ended after this.
    pub warm_ttl: Duration,
    /// A lease nobody confirmed is taken back after this.
    pub unbound_ttl: Duration,
    /// After a failed launch the next one waits this long, doubled with each failure in a row…
    pub backoff: Duration,
    /// … up to this.
    pub max_backoff: Duration,
}

/// Who a lease is for. A second request with the same key gets the same lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub principal: String,
    pub session: String,
    /// A re-created session of the same name is another one.
    pub birth: String,
}

/// A caller's place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// One lease, by the slot it holds and the generation of the browser in it. Never repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseRef {
    pub slot: usize,
    pub generation: u64,
}

/// What the machine is short of; each is a clause for people, such as "memory: 93 % of 4.0 GiB are in use".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub memory: Option<String>,
    pub cpu: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Somebody wants a browser.
    Acquire { ticket: Ticket, key: Key, ttl: Duration, deadline: Instant },
    /// The caller behind a ticket went away.
    Abandon { ticket: Ticket },
    /// A launch succeeded.
    Launched { slot: usize, generation: u64 },
    /// A launch failed, and nothing of it is left.
    LaunchFailed { slot: usize, generation: u64, reason: String },
    /// The session confirmed the lease, perhaps with a new time to live.
    Renew { lease: LeaseRef, ttl: Option<Duration> },
    /// The lease was used at this time.
    Used { lease: LeaseRef, at: Instant },
    /// The session gives the lease back.
    Release { lease: LeaseRef },
    /// A browser died by itself.
    Died { slot: usize, generation: u64, reason: String },
    /// The browser that was being ended is verified gone.
    Ended { slot: usize, generation: u64 },
    /// No new leases; those still running at `deadline` are ended.
    Drain { deadline: Instant },
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Launch {
        slot: usize,
        generation: u64,
    },
    /// End the browser and everything of it.
    End {
        slot: usize,
        generation: u64,
    },
    /// The caller gets this lease. Several callers of one key get the same.
    Grant {
        ticket: Ticket,
        lease: LeaseRef,
    },
    Refuse {
        ticket: Ticket,
        refusal: Refusal,
    },
    /// The caller waits at this place; 1 is next.
    Queued {
        ticket: Ticket,
        position: usize,
        depth: usize,
    },
    /// The lease is over; `End` of its browser follows.
    Revoke {
        lease: LeaseRef,
        reason: String,
    },
}

/// Why somebody gets no browser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: ErrorCode,
    pub message: String,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    pub fn retry(code: ErrorCode, message: impl Into<String>, after: Duration) -> Self {
        Self { code, message: message.into(), retry_after: Some(after) }
    }
}

/// A lease as the decisions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub key: Key,
    pub granted: Instant,
    /// Last renewal or call.
    pub used: Instant,
    pub ttl: Duration,
    /// Whether the session has confirmed it.
    pub bound: bool,
}

impl Lease {
    /// When it ends if nothing happens.
    pub fn expires(&self, limits: &Limits) -> Instant {
        if self.bound { self.used + self.ttl } else { self.granted + limits.unbound_ttl }
    }
}

/// Counts for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub starting: usize,
    pub idle: usize,
    pub leased: usize,
    pub ending: usize,
    pub queued: usize,
    pub draining: bool,
}
