//! Sessions in this process: for one process, and for tests.

use std::{
    collections::{HashMap, VecDeque, hash_map::Entry},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use browserfleet_common::{
    artifact::{self, Artifact, COUNT_MAX},
    checkpoint::{self, CHECKPOINTS_MAX},
    clock::Clock,
    ids::{Principal, random_hex},
};
use tokio::time::Instant;

use super::{Counts, Created, Full, Kept, Key, LeaseState, Limits, NewSession, Owner, Record, Scope, Store, Swapped};
use crate::Unavailable;

/// Sessions in a map. They end with the process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    /// A plain mutex: every use is a few map operations, none waits.
    sessions: Mutex<HashMap<Key, Held>>,
}

struct Held {
    record: Record,
    /// Idle time from the last call, at most `hard_end`.
    expires: Instant,
    hard_end: Instant,
    /// The oldest first, each sealed. Nobody's once the session has lapsed.
    artifacts: VecDeque<(Artifact, Vec<u8>)>,
    checkpoint: Option<Vec<u8>>,
    /// It has lapsed, and what it was has been answered.
    swept: bool,
}

impl Held {
    fn lives(&self, now: Instant) -> bool {
        now < self.expires
    }

    /// Whether it has lapsed and can be brought back.
    fn is_parked(&self, now: Instant) -> bool {
        !self.lives(now) && now < self.hard_end && self.checkpoint.is_some()
    }

    fn prolong(&mut self, now: Instant, wall: Duration) -> Record {
        self.expires = self.hard_end.min(now + self.record.idle_ttl);
        self.record.last_used = wall;
        self.record.clone()
    }

    fn bytes(&self) -> usize {
        self.artifacts.iter().map(|(_, sealed)| sealed.len()).sum()
    }
}

impl MemoryStore {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, sessions: Mutex::default() }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Key, Held>> {
        // A panic cannot leave the map half changed: every change is one assignment.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, new: NewSession, now: Instant) -> Held {
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
            restorable: false,
        };
        Held {
            record,
            expires: hard_end.min(now + new.idle_ttl),
            hard_end,
            artifacts: VecDeque::new(),
            checkpoint: None,
            swept: false,
        }
    }

    /// Forgets parked sessions of a principal, those first that would end first, as long as it has too many checkpoints.
    fn make_room(&self, principal: &Principal) {
        let (now, mut sessions) = (Instant::now(), self.sessions());
        let kept = sessions.iter().filter(|(key, kept)| key.principal == *principal && kept.checkpoint.is_some());
        let beyond = kept.clone().count().saturating_sub(CHECKPOINTS_MAX);
        // One whose lapse has not been answered yet is still somebody's business.
        let parked = kept.filter(|(_, kept)| kept.swept && kept.is_parked(now));
        let mut parked: Vec<(Instant, Key)> = parked.map(|(key, kept)| (kept.hard_end, key.clone())).collect();
        parked.sort_by_key(|(hard_end, _)| *hard_end);
        for (_, key) in parked.into_iter().take(beyond) {
            sessions.remove(&key);
        }
    }

    /// Looks at what is kept of a session, if it lives.
    fn with<T>(&self, of: &Owner, look: impl FnOnce(&mut Held) -> T) -> Option<T> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        let kept = sessions.get_mut(&of.key).filter(|kept| kept.lives(now) && kept.record.birth == of.birth);
        kept.map(look)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("sessions", &self.sessions().len()).finish_non_exhaustive()
    }
}

fn counts(sessions: &HashMap<Key, Held>, principal: &Principal, now: Instant) -> Counts {
    let living = || sessions.values().filter(|kept| kept.lives(now));
    Counts {
        of_principal: living().filter(|kept| kept.record.principal == *principal).count(),
        total: living().count(),
    }
}

