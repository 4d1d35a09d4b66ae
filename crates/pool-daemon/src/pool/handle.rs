//! The cloneable API of the pool. Everything here is bounded: the driver always answers, or is gone.

use std::{sync::Arc, time::Duration};

use browserfleet_common::{egress::EgressRules, error_code::ErrorCode};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    lease::{Leased, Registry},
    model::{Counts, Key, LeaseRef, Limits, Refusal},
};

/// Who this pool is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Stable name of the daemon.
    pub pool_id: String,
    /// Random, drawn at each start: tokens of an earlier life are never valid.
    pub incarnation: String,
}

/// A question to the driver.
#[derive(Debug)]
pub(super) enum Command {
    Acquire { key: Key, ttl: Duration, deadline: Instant, caller: Caller },
    Renew { at: LeaseRef, ttl: Option<Duration>, reply: oneshot::Sender<Option<Duration>> },
    Release { at: LeaseRef, reply: oneshot::Sender<()> },
    SessionEnded { at: LeaseRef, reason: &'static str, reply: oneshot::Sender<()> },
    List { reply: oneshot::Sender<Vec<Listed>> },
    Drain { deadline: Instant, reply: oneshot::Sender<usize> },
}

/// The driver's end of an acquisition.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) outcome: oneshot::Sender<Result<Arc<Leased>, Refusal>>,
    pub(super) place: watch::Sender<Place>,
    /// What the browser may reach.
    pub(super) rules: Box<EgressRules>,
    /// Cancelled when the caller went away.
    pub(super) gone: CancellationToken,
    pub(super) asked: Instant,
}

/// A place in the queue: position (1 is next, 0 is not waiting) and how many wait in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub position: usize,
    pub depth: usize,
}

/// A lease as operators see it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub leased: Arc<Leased>,
    pub bound: bool,
    pub age: Duration,
    pub idle: Duration,
    pub expires_in: Duration,
}

/// The caller's end of an acquisition. Dropping it leaves the queue.
#[derive(Debug)]
pub struct Acquisition {
    pub place: watch::Receiver<Place>,
    pub outcome: oneshot::Receiver<Result<Arc<Leased>, Refusal>>,
    _gone: DropGuard,
}

impl Acquisition {
    /// Waits for the answer, whatever the place in the queue.
    pub async fn outcome(self) -> Result<Arc<Leased>, Refusal> {
        let Self { outcome, _gone, .. } = self;
        outcome.await.unwrap_or_else(|_driver_gone| Err(stopped()))
    }
}

/// What everybody but the driver holds of the pool.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) registry: Arc<Registry>,
    pub(super) counts: watch::Receiver<Counts>,
    pub(super) identity: Arc<Identity>,
    pub(super) started: Instant,
    pub(super) limits: Arc<Limits>,
}

impl Handle {
    /// Asks for a browser that may reach what `rules` say, waiting until `deadline`. If there is a lease already, its own
    /// rules stay.
    pub async fn acquire(
        &self,
        key: Key,
        rules: EgressRules,
        ttl: Duration,
        deadline: Instant,
    ) -> Result<Acquisition, Refusal> {
        let (outcome_sender, outcome) = oneshot::channel();
        let (place_sender, place) = watch::channel(Place::default());
        let gone = CancellationToken::new();
        let caller = Caller {
            outcome: outcome_sender,
            place: place_sender,
            rules: Box::new(rules),
            gone: gone.clone(),
            asked: Instant::now(),
        };
        self.send(Command::Acquire { key, ttl, deadline, caller }).await?;
        Ok(Acquisition { place, outcome, _gone: gone.drop_guard() })
    }

    /// The live lease of an id, if the token is its own. Does not disturb the driver.
    pub fn check(&self, lease_id: &str, token: &str) -> Result<Arc<Leased>, Refusal> {
        self.registry.check(lease_id, token)
    }

    /// Confirms and prolongs a lease; answers the time left.
    pub async fn renew(&self, leased: &Leased, ttl: Option<Duration>) -> Result<Duration, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Renew { at: leased.at, ttl, reply }).await?;
        let left = answer.await.map_err(|_driver_gone| stopped())?;
        left.ok_or_else(|| leased.lost().unwrap_or_else(stopped))
    }

    /// Ends a lease. Answers when no call can use it any more; its processes end in the background.
    pub async fn release(&self, leased: &Leased) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Release { at: leased.at, reply }).await?;
        answer.await.map_err(|_driver_gone| stopped())
    }

    /// Ends a lease that its session does not have any more, for this reason; as [`Self::release`].
    pub async fn session_ended(&self, leased: &Leased, reason: &'static str) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::SessionEnded { at: leased.at, reason, reply }).await?;
        answer.await.map_err(|_driver_gone| stopped())
    }

    /// Every live lease, oldest first.
    pub async fn list(&self) -> Result<Vec<Listed>, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::List { reply }).await?;
        answer.await.map_err(|_driver_gone| stopped())
    }

    /// Stops granting; running leases are ended after `grace`. Answers how many are running.
    pub async fn drain(&self, grace: Duration) -> Result<usize, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Drain { deadline: Instant::now() + grace, reply }).await?;
        answer.await.map_err(|_driver_gone| stopped())
    }

    /// How many browsers are in which state, now.
    pub fn counts(&self) -> Counts {
        self.counts.borrow().clone()
    }

    /// The counts as they change, for those who wait for a state.
    pub fn watch(&self) -> watch::Receiver<Counts> {
        self.counts.clone()
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    async fn send(&self, command: Command) -> Result<(), Refusal> {
        self.commands.send(command).await.map_err(|_driver_gone| stopped())
    }
}

fn stopped() -> Refusal {
    Refusal::new(ErrorCode::Draining, "the pool has stopped")
}
