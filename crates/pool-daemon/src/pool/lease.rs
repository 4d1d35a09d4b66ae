//! A granted lease: its token, its activity, and the registry that lets calls in without asking the driver.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use browserfleet_common::{egress::Egress, error_code::ErrorCode};
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::{
    browser::{Browser, Death, Ready},
    handle::Identity,
    model::{BrowserRef, Key, Lease, LeaseRef, Limits, Refusal, Term},
};
use crate::{checkpoint::Kept, workspace::Workspace};

/// How many ended leases are remembered, so that their holders can be told why.
const REMEMBERED: usize = 1024;

/// A live lease, shared by the driver and the calls that run under it.
#[derive(Debug)]
pub struct Leased {
    pub lease_id: String,
    /// pool id / incarnation / slot / generation . seat. Unguessable through the incarnation, and never repeated.
    pub token: String,
    pub at: LeaseRef,
    pub key: Key,
    /// What the session asked for about its way out.
    pub egress: Egress,
    pub browser: Arc<Browser>,
    pub workspace: Arc<Workspace>,
    /// What outlives it of its session.
    pub kept: Kept,
    limits: Arc<Limits>,
    activity: Mutex<Activity>,
    ended: CancellationToken,
    death: OnceLock<Death>,
}

#[derive(Debug)]
struct Activity {
    running: usize,
    /// As the driver knows it, with the calls it has not heard of yet.
    term: Term,
    /// Until when its session lives if nobody uses it, as the store has said last.
    session_lives: Option<Instant>,
}

impl Activity {
    /// Why its time is over, if it is. The driver ends a lease whose session is watched on the word of the store alone; but that
    /// nobody has used it for as long as it may be, and that the store did not say that it lives all the same, is enough for
    /// letting no call in.
    fn over(&self, limits: &Limits, now: Instant) -> Option<&'static str> {
        let idle = limits.sessions_are_watched
            && self.term.bound
            && self.term.used + self.term.ttl <= now
            && self.session_lives.is_none_or(|until| until <= now);
        if self.term.expires(limits) <= now { Some(self.term.reason(limits)) } else { idle.then_some(Term::IDLE) }
    }
}

impl Leased {
    pub(super) fn new(
        identity: &Identity,
        at: LeaseRef,
        lease: &Lease,
        egress: Egress,
        (browser, ready): (Arc<Browser>, Ready),
        limits: Arc<Limits>,
    ) -> Self {
        let Identity { pool_id, incarnation } = identity;
        let LeaseRef { browser: BrowserRef { slot, generation }, seat } = at;
        Self {
            lease_id: uuid::Uuid::new_v4().to_string(),
            token: format!("{pool_id}/{incarnation}/{slot}/{generation}.{seat}"),
            at,
            key: lease.key.clone(),
            egress,
            browser,
            workspace: Arc::new(Workspace::new(ready)),
            kept: Kept::default(),
            limits,
            activity: Mutex::new(Activity { running: 0, term: lease.term, session_lives: None }),
            ended: CancellationToken::new(),
            death: OnceLock::new(),
        }
    }

    /// Marks a call as running: the lease does not expire meanwhile. Refused when its time is over already, even if the
    /// driver has not come to ending it: after a long pause of the whole process nothing may run on old time.
    pub fn enter(self: &Arc<Self>) -> Result<Running, Refusal> {
        let mut activity = lock(&self.activity);
        let over = activity.over(&self.limits, Instant::now()).filter(|_| activity.running == 0);
        if let Some(reason) = over {
            return Err(lost(&Death::of_lease(reason)));
        }
        activity.running += 1;
        Ok(Running(Arc::clone(self)))
    }

    /// When the lease was last used, if it ever was; now, while a call runs.
    pub(super) fn last_used(&self) -> Option<Instant> {
        let activity = lock(&self.activity);
        if activity.running > 0 { Some(Instant::now()) } else { activity.term.bound.then_some(activity.term.used) }
    }

    /// How long it lives unused.
    pub fn ttl(&self) -> Duration {
        lock(&self.activity).term.ttl
    }

    /// The store says that the session lives until then, unused; or for ever.
    pub(crate) fn session_lives(&self, until: Option<Instant>) {
        let mut activity = lock(&self.activity);
        let longest = activity.term.granted + self.limits.max_lifetime;
        activity.session_lives = Some(until.unwrap_or(longest));
    }

    /// The session has confirmed the lease.
    pub(super) fn renewed(&self, term: Term) {
        lock(&self.activity).term = term;
    }

    pub(super) fn end(&self, death: &Death) {
        // The first reason is the cause; a later one follows from it.
        let _already_ended = self.death.set(death.clone());
        self.ended.cancel();
    }

    /// Cancelled when the lease has ended.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// The refusal of a call under an ended lease; `None` while it lives. A browser that took too much memory has a code
    /// of its own here: the call that runs may be the cause, a later one is not.
    pub fn lost(&self) -> Option<Refusal> {
        let death = self.death.get().filter(|_| self.ended.is_cancelled())?;
        let code = match death.code {
            ErrorCode::BrowserOutOfMemory => death.code,
            _ => ErrorCode::LeaseLost,
        };
        Some(Refusal { code, ..lost(death) })
    }
}

/// A running call; the lease counts as used until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Leased>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut activity = lock(&self.0.activity);
        activity.running -= 1;
        activity.term.bound = true;
        activity.term.used = Instant::now();
    }
}

/// The live leases by id. Written by the driver, read by every call.
#[derive(Debug, Default)]
pub struct Registry {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    live: HashMap<String, Arc<Leased>>,
    ended: VecDeque<(String, Death)>,
}

impl Registry {
    /// The lease of an id, if the token is its own.
    pub fn check(&self, lease_id: &str, token: &str) -> Result<Arc<Leased>, Refusal> {
        let inner = lock(&self.inner);
        match inner.live.get(lease_id) {
            Some(leased) if leased.token == token => Ok(Arc::clone(leased)),
            // A wrong token learns nothing about the lease.
            Some(_) => Err(lost(&Death::of_lease("it belongs to somebody else"))),
            None => {
                let death = inner.ended.iter().rev().find(|(id, _)| id == lease_id).map(|(_, death)| death.clone());
                Err(lost(&death.unwrap_or_else(|| Death::of_lease("it is not known here"))))
            }
        }
    }

    /// Every live lease.
    pub fn all(&self) -> Vec<Arc<Leased>> {
        lock(&self.inner).live.values().cloned().collect()
    }

    pub(super) fn insert(&self, leased: Arc<Leased>) {
        lock(&self.inner).live.insert(leased.lease_id.clone(), leased);
    }

    pub(super) fn at(&self, at: LeaseRef) -> Option<Arc<Leased>> {
        lock(&self.inner).live.values().find(|leased| leased.at == at).cloned()
    }

    pub(super) fn remove(&self, lease_id: &str, death: &Death) {
        let mut inner = lock(&self.inner);
        inner.live.remove(lease_id);
        inner.ended.push_back((lease_id.to_owned(), death.clone()));
        if inner.ended.len() > REMEMBERED {
            inner.ended.pop_front();
        }
    }
}

fn lost(death: &Death) -> Refusal {
    Refusal::new(ErrorCode::LeaseLost, format!("the browser of this session is gone: {}", death.reason))
}

/// Plain data behind a short lock: a panic while holding it leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