/// The limit that keeps one more session out.
fn full(sessions: &HashMap<Key, Held>, principal: &Principal, limits: Limits, now: Instant) -> Option<Full> {
    let counts = counts(sessions, principal, now);
    if counts.of_principal >= limits.per_principal {
        Some(Full::Principal)
    } else {
        (counts.total >= limits.total).then_some(Full::Total)
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, new: NewSession, limits: Limits) -> Result<Created, Unavailable> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        let full = full(&sessions, &new.key.principal, limits, now);
        let slot = match sessions.entry(new.key.clone()) {
            Entry::Occupied(kept) if kept.get().lives(now) => {
                return Ok(Created::Existing(kept.get().record.clone()));
            }
            slot => slot,
        };
        if let Some(full) = full {
            return Ok(Created::Full(full));
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
        Ok(Some(kept.prolong(now, self.clock.now())))
    }

    async fn revive(&self, key: &Key, limits: Limits, _max_lifetime: Duration) -> Result<Option<Created>, Unavailable> {
        let now = Instant::now();
        let mut sessions = self.sessions();
        let full = full(&sessions, &key.principal, limits, now);
        let Some(kept) = sessions.get_mut(key) else { return Ok(None) };
        if kept.is_parked(now) {
            if let Some(full) = full {
                return Ok(Some(Created::Full(full)));
            }
            kept.record.lease = LeaseState::default();
            kept.artifacts.clear();
            kept.swept = false;
        } else if !kept.lives(now) {
            return Ok(None);
        }
        Ok(Some(Created::Existing(kept.prolong(now, self.clock.now()))))
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
        let matches = sessions.get(key).is_some_and(|kept| {
            (kept.lives(now) || kept.is_parked(now)) && birth.is_none_or(|birth| kept.record.birth == birth)
        });
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
        let mut lapsed = Vec::new();
        self.sessions().retain(|_, kept| {
            if !kept.lives(now) && !std::mem::replace(&mut kept.swept, true) {
                kept.artifacts.clear();
                lapsed.push(kept.record.clone());
            }
            kept.lives(now) || kept.is_parked(now)
        });
        Ok(lapsed)
    }

    async fn kept(&self) -> Result<Option<Kept>, Unavailable> {
        let sessions = self.sessions();
        Ok(Some(Kept {
            sessions: sessions.len(),
            artifacts: sessions.values().map(|entry| entry.artifacts.len()).sum(),
            checkpoints: sessions.values().filter(|entry| entry.checkpoint.is_some()).count(),
        }))
    }
}

#[async_trait]
impl artifact::Store for MemoryStore {
    async fn keep_artifact(
        &self,
        of: &Owner,
        artifact: &Artifact,
        sealed: Vec<u8>,
        room: usize,
    ) -> Result<bool, Unavailable> {
        let kept = self.with(of, |kept| {
            if kept.artifacts.iter().all(|(known, _)| known.id != artifact.id) {
                kept.artifacts.push_back((artifact.clone(), sealed));
            }
            while kept.artifacts.len() > COUNT_MAX || (kept.bytes() > room && kept.artifacts.len() > 1) {
                kept.artifacts.pop_front();
            }
        });
        Ok(kept.is_some())
    }

    async fn artifact(&self, of: &Owner, id: &str) -> Result<Option<(Artifact, Vec<u8>)>, Unavailable> {
        Ok(self.with(of, |kept| kept.artifacts.iter().find(|(artifact, _)| artifact.id == id).cloned()).flatten())
    }

    async fn artifacts(&self, of: &Owner) -> Result<Vec<Artifact>, Unavailable> {
        let all = self.with(of, |kept| kept.artifacts.iter().map(|(artifact, _)| artifact.clone()).collect());
        Ok(all.unwrap_or_default())
    }
}

#[async_trait]
impl checkpoint::Store for MemoryStore {
    async fn save_checkpoint(&self, of: &Owner, lease_id: &str, sealed: Vec<u8>) -> Result<bool, Unavailable> {
        let saved = self.with(of, |kept| {
            let held = kept.record.lease.lease.as_ref().is_some_and(|lease| lease.lease_id == lease_id);
            if held {
                kept.checkpoint = Some(sealed);
                kept.record.restorable = true;
            }
            held
        });
        self.make_room(&of.key.principal);
        Ok(saved.unwrap_or(false))
    }

    async fn load_checkpoint(&self, of: &Owner) -> Result<Option<Vec<u8>>, Unavailable> {
        let now = Instant::now();
        let sessions = self.sessions();
        let kept = sessions.get(&of.key).filter(|kept| kept.lives(now) || kept.is_parked(now));
        Ok(kept.filter(|kept| kept.record.birth == of.birth).and_then(|kept| kept.checkpoint.clone()))
    }

    async fn drop_checkpoint(&self, of: &Owner) -> Result<(), Unavailable> {
        self.with(of, |kept| {
            kept.checkpoint = None;
            kept.record.restorable = false;
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_common::clock::ManualClock;

    use super::*;
    use crate::session::suite::{self, Place};

    #[tokio::test(start_paused = true)]
    async fn keeps_the_contract() {
        let place = || {
            let store = Arc::new(MemoryStore::new(Arc::new(ManualClock::default())));
            Place { sessions: store.clone(), artifacts: store.clone(), checkpoints: store }
        };
        suite::run(place, Duration::from_millis(600)).await;
    }
}
