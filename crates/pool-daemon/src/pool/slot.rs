//! One slot of the pool: what is in it.

use std::collections::BTreeMap;

use tokio::time::{Duration, Instant};

use super::model::{BrowserRef, Lease, LeaseRef, Limits};

/// The state of one slot. A browser is in exactly one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Empty,
    Starting {
        generation: u64,
    },
    Up(Up),
    /// Being ended; taken until its processes are verified gone.
    Killing {
        generation: u64,
    },
    /// Out of use until the daemon restarts.
    Poisoned(Remains),
}

/// What is in a slot that is out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remains {
    /// A browser that is being ended, or that is ended as soon as it is up.
    Ending {
        generation: u64,
    },
    /// Processes that could not be ended.
    Processes,
    Nothing,
}

/// What a browser that runs is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It serves nobody.
    Idle,
    Leased,
    /// It serves its last leases.
    Retiring,
}

/// A browser that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Up {
    pub(super) generation: u64,
    launched: Instant,
    /// Its launch, or the end of its last lease.
    pub(super) free_since: Instant,
    /// The principal of its first lease, and of every later one.
    pub(super) owner: Option<String>,
    /// By seat.
    pub(super) leases: BTreeMap<u32, Lease>,
    /// Browser contexts of ended leases that are being closed.
    pub(super) closing: usize,
    /// How many leases it has had: the seat of the next one.
    uses: u32,
    /// It takes no further lease.
    pub(super) retiring: bool,
}

impl Up {
    pub(super) fn new(generation: u64, now: Instant) -> Self {
        Self {
            generation,
            launched: now,
            free_since: now,
            owner: None,
            leases: BTreeMap::new(),
            closing: 0,
            uses: 0,
            retiring: false,
        }
    }

    pub(super) fn phase(&self) -> Phase {
        match (self.retiring, self.is_free()) {
            (true, _) => Phase::Retiring,
            (false, true) => Phase::Idle,
            (false, false) => Phase::Leased,
        }
    }

    /// Whether nothing is going on in it.
    pub(super) fn is_free(&self) -> bool {
        self.leases.is_empty() && self.closing == 0
    }

    /// Whether nobody has ever had it: the only kind that another principal may get.
    pub(super) fn is_fresh(&self) -> bool {
        self.owner.is_none()
    }

    /// Whether it may serve one more lease of a principal. What is closing takes no place: it is gone in a moment, and a browser
    /// more, in its stead, would take longer to start, and would stay.
    pub(super) fn takes(&self, principal: &str, limits: &Limits, now: Instant) -> bool {
        !self.retiring
            && self.leases.len() < limits.contexts_per_browser
            && self.leases.len() + self.closing < limits.most_contexts()
            && self.owner.as_deref().is_none_or(|owner| owner == principal)
            && !self.is_worn(limits, now)
    }

    /// Whether it has served long or often enough.
    pub(super) fn is_worn(&self, limits: &Limits, now: Instant) -> bool {
        self.uses >= limits.retirement.max_uses || self.expires(limits) <= now
    }

    /// When it has reached its age. Spread over a fifth of the limit by generation, so that browsers which were started
    /// together do not go together.
    pub(super) fn expires(&self, limits: &Limits) -> Instant {
        let spread = u32::try_from(self.generation.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56).unwrap_or(0);
        self.launched + limits.retirement.max_age.mul_f64(0.9 + 0.2 * f64::from(spread) / 255.0)
    }

    /// Adds a lease; answers its seat.
    pub(super) fn seat(&mut self, lease: Lease) -> u32 {
        let seat = self.uses;
        self.uses += 1;
        self.owner.get_or_insert_with(|| lease.key.principal.clone());
        self.leases.insert(seat, lease);
        seat
    }

    /// Takes a lease back that never served: the browser is what it was before.
    pub(super) fn unseat(&mut self, seat: u32) -> Option<Lease> {
        let lease = self.leases.remove(&seat)?;
        if self.uses == seat + 1 {
            self.uses = seat;
        }
        if self.uses == 0 {
            self.owner = None;
        }
        Some(lease)
    }

    /// How many leases it has had: the seat of the next one.
    pub(super) fn uses(&self) -> u32 {
        self.uses
    }

    /// How long it has served nobody.
    pub(super) fn free_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.free_since)
    }
}

impl Slot {
    /// The generation of the browser in it.
    pub(super) fn generation(&self) -> Option<u64> {
        match self {
            Self::Empty | Self::Poisoned(_) => None,
            Self::Starting { generation } | Self::Killing { generation } => Some(*generation),
            Self::Up(up) => Some(up.generation),
        }
    }

    /// The slot once it is out of use: what goes on in it is brought to its end.
    pub(super) fn poisoned(&self) -> Self {
        Self::Poisoned(match self {
            Self::Poisoned(remains) => *remains,
            other => other.generation().map_or(Remains::Nothing, |generation| Remains::Ending { generation }),
        })
    }

    /// Whether nothing in it is to be ended any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Empty | Self::Poisoned(Remains::Nothing | Remains::Processes))
    }

    /// The browser in it, if it runs.
    pub(super) fn up(&self) -> Option<&Up> {
        if let Self::Up(up) = self { Some(up) } else { None }
    }

    /// The leases of the browser in it.
    pub(super) fn leases(&self, slot: usize) -> impl Iterator<Item = (LeaseRef, &Lease)> {
        self.up().into_iter().flat_map(move |up| {
            let browser = BrowserRef { slot, generation: up.generation };
            up.leases.iter().map(move |(seat, lease)| (LeaseRef { browser, seat: *seat }, lease))
        })
    }
}
