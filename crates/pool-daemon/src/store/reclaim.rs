//! Taking leases back whose sessions are over.
//!
//! A session ends in the store: by its time to live, by a front end that did not reach us, by a person at the store. So
//! every second the records of this daemon's leases are read. One that is missing twice in a row, or holds another lease,
//! costs its lease. A store that does not answer costs nothing, and neither does one that was emptied: its *epoch* is
//! gone, too, and the sessions whose browsers live here are written again.

use std::sync::Arc;

use browserfleet_common::{
    ids::{Principal, SessionName},
    redis::{Error, Sessions, sessions::NewSession},
    session::{self, Client, LeaseRef, LeaseState},
};
use tokio::time::{Duration, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::Contact;
use crate::pool::{Handle, Leased, handle::Listed};

/// How often the sessions of all leases are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// What is missing is looked for again after this: a replica that has just become the server may lag behind.
const AGAIN: Duration = Duration::from_millis(250);
/// Sessions that are written again count, but are not refused.
const NO_LIMIT: usize = i32::MAX as usize;

/// The task's own data.
#[derive(Debug)]
pub(super) struct Reclaimer {
    sessions: Sessions,
    /// How front ends name this daemon in leases.
    address: String,
    handle: Handle,
    /// Of the store, as it was when our leases' sessions were last known to be there.
    epoch: Option<String>,
}

/// A lease and what its session is called in the store.
type Held = (Arc<Leased>, session::Key);

impl Reclaimer {
    pub(super) fn new(sessions: Sessions, address: String, handle: Handle) -> Self {
        Self { sessions, address, handle, epoch: None }
    }

    /// Sweeps until `stop`, or until the pool has ended.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let sweeping = async {
            let (mut ticks, mut contact) = (interval(SWEEP), Contact::default());
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                // Asked first, and without leases too: whoever is leased a browser from now on is in the store of this epoch.
                let epoch = contact.note("sessions", self.sessions.epoch().await);
                let Ok(listed) = self.handle.list().await else { return };
                if let Some(epoch) = epoch {
                    let _swept = contact.note("sessions", self.sweep(epoch, listed).await);
                }
            }
        };
        tokio::select! {
            () = sweeping => {}
            () = stop.cancelled() => {}
        }
    }

    async fn sweep(&mut self, epoch: String, listed: Vec<Listed>) -> Result<(), Error> {
        // Nobody has confirmed the others: they end by themselves, within seconds.
        let held: Vec<_> = listed.into_iter().filter(|listed| listed.bound).filter_map(with_key).collect();
        if self.epoch.as_ref().is_some_and(|known| *known != epoch) {
            tracing::warn!(leases = held.len(), "the store was emptied: sessions are written again");
            self.write_again(&held).await?;
        }
        self.epoch = Some(epoch);
        let missing = self.over(held).await?;
        if missing.is_empty() {
            return Ok(());
        }
        sleep(AGAIN).await;
        let over = self.over(missing).await?;
        // Emptied in the meantime: the next sweep sees that.
        if self.epoch == Some(self.sessions.epoch().await?) {
            for (leased, _) in over {
                tracing::info!(lease = leased.lease_id, "the session of a lease has ended");
                // A pool that has stopped ends its leases itself.
                let _stopped = self.handle.session_ended(&leased).await;
            }
        }
        Ok(())
    }

    /// Those whose session is missing, was created anew, or holds another lease.
    async fn over(&self, held: Vec<Held>) -> Result<Vec<Held>, Error> {
        let keys: Vec<_> = held.iter().map(|(_, key)| key.clone()).collect();
        let records = self.sessions.held(&keys).await?;
        let lives = |leased: &Leased, record: &browserfleet_common::redis::sessions::Held| {
            record.birth == leased.key.birth && record.lease_id.as_deref() == Some(&leased.lease_id)
        };
        let over = held
            .into_iter()
            .zip(records)
            .filter(|((leased, _), record)| !record.as_ref().is_some_and(|record| lives(leased, record)));
        Ok(over.map(|(held, _)| held).collect())
    }

    /// Writes the sessions of living leases that the store has lost. Who called them is not known here, and nothing decides
    /// by it.
    async fn write_again(&self, held: &[Held]) -> Result<(), Error> {
        for (leased, key) in held {
            let lease = LeaseRef {
                lease_id: leased.lease_id.clone(),
                token: leased.token.clone(),
                daemon: self.address.clone(),
            };
            let new = NewSession {
                key,
                birth: &leased.key.birth,
                connection: None,
                client: &Client::default(),
                egress: &leased.egress,
                idle_ttl: leased.ttl(),
                max_lifetime: self.handle.limits().max_lifetime,
                lease: &LeaseState::held(lease),
                per_principal: NO_LIMIT,
                total: NO_LIMIT,
            };
            // One that a front end has created again meanwhile stays; this lease is then over.
            self.sessions.create(new).await?;
        }
        Ok(())
    }
}

/// A session whose name could be none was never in the store.
fn with_key(Listed { leased, .. }: Listed) -> Option<Held> {
    let name = SessionName::parse(&leased.key.session).ok()?;
    let key = session::Key { principal: Principal::named(&leased.key.principal), name };
    Some((leased, key))
}
