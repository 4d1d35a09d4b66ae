//! What is kept beside a session in `SQLite`: its artifacts, and its checkpoint.

use async_trait::async_trait;
use browserfleet_common::{
    artifact::{self, Artifact, COUNT_MAX},
    checkpoint::{self, CHECKPOINTS_MAX},
    session::{Key, Owner},
};
use rusqlite::{OptionalExtension as _, Transaction, named_params};

use super::{
    Sessions,
    database::{json, parsed},
    sessions::lives,
};
use crate::Unavailable;

const ARTIFACTS: &str = "the store of artifacts";
const CHECKPOINTS: &str = "the store of checkpoints";

/// Removes the artifacts of a session.
pub(super) fn forget(transaction: &Transaction<'_>, key: &Key) -> rusqlite::Result<()> {
    let delete = "DELETE FROM artifacts WHERE principal = :principal AND name = :name";
    let key = named_params! { ":principal": key.principal.as_str(), ":name": key.name.as_str() };
    transaction.prepare_cached(delete)?.execute(key)?;
    Ok(())
}

/// Removes the oldest artifacts of a session, as long as there are too many or they take too much room. The latest stays.
fn make_room(transaction: &Transaction<'_>, key: &Key, room: usize) -> rusqlite::Result<()> {
    let query = "SELECT number, length(sealed) FROM artifacts WHERE principal = :principal AND name = :name \
                 ORDER BY number DESC";
    let owner = named_params! { ":principal": key.principal.as_str(), ":name": key.name.as_str() };
    let mut statement = transaction.prepare_cached(query)?;
    let mut rows = statement.query(owner)?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let (number, size): (i64, usize) = (row.get(0)?, row.get(1)?);
        (count, bytes) = (count + 1, bytes + size);
        if count > COUNT_MAX || (bytes > room && count > 1) {
            transaction.prepare_cached("DELETE FROM artifacts WHERE number = ?")?.execute([number])?;
        }
    }
    Ok(())
}

#[async_trait]
impl artifact::Store for Sessions {
    async fn keep_artifact(
        &self,
        of: &Owner,
        artifact: &Artifact,
        sealed: Vec<u8>,
        room: usize,
    ) -> Result<bool, Unavailable> {
        let (now, of, id, doc) = (self.now(), of.clone(), artifact.id.clone(), json(artifact));
        let keep = move |transaction: &Transaction<'_>| {
            if !lives(transaction, &of, now)? {
                return Ok(false);
            }
            let insert = "INSERT OR IGNORE INTO artifacts (principal, name, id, doc, sealed) \
                          VALUES (:principal, :name, :id, :doc, :sealed)";
            transaction.prepare_cached(insert)?.execute(named_params! {
                ":principal": of.key.principal.as_str(),
                ":name": of.key.name.as_str(),
                ":id": id,
                ":doc": doc,
                ":sealed": sealed,
            })?;
            make_room(transaction, &of.key, room)?;
            Ok(true)
        };
        self.database.with(ARTIFACTS, keep).await
    }

    async fn artifact(&self, of: &Owner, id: &str) -> Result<Option<(Artifact, Vec<u8>)>, Unavailable> {
        let (now, of, id) = (self.now(), of.clone(), id.to_owned());
        let find = move |transaction: &Transaction<'_>| {
            if !lives(transaction, &of, now)? {
                return Ok(None);
            }
            let query = "SELECT doc, sealed FROM artifacts WHERE principal = :principal AND name = :name AND id = :id";
            let wanted = named_params! {
                ":principal": of.key.principal.as_str(), ":name": of.key.name.as_str(), ":id": id,
            };
            let found = |row: &rusqlite::Row<'_>| Ok((parsed(row, "doc")?, row.get("sealed")?));
            transaction.prepare_cached(query)?.query_row(wanted, found).optional()
        };
        self.database.with(ARTIFACTS, find).await
    }

    async fn artifacts(&self, of: &Owner) -> Result<Vec<Artifact>, Unavailable> {
        let (now, of) = (self.now(), of.clone());
        let list = move |transaction: &Transaction<'_>| {
            if !lives(transaction, &of, now)? {
                return Ok(Vec::new());
            }
            let query = "SELECT doc FROM artifacts WHERE principal = :principal AND name = :name ORDER BY number";
            let owner = named_params! { ":principal": of.key.principal.as_str(), ":name": of.key.name.as_str() };
            transaction.prepare_cached(query)?.query_map(owner, |row| parsed(row, "doc"))?.collect()
        };
        self.database.with(ARTIFACTS, list).await
    }
}

#[async_trait]
impl checkpoint::Store for Sessions {
    async fn save_checkpoint(&self, of: &Owner, lease_id: &str, sealed: Vec<u8>) -> Result<bool, Unavailable> {
        let (now, of, lease_id) = (self.now(), of.clone(), lease_id.to_owned());
        let save = move |transaction: &Transaction<'_>| {
            let update = "UPDATE sessions SET checkpoint = :sealed WHERE principal = :principal AND name = :name \
                          AND birth = :birth AND held = :held AND held <> '' AND expires > :now";
            let updated = transaction.prepare_cached(update)?.execute(named_params! {
                ":sealed": sealed,
                ":principal": of.key.principal.as_str(),
                ":name": of.key.name.as_str(),
                ":birth": of.birth,
                ":held": lease_id,
                ":now": now,
            })?;
            // One whose lapse has not been answered yet is still somebody's business.
            let forget = "WITH kept AS (SELECT * FROM sessions WHERE principal = :principal AND checkpoint IS NOT NULL) \
                          DELETE FROM sessions WHERE principal = :principal AND name IN (SELECT name FROM kept \
                          WHERE expires <= :now AND swept ORDER BY hard \
                          LIMIT max(0, (SELECT count(*) FROM kept) - :most))";
            let beyond =
                named_params! { ":principal": of.key.principal.as_str(), ":now": now, ":most": CHECKPOINTS_MAX };
            transaction.prepare_cached(forget)?.execute(beyond)?;
            Ok(updated > 0)
        };
        self.database.with(CHECKPOINTS, save).await
    }

    async fn load_checkpoint(&self, of: &Owner) -> Result<Option<Vec<u8>>, Unavailable> {
        let (now, of) = (self.now(), of.clone());
        let load = move |transaction: &Transaction<'_>| {
            let query = "SELECT checkpoint FROM sessions WHERE principal = :principal AND name = :name \
                         AND birth = :birth AND hard > :now";
            let owner = named_params! {
                ":principal": of.key.principal.as_str(), ":name": of.key.name.as_str(), ":birth": of.birth, ":now": now,
            };
            let found = transaction.prepare_cached(query)?.query_row(owner, |row| row.get(0)).optional()?;
            Ok(found.flatten())
        };
        self.database.with(CHECKPOINTS, load).await
    }

    async fn drop_checkpoint(&self, of: &Owner) -> Result<(), Unavailable> {
        let of = of.clone();
        let forget = move |transaction: &Transaction<'_>| {
            let update = "UPDATE sessions SET checkpoint = NULL \
                          WHERE principal = :principal AND name = :name AND birth = :birth";
            transaction.prepare_cached(update)?.execute(named_params! {
                ":principal": of.key.principal.as_str(), ":name": of.key.name.as_str(), ":birth": of.birth,
            })?;
            Ok(())
        };
        self.database.with(CHECKPOINTS, forget).await
    }
}
