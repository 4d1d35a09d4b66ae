//! The words of the pool's decisions: limits, events, actions, refusals, leases.

use std::time::Duration;

use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;

use super::browser::Death;

/// What the pool may do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Most browsers, counting those being started and ended.
    pub max_browsers: usize,
    /// Leases one browser serves at a time. Above 1 each works in a browser context of its own, and only leases of one
    /// principal share a browser: a context is not a border between tenants.
    pub contexts_per_browser: usize,
    /// Browsers kept ready and unleased.
    pub min_warm: usize,
    /// Launches that run at a time.
    pub max_starting: usize,
    /// After a grant, browsers are not started ahead of need for this long: the session's first page needs the processor
    /// more than the next session does.
    pub ahead_delay: Duration,
    /// Most callers waiting.
    pub max_queue: usize,
    pub per_principal: PerPrincipal,
    /// An unleased browser above `min_warm` is ended after this.
    pub warm_ttl: Duration,
    pub retirement: Retirement,
    /// A lease nobody confirmed is taken back after this.
    pub unbound_ttl: Duration,
    /// No lease lives longer, whatever happens in it.
    pub max_lifetime: Duration,
    /// Somebody looks whether sessions live ([`crate::store`]): a lease ends with its session, not for being idle.
    pub sessions_are_watched: bool,
    pub launching: Launching,
}

impl Limits {
    /// Most browser contexts of one browser, with those of ended leases that are being closed.
    pub(super) fn most_contexts(&self) -> usize {
        match self.contexts_per_browser {
            1 => 1,
            shared => 2 * shared,
        }
    }
}

/// Bounds on what one principal has of the pool.
#[derive(Clone, Copy, Debug)]
pub struct PerPrincipal {
    /// Leases, those waited for included.
    pub max_leases: usize,
    /// Callers waiting.
    pub max_waiting: usize,
}

/// When a browser takes no further lease. One that is leased lives on until its leases have ended.
#[derive(Clone, Copy, Debug)]
pub struct Retirement {
    /// Since its launch. Each browser's own limit lies within a tenth of it, so that not all go at once.
    pub max_age: Duration,
    /// Leases it has served.
    pub max_uses: u32,
    /// Memory of all its processes, in bytes.
    pub max_memory: u64,
}

/// How failing launches are answered.
#[derive(Clone, Copy, Debug)]
pub struct Launching {
    /// After a failure the next launch waits this long, doubled with each failure in a row…
    pub backoff: Duration,
    /// … up to this.
    pub max_backoff: Duration,
    /// So many failures within `breaker_window` open the breaker: callers are refused instead of kept waiting, and one
    /// launch at a time finds out whether the trouble is over.
    pub breaker_failures: usize,
    pub breaker_window: Duration,
}

/// Who a lease is for. A second request with the same key gets the same lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub principal: String,
    pub session: String,
    /// A re-created session of the same name is another one.
    pub birth: String,
}

/// A caller's request for a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// One browser: the slot it is in, and a number that no other browser of this daemon's life has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrowserRef {
    pub slot: usize,
    pub generation: u64,
}

