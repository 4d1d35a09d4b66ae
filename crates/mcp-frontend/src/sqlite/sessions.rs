//! Sessions in `SQLite`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use browserfleet_common::{
    clock::Clock,
    egress::Egress,
    ids::{Principal, SessionName, random_hex},
};
use rusqlite::{OptionalExtension as _, Row, Transaction, named_params};
use serde::{Deserialize, Serialize};

use super::database::{Database, duration, json, millis, parsed};
use crate::{
    Unavailable,
    session::{
        Client, Counts, Created, Full, Kept, Key, LeaseState, Limits, NewSession, Owner, Record, Scope, Store, Swapped,
    },
};

const WHAT: &str = "the session store";
const COLUMNS: &str = "principal, name, birth, doc, made, used, idle, expires, hard, held, lease, \
                       checkpoint IS NOT NULL AS restorable";

/// Sessions, and what is beside them.
#[derive(Clone, Debug)]
pub struct Sessions {
    pub(super) database: Database,
    pub(super) clock: Arc<dyn Clock>,
}

impl Sessions {
    pub fn new(database: Database, clock: Arc<dyn Clock>) -> Self {
        Self { database, clock }
    }

    pub(super) fn now(&self) -> i64 {
        millis(self.clock.now())
    }
}

/// What never changes about a session.
#[derive(Serialize, Deserialize)]
struct Doc {
    connection: Option<String>,
    client: Client,
    egress: Egress,
}

/// A row of the table.
struct Stored {
    record: Record,
    expires: i64,
    hard: i64,
    held: String,
}

impl Stored {
    fn of(row: &Row<'_>) -> rusqlite::Result<Self> {
        let Doc { connection, client, egress } = parsed(row, "doc")?;
        let name: String = row.get("name")?;
        let record = Record {
            principal: Principal::named(row.get::<_, String>("principal")?),
            name: SessionName::parse(&name).map_err(|_other| rusqlite::Error::InvalidQuery)?,
            birth: row.get("birth")?,
            created: duration(row.get("made")?),
            last_used: duration(row.get("used")?),
            idle_ttl: duration(row.get("idle")?),
            connection,
            client,
            egress,
            lease: parsed(row, "lease")?,
            restorable: row.get("restorable")?,
        };
        Ok(Self { record, expires: row.get("expires")?, hard: row.get("hard")?, held: row.get("held")? })
    }

    fn lives(&self, now: i64) -> bool {
        now < self.expires
    }

    /// Whether it has lapsed and can be brought back.
    fn is_parked(&self, now: i64) -> bool {
        !self.lives(now) && now < self.hard && self.record.restorable
    }
}

fn find(transaction: &Transaction<'_>, key: &Key) -> rusqlite::Result<Option<Stored>> {
    let query = format!("SELECT {COLUMNS} FROM sessions WHERE principal = :principal AND name = :name");
    let key = named_params! { ":principal": key.principal.as_str(), ":name": key.name.as_str() };
    transaction.prepare_cached(&query)?.query_row(key, Stored::of).optional()
}

/// Whether a session lives, and is the one of that birth.
pub(super) fn lives(transaction: &Transaction<'_>, of: &Owner, now: i64) -> rusqlite::Result<bool> {
    Ok(find(transaction, &of.key)?.is_some_and(|stored| stored.lives(now) && stored.record.birth == of.birth))
}

fn count(transaction: &Transaction<'_>, principal: Option<&Principal>, now: i64) -> rusqlite::Result<usize> {
    let query = "SELECT count(*) FROM sessions WHERE expires > :now AND (:principal IS NULL OR principal = :principal)";
    let scope = named_params! { ":now": now, ":principal": principal.map(Principal::as_str) };
    transaction.prepare_cached(query)?.query_row(scope, |row| row.get(0))
}

/// The limit that keeps one more session out.
fn full(
    transaction: &Transaction<'_>,
    principal: &Principal,
    limits: Limits,
    now: i64,
) -> rusqlite::Result<Option<Full>> {
    if count(transaction, Some(principal), now)? >= limits.per_principal {
        return Ok(Some(Full::Principal));
    }
    Ok((count(transaction, None, now)? >= limits.total).then_some(Full::Total))
}

