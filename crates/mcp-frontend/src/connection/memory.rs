//! Connections in this process: for one process, and for tests.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use browserfleet_common::{clock::Clock, ids::SessionName};
use tokio::time::Instant;

use super::{Bounds, Key, NewConnection, Record, SESSIONS_MAX, Store};
use crate::Unavailable;

/// Connections in a map. They end with the process.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    bounds: Bounds,
    /// A plain mutex: every use is a few map operations, none waits.
    connections: Mutex<HashMap<Key, Kept>>,
}

struct Kept {
    record: Record,
    expires: Instant,
    streams: u64,
}

impl MemoryStore {
    /// Keeps connections within bounds.
    pub fn new(clock: Arc<dyn Clock>, bounds: Bounds) -> Self {
        Self { clock, bounds, connections: Mutex::default() }
    }

    fn connections(&self) -> MutexGuard<'_, HashMap<Key, Kept>> {
        // A panic cannot leave the map half changed: every change is one assignment.
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on a connection that lives.
    fn living<T>(&self, key: &Key, work: impl FnOnce(&mut Kept) -> T) -> Option<T> {
        let now = Instant::now();
        self.connections().get_mut(key).filter(|kept| now < kept.expires).map(work)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("connections", &self.connections().len()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn create(&self, new: NewConnection) -> Result<Option<Record>, Unavailable> {
        let now = Instant::now();
        let mut connections = self.connections();
        // Below either bound nobody needs to be counted.
        if connections.len() >= self.bounds.most.min(self.bounds.per_principal) {
            connections.retain(|_, kept| now < kept.expires);
            let of_principal = connections.keys().filter(|key| key.principal == new.key.principal).count();
            if connections.len() >= self.bounds.most || of_principal >= self.bounds.per_principal {
                return Ok(None);
            }
        }
        let wall = self.clock.now();
        let record = Record {
            key: new.key.clone(),
            initialize: new.initialize,
            client: new.client,
            caps: new.caps,
            default_session: SessionName::mint(),
            sessions: Vec::new(),
            created: wall,
            last_seen: wall,
        };
        connections.insert(new.key, Kept { record: record.clone(), expires: now + self.bounds.ttl, streams: 0 });
        Ok(Some(record))
    }

    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        Ok(self.living(key, |kept| {
            kept.expires = Instant::now() + self.bounds.ttl;
            kept.record.last_seen = self.clock.now();
            kept.record.clone()
        }))
    }

    async fn remember(&self, key: &Key, session: &SessionName) -> Result<(), Unavailable> {
        self.living(key, |kept| {
            let sessions = &mut kept.record.sessions;
            sessions.retain(|known| known != session);
            if sessions.len() == SESSIONS_MAX {
                sessions.remove(0);
            }
            sessions.push(session.clone());
        });
        Ok(())
    }

    async fn take_stream(&self, key: &Key) -> Result<Option<u64>, Unavailable> {
        Ok(self.living(key, |kept| {
            kept.streams += 1;
            kept.streams
        }))
    }

    async fn end(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let now = Instant::now();
        Ok(self.connections().remove(key).filter(|kept| now < kept.expires).map(|kept| kept.record))
    }

    async fn count(&self) -> Result<usize, Unavailable> {
        let now = Instant::now();
        Ok(self.connections().values().filter(|kept| now < kept.expires).count())
    }

    async fn sweep(&self) -> Result<(), Unavailable> {
        let now = Instant::now();
        self.connections().retain(|_, kept| now < kept.expires);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use browserfleet_common::{clock::ManualClock, ids::Principal};
    use serde_json::json;

    use super::*;
    use crate::{connection::suite, session::Client};

    const TTL: Duration = Duration::from_millis(600);

    fn store(max: usize) -> MemoryStore {
        MemoryStore::new(Arc::new(ManualClock::default()), suite::bounds(TTL, max))
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_the_contract() {
        suite::run(|| Arc::new(store(1000)), TTL).await;
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_lapsed_connections_make_room() {
        let store = store(2);
        let new = |id: &str| NewConnection {
            key: Key { principal: Principal::anonymous(), id: id.to_owned() },
            initialize: json!({}),
            client: Client::default(),
            caps: None,
        };
        for id in ["a", "b"] {
            assert!(store.create(new(id)).await.unwrap().is_some());
        }
        assert!(store.create(new("c")).await.unwrap().is_none());
        tokio::time::sleep(TTL).await;
        assert!(store.create(new("c")).await.unwrap().is_some());
        assert_eq!(store.connections().len(), 1);
    }
}
