//! Taking leases back whose sessions are over.
//!
//! A session ends in the store: by its time to live, by a front end that did not reach us, by a person at the store. So
//! every second the records of this daemon's leases are read, and each lease is judged ([`verdict`]). A store that does
//! not answer costs nothing; what it has lost is written again.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use browserfleet_common::{
    ids::{Principal, SessionName},
    redis::{Error, Sessions, looking::Sight, sessions::NewSession},
    session::{self, Client, LeaseRef, LeaseState, Limits},
};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    Contact,
    verdict::{Known, Sighting, Verdict, judge},
};
use crate::pool::{Handle, Leased, handle::Listed};

/// How often the sessions of all leases are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// Sessions that are written again count, but are not refused.
const NO_LIMIT: usize = i32::MAX as usize;

/// The task's own data.
#[derive(Debug)]
pub(super) struct Reclaimer {
    sessions: Sessions,
    /// How front ends name this daemon in leases.
    address: String,
    handle: Handle,
    /// By lease.
    seen: HashMap<String, Sighting>,
    /// Whether there has ever been one, or the store was emptied before we could see it.
    shared: bool,
    /// Of the store, when it was last looked at.
    epoch: Option<String>,
}

/// A lease, how long nobody has used it, and what its session is called in the store.
struct Held {
    leased: Arc<Leased>,
    unused: Duration,
    key: session::Key,
}

impl Reclaimer {
    pub(super) fn new(sessions: Sessions, address: String, handle: Handle) -> Self {
        Self { sessions, address, handle, seen: HashMap::new(), shared: false, epoch: None }
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
                    self.shared |= self.epoch.as_ref().is_some_and(|known| *known != epoch);
                    self.epoch = Some(epoch);
                    let _swept = contact.note("sessions", self.sweep(listed).await);
                }
            }
        };
        tokio::select! {
            () = sweeping => {}
            () = stop.cancelled() => {}
        }
    }

    async fn sweep(&mut self, listed: Vec<Listed>) -> Result<(), Error> {
        // Nobody has confirmed the others: they end by themselves, within seconds.
        let held: Vec<_> = listed.into_iter().filter(|listed| listed.bound).filter_map(Held::of).collect();
        let living: HashSet<&str> = held.iter().map(|held| held.leased.lease_id.as_str()).collect();
        self.seen.retain(|lease_id, _| living.contains(lease_id.as_str()));
        let keys: Vec<_> = held.iter().map(|held| held.key.clone()).collect();
        let asked = Instant::now();
        let sights = self.sessions.look(&keys).await?;
        let mut result = Ok(());
        for (held, sight) in held.iter().zip(&sights) {
            // One that cannot be written again keeps no other from its verdict.
            let concluded = self.conclude(held, sight, asked).await;
            result = result.and(concluded);
        }
        result
    }

    async fn conclude(&mut self, held: &Held, sight: &Sight, now: Instant) -> Result<(), Error> {
        let Held { leased, unused, .. } = held;
        let (lease_id, seen) = (&leased.lease_id, self.seen.get(&leased.lease_id).copied());
        let known =
            Known { lease_id, birth: &leased.key.birth, unused: *unused, ttl: leased.ttl(), seen, shared: self.shared };
        match judge(known, sight, now) {
            Verdict::Lives(sighting) => {
                self.shared = true;
                self.seen.insert(lease_id.clone(), sighting);
            }
            Verdict::Stays => {}
            Verdict::Lost => self.write_again(held).await?,
            Verdict::Over(reason) => {
                tracing::info!(lease = lease_id, reason, "a lease is taken back");
                // A pool that has stopped ends its leases itself.
                let _stopped = self.handle.session_ended(leased, reason).await;
            }
        }
        Ok(())
    }

    /// Writes the session of a living lease that the store has lost, and has its checkpoint kept again. Who called it is not
    /// known here, and nothing decides by it.
    async fn write_again(&self, Held { leased, key, .. }: &Held) -> Result<(), Error> {
        tracing::warn!(lease = leased.lease_id, "the store has lost a session: it is written again");
        let lease =
            LeaseRef { lease_id: leased.lease_id.clone(), token: leased.token.clone(), daemon: self.address.clone() };
        let new = NewSession {
            key,
            birth: &leased.key.birth,
            connection: None,
            client: &Client::default(),
            egress: &leased.egress,
            idle_ttl: leased.ttl(),
            max_lifetime: self.handle.limits().max_lifetime,
            lease: &LeaseState::held(lease),
            limits: Limits { per_principal: NO_LIMIT, total: NO_LIMIT },
        };
        // One that a front end has created again meanwhile stays; the next sweep sees that.
        self.sessions.create(new).await?;
        leased.kept.lost();
        Ok(())
    }
}

impl Held {
    /// A session whose name could be none was never in the store.
    fn of(Listed { leased, idle, .. }: Listed) -> Option<Self> {
        let name = SessionName::parse(&leased.key.session).ok()?;
        let key = session::Key { principal: Principal::named(&leased.key.principal), name };
        Some(Self { leased, unused: idle, key })
    }
}