fn write(transaction: &Transaction<'_>, record: &Record, now: i64, hard: i64) -> rusqlite::Result<()> {
    // With its artifacts, if one of this name has lapsed and is still there.
    remove(transaction, &record.key())?;
    let doc =
        Doc { connection: record.connection.clone(), client: record.client.clone(), egress: record.egress.clone() };
    let insert = "INSERT INTO sessions (principal, name, birth, doc, made, used, idle, expires, hard, held, lease) \
                  VALUES (:principal, :name, :birth, :doc, :now, :now, :idle, :expires, :hard, '', :lease)";
    let idle = millis(record.idle_ttl);
    transaction.prepare_cached(insert)?.execute(named_params! {
        ":principal": record.principal.as_str(),
        ":name": record.name.as_str(),
        ":birth": record.birth,
        ":doc": json(&doc),
        ":now": now,
        ":idle": idle,
        ":expires": hard.min(now.saturating_add(idle)),
        ":hard": hard,
        ":lease": json(&record.lease),
    })?;
    Ok(())
}

/// Prolongs a session that is there.
fn prolong(transaction: &Transaction<'_>, mut stored: Stored, now: i64) -> rusqlite::Result<Record> {
    let Record { principal, name, idle_ttl, .. } = &stored.record;
    let update = "UPDATE sessions SET used = :now, expires = :expires, swept = 0 \
                  WHERE principal = :principal AND name = :name";
    transaction.prepare_cached(update)?.execute(named_params! {
        ":now": now,
        ":expires": stored.hard.min(now.saturating_add(millis(*idle_ttl))),
        ":principal": principal.as_str(),
        ":name": name.as_str(),
    })?;
    stored.record.last_used = duration(now);
    Ok(stored.record)
}

fn set_lease(transaction: &Transaction<'_>, key: &Key, state: &LeaseState) -> rusqlite::Result<()> {
    let update = "UPDATE sessions SET held = :held, lease = :lease WHERE principal = :principal AND name = :name";
    transaction.prepare_cached(update)?.execute(named_params! {
        ":held": state.lease.as_ref().map_or("", |lease| &lease.lease_id),
        ":lease": json(state),
        ":principal": key.principal.as_str(),
        ":name": key.name.as_str(),
    })?;
    Ok(())
}

fn remove(transaction: &Transaction<'_>, key: &Key) -> rusqlite::Result<()> {
    let delete = "DELETE FROM sessions WHERE principal = :principal AND name = :name";
    let key = named_params! { ":principal": key.principal.as_str(), ":name": key.name.as_str() };
    transaction.prepare_cached(delete)?.execute(key)?;
    Ok(())
}

