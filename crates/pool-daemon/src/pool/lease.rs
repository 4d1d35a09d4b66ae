//! A granted lease: its token, its activity, and the registry that lets calls in without asking the driver.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    browser::{Browser, Ready},
    model::{Key, LeaseRef, Refusal},
};
use crate::workspace::Workspace;

/// How many ended leases are remembered, so that their holders can be told why.
const REMEMBERED: usize = 1024;

/// A live lease, shared by the driver and the calls that run under it.
#[derive(Debug)]
pub struct Leased {
    pub lease_id: String,
    /// pool id / incarnation / slot / generation. Unguessable through the incarnation, and never repeated.
    pub token: String,
    pub at: LeaseRef,
    pub key: Key,
    pub browser: Arc<Browser>,
    pub workspace: Workspace,
    activity: Mutex<Activity>,
    ended: CancellationToken,
    reason: OnceLock<String>,
}

#[derive(Debug, Default)]
struct Activity {
    running: usize,
    /// When the last call ended.
    last: Option<Instant>,
}

impl Leased {
    pub(super) fn new(
        lease_id: String,
        token: String,
        at: LeaseRef,
        key: Key,
        browser: Arc<Browser>,
        ready: Ready,
    ) -> Self {
        Self {
            lease_id,
            token,
            at,
            key,
            workspace: Workspace::new(ready),
            browser,
            activity: Mutex::default(),
            ended: CancellationToken::new(),
            reason: OnceLock::new(),
        }
    }

    /// Marks a call as running: the lease does not expire meanwhile.
    pub fn enter(self: &Arc<Self>) -> Running {
        lock(&self.activity).running += 1;
        Running(Arc::clone(self))
    }

    /// When the lease was last used, if it ever was; now, while a call runs.
    pub(super) fn last_used(&self) -> Option<Instant> {
        let activity = lock(&self.activity);
        if activity.running > 0 { Some(Instant::now()) } else { activity.last }
    }

    pub(super) fn end(&self, reason: &str) {
        // The first reason is the cause; a later one follows from it.
        let _already_ended = self.reason.set(reason.to_owned());
        self.ended.cancel();
    }

    /// Cancelled when the lease has ended.
    pub fn ended(&self) -> &CancellationToken {
        &self.ended
    }

    /// The refusal of a call under an ended lease; `None` while it lives.
    pub fn lost(&self) -> Option<Refusal> {
        self.ended.is_cancelled().then(|| lost(self.reason.get().map_or("it has ended", String::as_str)))
    }
}

/// A running call; the lease counts as used until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Leased>);

impl Drop for Running {
    fn drop(&mut self) {
        let mut activity = lock(&self.0.activity);
        activity.running -= 1;
        activity.last = Some(Instant::now());
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
    ended: VecDeque<(String, String)>,
}

impl Registry {
    /// The lease of an id, if the token is its own.
    pub fn check(&self, lease_id: &str, token: &str) -> Result<Arc<Leased>, Refusal> {
        let inner = lock(&self.inner);
        match inner.live.get(lease_id) {
            Some(leased) if leased.token == token => Ok(Arc::clone(leased)),
            // A wrong token learns nothing about the lease.
            Some(_) => Err(lost("it belongs to somebody else")),
            None => {
                let reason = inner.ended.iter().rev().find(|(id, _)| id == lease_id).map(|(_, reason)| reason.as_str());
                Err(lost(reason.unwrap_or("it is not known here")))
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

    pub(super) fn remove(&self, lease_id: &str, reason: &str) {
        let mut inner = lock(&self.inner);
        inner.live.remove(lease_id);
        inner.ended.push_back((lease_id.to_owned(), reason.to_owned()));
        if inner.ended.len() > REMEMBERED {
            inner.ended.pop_front();
        }
    }
}

fn lost(reason: &str) -> Refusal {
    Refusal::new(ErrorCode::LeaseLost, format!("the browser of this session is gone: {reason}"))
}

/// Plain data behind a short lock: a panic while holding it leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
