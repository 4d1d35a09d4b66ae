//! Sessions in this process: for one process, and for tests.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use browserfleet_common::{
    clock::Clock,
    ids::{Principal, random_hex},
};
use tokio::time::Instant;

use super::{Counts, Created, Full, Key, LeaseState, Limits, NewSession, Record, Scope, Store, Swapped};
use crate::Unavailable;

/// Sessions in a map. They end with the process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    /// A plain mutex: every use is a few map operations, none waits.
    sessions: Mutex<HashMap<Key, Kept>>,
}

struct Kept {
    record: Record,
    /// Idle time from the last call, at most `hard_end`.
    expires: Instant,
    hard_end: Instant,
}

impl Kept {
    fn lives(&self, now: Instant) -> bool {
        now < self.expires
    }
}

impl MemoryStore {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sessions: Mutex::default() }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        // A panic cannot leave the map half changed: every change is one assignment.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, new: NewSession, now: Instant) -> Kept {
        let wall = self.clock.now();
        let hard_end = now + new.max_lifetime;
        let record = Record {
            principal: new.key.principal,
            name: new.key.name,
            birth: random_hex(),
            created: wall,
            last_used: wall,
            idle_ttl: new.idle_ttl,
            connection: new.connection,
            client: new.client,
            egress: new.egress,
            lease: LeaseState::default(),
        };
        Kept { record, expires: hard_end.min(now + new.idle_ttl), hard_end }
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("sessions", &self.sessions().len()).finish_non_exhaustive()
    }
}

fn counts(sessions: &HashMap<Key, Kept>, principal: &Principal, now: Instant) -> Counts {
    let living = || sessions.values().filter(|kept| kept.lives(now));
    Counts {
        of_principal: living().filter(|kept| kept.record.principal == *principal).count(),
        total: living().count(),
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, new: NewSession, limits: Limits) -> Result<Created, Unavailable> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        let counts = counts(&sessions, &new.key.principal, now);
        let slot = match sessions.entry(new.key.clone()) {
            Entry::Occupied(kept) if kept.get().lives(now) => {
                return Ok(Created::Existing(kept.get().record.clone()));
            }
            slot => slot,
        };
        if counts.of_principal >= limits.per_principal {
            return Ok(Created::Full(Full::Principal));
        }
        if counts.total >= limits.total {
            return Ok(Created::Full(Full::Total));
        }
        let kept = self.keep(new, now);
        let record = kept.record.clone();
        slot.insert_entry(kept);
        Ok(Created::Fresh(record))
    }

    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        let Some(kept) = sessions.get_mut(key).filter(|kept| kept.lives(now)) else { return Ok(None) };
        kept.expires = kept.hard_end.min(now + kept.record.idle_ttl);
        kept.record.last_used = self.clock.now();
        Ok(Some(kept.record.clone()))
    }

    async fn swap_lease(
        &self,
        key: &Key,
        birth: &str,
        expected: Option<&str>,
        next: LeaseState,
    ) -> Result<Swapped, Unavailable> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        let kept = sessions.get_mut(key).filter(|kept| kept.lives(now) && kept.record.birth == birth);
        let Some(kept) = kept else { return Ok(Swapped::Gone) };
        let current = kept.record.lease.lease.as_ref().map(|lease| lease.lease_id.as_str());
        if current != expected {
            return Ok(Swapped::Conflict(kept.record.lease.clone()));
        }
        kept.record.lease = next;
        Ok(Swapped::Done)
    }

    async fn end(&self, key: &Key, birth: Option<&str>) -> Result<Option<Record>, Unavailable> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        let matches = sessions
            .get(key)
            .is_some_and(|kept| kept.lives(now) && birth.is_none_or(|birth| kept.record.birth == birth));
        Ok(if matches { sessions.remove(key).map(|kept| kept.record) } else { None })
    }

    async fn list(&self, scope: Scope<'_>) -> Result<Vec<Record>, Unavailable> {
        let now = Instant::now();
        let in_scope = |record: &Record| match scope {
            Scope::Of(principal) => record.principal == *principal,
            Scope::All => true,
        };
        let sessions = self.sessions();
        let living = sessions.values().filter(|kept| kept.lives(now)).map(|kept| &kept.record);
        let mut records: Vec<Record> = living.filter(|record| in_scope(record)).cloned().collect();
        drop(sessions);
        records.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        Ok(records)
    }

    async fn counts(&self, principal: &Principal) -> Result<Counts, Unavailable> {
        Ok(counts(&self.sessions(), principal, Instant::now()))
    }

    async fn sweep(&self) -> Result<Vec<Record>, Unavailable> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        Ok(sessions.extract_if(|_, kept| !kept.lives(now)).map(|(_, kept)| kept.record).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use browserfleet_common::clock::ManualClock;

    use super::*;
    use crate::session::suite;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_contract() {
        suite::run(|| Arc::new(MemoryStore::new(Arc::new(ManualClock::default()))), Duration::from_millis(600)).await;
    }
}
