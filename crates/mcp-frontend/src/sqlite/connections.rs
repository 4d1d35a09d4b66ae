//! Connections in `SQLite`.

use std::sync::Arc;

use async_trait::async_trait;
use browserfleet_common::{clock::Clock, ids::SessionName};
use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};

use super::database::{Database, duration, json, millis, parsed};
use crate::{
    Unavailable,
    connection::{Bounds, Key, NewConnection, Record, SESSIONS_MAX, Store},
};

const WHAT: &str = "the store of connections";

/// Connections, each kept for some time after it was last touched.
#[derive(Clone, Debug)]
pub struct Connections {
    database: Database,
    clock: Arc<dyn Clock>,
    bounds: Bounds,
}

impl Connections {
    /// Keeps connections within bounds.
    pub fn new(database: Database, clock: Arc<dyn Clock>, bounds: Bounds) -> Self {
        Self { database, clock, bounds }
    }

    fn now(&self) -> i64 {
        millis(self.clock.now())
    }

    fn ends(&self, now: i64) -> i64 {
        now.saturating_add(millis(self.bounds.ttl))
    }
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let record: Record = parsed(row, "doc")?;
    Ok(Record { sessions: parsed(row, "sessions")?, last_seen: duration(row.get("seen")?), ..record })
}

/// A connection that lives.
fn find(transaction: &Transaction<'_>, key: &Key, now: i64) -> rusqlite::Result<Option<Record>> {
    let query = "SELECT doc, sessions, seen FROM connections \
                 WHERE principal = :principal AND id = :id AND expires > :now";
    let wanted = named_params! { ":principal": key.principal.as_str(), ":id": key.id, ":now": now };
    transaction.prepare_cached(query)?.query_row(wanted, record).optional()
}

fn remove_lapsed(transaction: &Transaction<'_>, now: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM connections WHERE expires <= ?")?.execute([now])?;
    Ok(())
}

fn count_of(transaction: &Transaction<'_>, principal: &str, now: i64) -> rusqlite::Result<usize> {
    let query = "SELECT count(*) FROM connections WHERE principal = ? AND expires > ?";
    transaction.prepare_cached(query)?.query_row((principal, now), |row| row.get(0))
}

fn count(transaction: &Transaction<'_>, now: i64) -> rusqlite::Result<usize> {
    let query = "SELECT count(*) FROM connections WHERE expires > ?";
    transaction.prepare_cached(query)?.query_row([now], |row| row.get(0))
}

#[async_trait]
impl Store for Connections {
    async fn create(&self, new: NewConnection) -> Result<Option<Record>, Unavailable> {
        let (now, bounds) = (self.now(), self.bounds);
        let ends = self.ends(now);
        let create = move |transaction: &Transaction<'_>| {
            let of_principal = count_of(transaction, new.key.principal.as_str(), now)?;
            if count(transaction, now)? >= bounds.most || of_principal >= bounds.per_principal {
                return Ok(None);
            }
            let record = Record {
                key: new.key,
                initialize: new.initialize,
                client: new.client,
                caps: new.caps,
                default_session: SessionName::mint(),
                sessions: Vec::new(),
                created: duration(now),
                last_seen: duration(now),
            };
            let insert = "INSERT OR REPLACE INTO connections (principal, id, doc, sessions, seen, expires) \
                          VALUES (:principal, :id, :doc, '[]', :now, :ends)";
            transaction.prepare_cached(insert)?.execute(named_params! {
                ":principal": record.key.principal.as_str(),
                ":id": record.key.id,
                ":doc": json(&record),
                ":now": now,
                ":ends": ends,
            })?;
            Ok(Some(record))
        };
        self.database.with(WHAT, create).await
    }

    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let (now, key) = (self.now(), key.clone());
        let ends = self.ends(now);
        let touch = move |transaction: &Transaction<'_>| {
            let Some(found) = find(transaction, &key, now)? else { return Ok(None) };
            let update =
                "UPDATE connections SET seen = :now, expires = :ends WHERE principal = :principal AND id = :id";
            transaction.prepare_cached(update)?.execute(named_params! {
                ":now": now, ":ends": ends, ":principal": key.principal.as_str(), ":id": key.id,
            })?;
            Ok(Some(Record { last_seen: duration(now), ..found }))
        };
        self.database.with(WHAT, touch).await
    }

    async fn remember(&self, key: &Key, session: &SessionName) -> Result<(), Unavailable> {
        let (now, key, session) = (self.now(), key.clone(), session.clone());
        let remember = move |transaction: &Transaction<'_>| {
            let Some(Record { mut sessions, .. }) = find(transaction, &key, now)? else { return Ok(()) };
            sessions.retain(|known| *known != session);
            if sessions.len() == SESSIONS_MAX {
                sessions.remove(0);
            }
            sessions.push(session);
            let update = "UPDATE connections SET sessions = :sessions WHERE principal = :principal AND id = :id";
            transaction.prepare_cached(update)?.execute(named_params! {
                ":sessions": json(&sessions), ":principal": key.principal.as_str(), ":id": key.id,
            })?;
            Ok(())
        };
        self.database.with(WHAT, remember).await
    }

    async fn take_stream(&self, key: &Key) -> Result<Option<u64>, Unavailable> {
        let (now, key) = (self.now(), key.clone());
        let take = move |transaction: &Transaction<'_>| {
            let update = "UPDATE connections SET streams = streams + 1 \
                          WHERE principal = :principal AND id = :id AND expires > :now RETURNING streams";
            let wanted = named_params! { ":principal": key.principal.as_str(), ":id": key.id, ":now": now };
            transaction.prepare_cached(update)?.query_row(wanted, |row| row.get(0)).optional()
        };
        self.database.with(WHAT, take).await
    }

    async fn end(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let (now, key) = (self.now(), key.clone());
        let end = move |transaction: &Transaction<'_>| {
            let found = find(transaction, &key, now)?;
            let delete = "DELETE FROM connections WHERE principal = :principal AND id = :id";
            let wanted = named_params! { ":principal": key.principal.as_str(), ":id": key.id };
            transaction.prepare_cached(delete)?.execute(wanted)?;
            Ok(found)
        };
        self.database.with(WHAT, end).await
    }

    async fn count(&self) -> Result<usize, Unavailable> {
        let now = self.now();
        self.database.with(WHAT, move |transaction| count(transaction, now)).await
    }

    async fn sweep(&self) -> Result<(), Unavailable> {
        let now = self.now();
        self.database.with(WHAT, move |transaction| remove_lapsed(transaction, now)).await
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use browserfleet_common::clock::SystemClock;

    use super::*;
    use crate::connection::suite;

    #[tokio::test]
    async fn keeps_the_contract() {
        const TTL: Duration = Duration::from_millis(1500);
        let directories = std::sync::Mutex::new(Vec::new());
        let store = || {
            let directory = tempfile::tempdir().unwrap();
            let (database, _) = Database::open(directory.path()).unwrap();
            directories.lock().unwrap().push(directory);
            Arc::new(Connections::new(database, Arc::new(SystemClock), suite::bounds(TTL, 1000))) as Arc<dyn Store>
        };
        suite::run(store, TTL).await;
    }
}