#[async_trait]
impl Store for Sessions {
    async fn create(&self, new: NewSession, limits: Limits) -> Result<Created, Unavailable> {
        let now = self.now();
        let create = move |transaction: &Transaction<'_>| {
            if let Some(living) = find(transaction, &new.key)?.filter(|stored| stored.lives(now)) {
                return Ok(Created::Existing(living.record));
            }
            if let Some(full) = full(transaction, &new.key.principal, limits, now)? {
                return Ok(Created::Full(full));
            }
            let record = Record {
                principal: new.key.principal,
                name: new.key.name,
                birth: random_hex(),
                created: duration(now),
                last_used: duration(now),
                idle_ttl: new.idle_ttl,
                connection: new.connection,
                client: new.client,
                egress: new.egress,
                lease: LeaseState::default(),
                restorable: false,
            };
            write(transaction, &record, now, now.saturating_add(millis(new.max_lifetime)))?;
            Ok(Created::Fresh(record))
        };
        self.database.with(WHAT, create).await
    }

    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable> {
        let (now, key) = (self.now(), key.clone());
        let touch = move |transaction: &Transaction<'_>| {
            let living = find(transaction, &key)?.filter(|stored| stored.lives(now));
            living.map(|stored| prolong(transaction, stored, now)).transpose()
        };
        self.database.with(WHAT, touch).await
    }

    async fn revive(&self, key: &Key, limits: Limits, _max_lifetime: Duration) -> Result<Option<Created>, Unavailable> {
        let (now, key) = (self.now(), key.clone());
        let revive = move |transaction: &Transaction<'_>| {
            let Some(mut stored) = find(transaction, &key)? else { return Ok(None) };
            if stored.is_parked(now) {
                if let Some(full) = full(transaction, &key.principal, limits, now)? {
                    return Ok(Some(Created::Full(full)));
                }
                stored.record.lease = LeaseState::default();
                set_lease(transaction, &key, &stored.record.lease)?;
                super::kept::forget(transaction, &key)?;
            } else if !stored.lives(now) {
                return Ok(None);
            }
            Ok(Some(Created::Existing(prolong(transaction, stored, now)?)))
        };
        self.database.with(WHAT, revive).await
    }

    async fn swap_lease(
        &self,
        key: &Key,
        birth: &str,
        expected: Option<&str>,
        next: LeaseState,
    ) -> Result<Swapped, Unavailable> {
        let (now, key, birth) = (self.now(), key.clone(), birth.to_owned());
        let expected = expected.unwrap_or_default().to_owned();
        let swap = move |transaction: &Transaction<'_>| {
            let found = find(transaction, &key)?.filter(|stored| stored.lives(now) && stored.record.birth == birth);
            let Some(stored) = found else { return Ok(Swapped::Gone) };
            if stored.held != expected {
                return Ok(Swapped::Conflict(stored.record.lease));
            }
            set_lease(transaction, &key, &next)?;
            Ok(Swapped::Done)
        };
        self.database.with(WHAT, swap).await
    }

    async fn end(&self, key: &Key, birth: Option<&str>) -> Result<Option<Record>, Unavailable> {
        let (now, key, birth) = (self.now(), key.clone(), birth.map(str::to_owned));
        let end = move |transaction: &Transaction<'_>| {
            let found = find(transaction, &key)?.filter(|stored| {
                (stored.lives(now) || stored.is_parked(now))
                    && birth.as_ref().is_none_or(|birth| stored.record.birth == *birth)
            });
            let Some(stored) = found else { return Ok(None) };
            remove(transaction, &key)?;
            Ok(Some(stored.record))
        };
        self.database.with(WHAT, end).await
    }

    async fn list(&self, scope: Scope<'_>) -> Result<Vec<Record>, Unavailable> {
        let now = self.now();
        let principal = match scope {
            Scope::Of(principal) => Some(principal.as_str().to_owned()),
            Scope::All => None,
        };
        let list = move |transaction: &Transaction<'_>| {
            let query = format!(
                "SELECT {COLUMNS} FROM sessions WHERE expires > :now AND (:principal IS NULL OR principal = :principal) \
                 ORDER BY made, name"
            );
            let mut statement = transaction.prepare_cached(&query)?;
            let rows = statement.query_map(named_params! { ":now": now, ":principal": principal }, Stored::of)?;
            rows.map(|stored| stored.map(|stored| stored.record)).collect()
        };
        self.database.with(WHAT, list).await
    }

    async fn counts(&self, principal: &Principal) -> Result<Counts, Unavailable> {
        let (now, principal) = (self.now(), principal.clone());
        let counts = move |transaction: &Transaction<'_>| {
            let of_principal = count(transaction, Some(&principal), now)?;
            Ok(Counts { of_principal, total: count(transaction, None, now)? })
        };
        self.database.with(WHAT, counts).await
    }

    async fn sweep(&self) -> Result<Vec<Record>, Unavailable> {
        let now = self.now();
        let sweep = move |transaction: &Transaction<'_>| {
            let query = format!("SELECT {COLUMNS} FROM sessions WHERE expires <= :now AND NOT swept");
            let mut statement = transaction.prepare_cached(&query)?;
            let lapsed: Vec<Record> = statement
                .query_map(named_params! { ":now": now }, Stored::of)?
                .map(|stored| stored.map(|stored| stored.record))
                .collect::<rusqlite::Result<_>>()?;
            for record in &lapsed {
                super::kept::forget(transaction, &record.key())?;
            }
            let now = named_params! { ":now": now };
            transaction.execute("UPDATE sessions SET swept = 1 WHERE expires <= :now", now)?;
            let over = "DELETE FROM sessions WHERE expires <= :now AND (checkpoint IS NULL OR hard <= :now)";
            transaction.execute(over, now)?;
            Ok(lapsed)
        };
        self.database.with(WHAT, sweep).await
    }

    async fn kept(&self) -> Result<Option<Kept>, Unavailable> {
        let count = |transaction: &Transaction<'_>| {
            let all = "SELECT count(*), count(checkpoint), (SELECT count(*) FROM artifacts) FROM sessions";
            transaction.prepare_cached(all)?.query_row([], |row| {
                Ok(Some(Kept { sessions: row.get(0)?, checkpoints: row.get(1)?, artifacts: row.get(2)? }))
            })
        };
        self.database.with(WHAT, count).await
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_common::clock::SystemClock;

    use super::*;
    use crate::session::suite::{self, Place};

    #[tokio::test]
    async fn keeps_the_contract() {
        let directories = std::sync::Mutex::new(Vec::new());
        let place = || {
            let directory = tempfile::tempdir().unwrap();
            let (database, _) = Database::open(directory.path()).unwrap();
            directories.lock().unwrap().push(directory);
            let sessions = Arc::new(Sessions::new(database, Arc::new(SystemClock)));
            Place { sessions: sessions.clone(), artifacts: sessions.clone(), checkpoints: sessions }
        };
        suite::run(place, Duration::from_millis(1500)).await;
    }
}