/// One lease: the browser it is in, and the how-manieth of that browser's leases it is. Never repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseRef {
    pub browser: BrowserRef,
    pub seat: u32,
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
    /// A lease was granted to callers who had all gone away: nobody knows of it, and nothing has touched its browser.
    Undelivered { lease: LeaseRef },
    /// A launch succeeded.
    Launched { at: BrowserRef },
    /// A launch failed, and nothing of it is left.
    LaunchFailed { at: BrowserRef, reason: String },
    /// The session confirmed the lease, perhaps with a new time to live.
    Renew { lease: LeaseRef, ttl: Option<Duration> },
    /// These leases were last used at these times. One event for all of them: what follows from it is found out once.
    Used { leases: Vec<(LeaseRef, Instant)> },
    /// The session gives the lease back.
    Release { lease: LeaseRef },
    /// The session has ended without giving it back, or has another one.
    SessionEnded { lease: LeaseRef, reason: &'static str },
    /// A granted lease could not be given its browser context.
    OpenFailed { lease: LeaseRef, reason: String },
    /// The browser context of an ended lease is gone. `memory`: of the browser, in bytes, 0 when unknown.
    Closed { at: BrowserRef, memory: u64 },
    /// The browser context of an ended lease could not be closed.
    CloseFailed { at: BrowserRef },
    /// A browser died by itself.
    Died { at: BrowserRef, death: Death },
    /// The browser that was being ended is verified gone.
    Ended { at: BrowserRef },
    /// The browser that was being ended is not gone: its slot may still run something.
    EndFailed { at: BrowserRef },
    /// What the machine is short of has changed.
    Pressure(Pressure),
    /// No new leases; those still running at `deadline` are ended.
    Drain { deadline: Instant },
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a browser.
    Launch {
        at: BrowserRef,
    },
    /// End the browser and everything of it.
    End {
        at: BrowserRef,
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
    /// The lease is over: no call may use it any more. `Close` or `End` follows.
    Revoke {
        lease: LeaseRef,
        death: Death,
    },
    /// Close the browser context of an ended lease; its browser goes on.
    Close {
        lease: LeaseRef,
    },
    /// Tell operators that an invariant does not hold: a defect of ours.
    Report(Violation),
}

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its short name, for the metric.
    pub invariant: &'static str,
    /// The slot that pays for it, when it is one slot's.
    pub slot: Option<usize>,
    pub what: String,
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
    /// Why a drain ends leases, and grants none.
    pub(super) const SHUT_DOWN: &str = "the server is shutting down";

    pub(super) fn draining() -> Self {
        Self::retry(ErrorCode::Draining, format!("{}; try again elsewhere", Self::SHUT_DOWN), Duration::from_secs(1))
    }

    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    pub fn retry(code: ErrorCode, message: impl Into<String>, after: Duration) -> Self {
        Self { code, message: message.into(), retry_after: Some(after) }
    }
}

/// The life of a lease in time. All of it is the monotonic clock's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    pub granted: Instant,
    /// Last renewal or call.
    pub used: Instant,
    /// How long it lives without either.
    pub ttl: Duration,
    /// Whether the session has confirmed it.
    pub bound: bool,
}

impl Term {
    /// Why a lease ends that nobody uses.
    pub const IDLE: &str = "the session was idle too long";

    pub fn new(granted: Instant, ttl: Duration) -> Self {
        Self { granted, used: granted, ttl, bound: false }
    }

    /// When it ends if nothing happens.
    pub fn expires(&self, limits: &Limits) -> Instant {
        let longest = self.granted + limits.max_lifetime;
        match (self.bound, limits.sessions_are_watched) {
            (false, _) => longest.min(self.granted + limits.unbound_ttl),
            (true, false) => longest.min(self.used + self.ttl),
            (true, true) => longest,
        }
    }

    /// Why it ends then.
    pub fn reason(&self, limits: &Limits) -> &'static str {
        if self.expires(limits) == self.granted + limits.max_lifetime {
            "the session has reached its longest lifetime"
        } else if self.bound {
            Self::IDLE
        } else {
            "the lease was not confirmed in time"
        }
    }
}

/// A lease as the decisions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub key: Key,
    pub term: Term,
}

/// Counts for operators and for those who choose among daemons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub starting: usize,
    pub idle: usize,
    /// Browsers that serve at least one lease and take more if they may.
    pub leased: usize,
    /// Browsers that serve their last leases.
    pub retiring: usize,
    pub killing: usize,
    /// Slots out of use until the daemon restarts, because something in them could not be ended or accounted for.
    pub poisoned: usize,
    /// Those of them in which processes are left that could not be ended.
    pub left: usize,
    pub leases: usize,
    pub queued: usize,
    pub draining: bool,
    /// Why browsers cannot be started at present.
    pub broken: Option<String>,
    pub pressure: Pressure,
}

impl Counts {
    /// Why a newcomer gets no browser here, even by waiting.
    pub fn unavailable(&self) -> Option<&str> {
        if self.draining { Some("it is shutting down") } else { self.broken.as_deref().filter(|_| self.idle == 0) }
    }
}
