//! Taking leases back whose sessions are over.
//!
//! A session ends in the store: by its time to live, by a front end that did not reach us, by a person at the store. So
//! every second the store is asked whether they hold their leases, and a lease that is not held is judged
//! ([`super::verdict`]). A store that does not answer costs nothing; what it has lost is written again.

use std::{collections::HashMap, mem, sync::Arc};

use browserfleet_common::{
    ids::{Principal, SessionName},
    redis::{
        Error, Sessions,
        looking::{Hold, Sight},
        sessions::NewSession,
    },
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
    /// By the id of the lease.
    watched: HashMap<String, Watched>,
    /// Whether there has ever been one, or the store was emptied before we could see it.
    shared: bool,
    /// Of the store, when it was last looked at.
    epoch: Option<String>,
}

/// A lease that somebody has confirmed, and what its session is called in the store.
#[derive(Debug)]
struct Watched {
    leased: Arc<Leased>,
    key: session::Key,
    record: String,
    /// How long nobody has used it.
    unused: Duration,
    seen: Option<Sighting>,
}

impl Reclaimer {
    pub(super) fn new(sessions: Sessions, address: String, handle: Handle) -> Self {
        Self { sessions, address, handle, watched: HashMap::new(), shared: false, epoch: None }
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
        let mut watched = self.watched(listed);
        let swept = self.judge_all(&mut watched).await;
        self.watched = watched;
        swept
    }

    /// The leases that there are, with what is known of them. Nobody has confirmed the others: they end by themselves, within
    /// seconds.
    fn watched(&mut self, listed: Vec<Listed>) -> HashMap<String, Watched> {
        let mut before = mem::take(&mut self.watched);
        let bound = listed.into_iter().filter(|listed| listed.bound);
        let watched = bound.filter_map(|Listed { leased, idle, .. }| {
            let known = before.remove_entry(&leased.lease_id);
            let (lease_id, watched) = known.or_else(|| self.begin_to_watch(leased))?;
            Some((lease_id, Watched { unused: idle, ..watched }))
        });
        watched.collect()
    }

    /// None: a session whose name could be none was never in the store.
    fn begin_to_watch(&self, leased: Arc<Leased>) -> Option<(String, Watched)> {
        let name = SessionName::parse(&leased.key.session).ok()?;
        let key = session::Key { principal: Principal::named(&leased.key.principal), name };
        let (lease_id, record) = (leased.lease_id.clone(), self.sessions.record_of(&key));
        Some((lease_id, Watched { leased, key, record, unused: Duration::ZERO, seen: None }))
    }

    async fn judge_all(&mut self, watched: &mut HashMap<String, Watched>) -> Result<(), Error> {
        let asked = Instant::now();
        let leases: Vec<_> =
            watched.values().map(|watched| (watched.record.as_str(), watched.leased.lease_id.as_str())).collect();
        let holds = self.sessions.holds(&leases).await?;
        let mut unclear = Vec::new();
        for (watched, hold) in watched.values_mut().zip(holds) {
            if let Hold::Held { rest } = hold {
                self.saw(watched, Sighting { at: asked, rest });
            } else {
                unclear.push(watched);
            }
        }
        let keys: Vec<_> = unclear.iter().map(|watched| watched.key.clone()).collect();
        let sights = self.sessions.look(&keys).await?;
        let mut result = Ok(());
        for (watched, sight) in unclear.into_iter().zip(&sights) {
            // One that cannot be written again keeps no other from its verdict.
            let concluded = self.conclude(watched, sight, asked).await;
            result = result.and(concluded);
        }
        result
    }

    fn saw(&mut self, watched: &mut Watched, sighting: Sighting) {
        self.shared = true;
        watched.leased.session_lives(sighting.rest.map(|rest| sighting.at + rest));
        watched.seen = Some(sighting);
    }

    async fn conclude(&mut self, watched: &mut Watched, sight: &Sight, now: Instant) -> Result<(), Error> {
        let Watched { leased, unused, seen, .. } = &*watched;
        let (lease_id, birth, ttl) = (&leased.lease_id, &leased.key.birth, leased.ttl());
        let known = Known { lease_id, birth, unused: *unused, ttl, seen: *seen, shared: self.shared };
        match judge(known, sight, now) {
            // It holds it since a moment ago.
            Verdict::Lives(sighting) => self.saw(watched, sighting),
            Verdict::Stays => {}
            Verdict::Lost => self.write_again(watched).await?,
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
    async fn write_again(&self, Watched { leased, key, .. }: &Watched) -> Result<(), Error> {
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
