//! The pool daemons behind this front end: which one holds a lease, and where a new one is asked for.
//!
//! [`placement`] decides and [`placing`] asks; [`client`] is the wire to one daemon, [`wire`] says how it is reached,
//! [`signer`] what it is told of callers. The list of daemons is fixed here; a directory would change it, and nobody else
//! would notice.

mod client;
mod placement;
mod placing;
mod signer;
mod wire;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use browserfleet_common::{clock::Clock, error_code::ErrorCode, lifecycle::Tasks, pb::GetPoolResponse};
use futures_util::future::join_all;
use tokio::{
    sync,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

pub use self::wire::{Pools, Wire};
pub(crate) use self::{
    client::{PoolClient, QueueWatch},
    placing::Wanted,
};
use self::{
    placement::{Event, Index, Placement, Report},
    signer::Signer,
};
use crate::{
    failure::{DaemonError, Failure},
    session::{LeaseRef, Record},
};

/// How often each daemon is asked how it is.
const LOOK: Duration = Duration::from_secs(1);

/// How long an answer of all daemons is good enough for whoever asks next.
const FRESH: Duration = Duration::from_millis(200);

/// All daemons.
#[derive(Debug)]
pub(crate) struct Fleet {
    daemons: Vec<PoolClient>,
    known: Mutex<Known>,
    /// When all were asked at once. Held while they are.
    asked: sync::Mutex<Option<Instant>>,
}

/// What is known of the daemons, one place each. A plain mutex: nobody waits while holding it.
#[derive(Debug)]
struct Known {
    placement: Placement,
    identities: Vec<Option<Identity>>,
}

/// Who answers at an address. Another daemon, or the same one started again, knows nothing of earlier leases.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    pool: String,
    incarnation: String,
}

impl Identity {
    /// Who minted a token: `pool/incarnation/…`.
    fn of_token(token: &str) -> Option<Self> {
        let mut parts = token.split('/');
        let (pool, incarnation, _slot) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self { pool: pool.to_owned(), incarnation: incarnation.to_owned() })
    }
}

impl Fleet {
    pub(crate) fn new(pools: Pools, clock: Arc<dyn Clock>) -> Self {
        let Pools { daemons, secret } = pools;
        let signer = Signer::new(secret, clock);
        let client = |(name, channel)| PoolClient::new(name, channel, signer.clone());
        let daemons: Vec<_> = daemons.into_iter().map(client).collect();
        let known = Known { placement: Placement::new(daemons.len()), identities: vec![None; daemons.len()] };
        Self { daemons, known: Mutex::new(known), asked: sync::Mutex::default() }
    }

    /// Starts watching the daemons, until `stop`.
    pub(crate) fn watch(self: &Arc<Self>, tasks: &Tasks, stop: &CancellationToken) {
        for index in 0..self.daemons.len() {
            let (fleet, stop) = (Arc::clone(self), stop.clone());
            tasks.spawn("watch daemon", async move {
                let mut ticks = interval(LOOK);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let looking = async {
                    loop {
                        ticks.tick().await;
                        // What came of it is noted.
                        let _noted = fleet.look(index).await;
                    }
                };
                tokio::select! {
                    () = looking => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }

    /// Whether somebody would take a new lease. The daemons are asked, but not for everybody who wants to know: anybody
    /// may want to.
    pub(crate) async fn is_ready(&self) -> bool {
        let mut asked = self.asked.lock().await;
        if asked.is_none_or(|asked| asked.elapsed() >= FRESH) {
            join_all((0..self.daemons.len()).map(|index| self.look(index))).await;
            *asked = Some(Instant::now());
        }
        drop(asked);
        self.in_service() > 0
    }

    /// How many daemons there are.
    pub(crate) fn count(&self) -> usize {
        self.daemons.len()
    }

    /// How many of them take new leases, as far as is known.
    pub(crate) fn in_service(&self) -> usize {
        self.known().placement.count(Instant::now())
    }

    /// How many are left alone for a while because they failed.
    pub(crate) fn ejected(&self) -> usize {
        self.known().placement.ejected(Instant::now())
    }

    /// The daemon of a lease. Never one that did not grant it: an address may belong to somebody else by now.
    pub(crate) async fn holder(&self, lease: &LeaseRef) -> Result<&PoolClient, DaemonError> {
        // One that is not in the list is out of our reach; that does not mean that it is gone.
        let index = self.index(&lease.daemon).ok_or(DaemonError::Unreachable)?;
        let Some(grantor) = Identity::of_token(&lease.token) else { return Ok(&self.daemons[index]) };
        let last_seen = self.known().identities[index].clone();
        // What we remember may be older than the lease: before a lease is called lost, its daemon is asked who it is.
        if last_seen.is_some_and(|identity| identity != grantor) && self.look(index).await? != grantor {
            let why = "the daemon it ran on has been replaced";
            return Err(DaemonError::Refused(Failure::new(ErrorCode::LeaseLost, why)));
        }
        Ok(&self.daemons[index])
    }

    /// Confirms a lease to its daemon and prolongs it.
    pub(crate) async fn renew(&self, session: &Record, lease: &LeaseRef, ttl: Duration) -> Result<(), DaemonError> {
        self.holder(lease).await?.renew(session, lease, ttl).await
    }

    /// Returns a lease. One that is not there any more counts as returned.
    pub(crate) async fn release(&self, session: &Record, lease: &LeaseRef) -> Result<(), DaemonError> {
        match self.holder(lease).await {
            Ok(daemon) => daemon.release(session, lease).await,
            Err(DaemonError::Refused(failure)) if failure.code == ErrorCode::LeaseLost => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks a daemon who and how it is, and takes note.
    async fn look(&self, index: Index) -> Result<Identity, DaemonError> {
        match self.daemons[index].status().await {
            Ok(status) => {
                let identity = Identity { pool: status.pool_id.clone(), incarnation: status.incarnation.clone() };
                self.known().identities[index] = Some(identity.clone());
                self.note(index, Event::Reported(report(&status)));
                Ok(identity)
            }
            Err(error) => {
                self.note(index, Event::Silent);
                Err(error)
            }
        }
    }

    fn note(&self, index: Index, event: Event) {
        let mut known = self.known();
        let now = Instant::now();
        let before = known.placement.count(now);
        // An acquisition that begins is a probe at most: not news.
        let news = (event != Event::Asked).then(|| format!("{event:?}"));
        known.placement.on(index, event, now);
        let in_service = known.placement.count(now);
        drop(known);
        if let Some(event) = news.filter(|_| in_service != before) {
            tracing::info!(
                daemon = self.daemons[index].name(),
                event,
                in_service,
                of = self.count(),
                "daemons changed"
            );
        }
    }

    fn index(&self, name: &str) -> Option<Index> {
        self.daemons.iter().position(|daemon| daemon.name() == name)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(status: &GetPoolResponse) -> Report {
    let up = status.idle + status.leased + status.retiring;
    let used = up + status.starting + status.killing + status.poisoned;
    Report {
        idle: status.idle,
        room: status.max_browsers.saturating_sub(used),
        queued: status.queued,
        closed: status.draining || !status.unavailable.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_says_who_minted_it() {
        let identity = Identity { pool: "a".to_owned(), incarnation: "1f".to_owned() };
        assert_eq!(Identity::of_token("a/1f/3/17"), Some(identity));
        assert_eq!(Identity::of_token("opaque"), None);
    }
}
