//! Which records there are: a set that heals itself.
//!
//! A record and the sets that list it cannot be changed by one script, because a cluster keeps them on different nodes. So a
//! member's score says until when its record lives *at least*: later it is a suspect, whose record is looked at, and which is
//! then removed or gets a later score. Calls that prolong a record do not touch the index.

use std::{sync::LazyLock, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::{Script, cmd};

use super::{Error, LoadedScript, Redis};

static ENTER: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/enter.lua")));
static RESERVE: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/reserve.lua")));
static SUSPECTS: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/suspects.lua")));
static SETTLE: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/settle.lua")));

/// Suspects that are looked at together.
const BATCH: usize = 500;
/// Batches in one go; whoever counts next goes on.
const BATCHES_MAX: usize = 100;
/// Commands under way at a time: they share a connection, so this is a pipeline.
pub(super) const AT_ONCE: usize = 64;

/// An index of records.
#[derive(Clone, Debug)]
pub struct Index<'a> {
    redis: &'a Redis,
    key: String,
    /// The record's key begins and ends with these; the member is in between.
    record: (String, String),
}

/// A place in an index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// It was free. The score is the member's, for [`Index::remove`].
    Added(String),
    /// The member had it.
    Known,
    /// There is none.
    Full,
}

impl<'a> Index<'a> {
    /// The index at `key`, whose members' records are at `record(member)`.
    pub fn new(redis: &'a Redis, key: String, record: impl Fn(&str) -> String) -> Self {
        // A character that no member has.
        let (before, after) =
            record("\0").split_once('\0').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap_or_default();
        Self { redis, key, record: (before, after) }
    }

    fn record(&self, member: &str) -> String {
        let (before, after) = &self.record;
        format!("{before}{member}{after}")
    }

    /// Takes a place for a record that is about to be written, if fewer than `most` are taken. The place lapses after `hold`
    /// unless the record is there by then; the index lives on for at least `keep`, the longest life of a record.
    ///
    /// # Errors
    /// When Redis cannot answer; the place may or may not be taken.
    pub async fn reserve(&self, member: &str, most: usize, hold: Duration, keep: Duration) -> Result<Place, Error> {
        let place = self.try_reserve(member, most, hold, keep).await?;
        if place == Place::Full && self.count().await? < most {
            return self.try_reserve(member, most, hold, keep).await;
        }
        Ok(place)
    }

    async fn try_reserve(&self, member: &str, most: usize, hold: Duration, keep: Duration) -> Result<Place, Error> {
        let mut script = RESERVE.key(&self.key);
        script.arg(member).arg(most).arg(millis(hold)).arg(millis(keep));
        let (word, score): (String, String) = self.redis.script(&script).await?;
        Ok(match word.as_str() {
            "added" => Place::Added(score),
            "known" => Place::Known,
            _ => Place::Full,
        })
    }

    /// Enters a member whose record lives until `expires`, in ms since 1970 by the server's clock. Answers whether it is new
    /// here, as far as one can know that: it is not when the answer to a first try was lost.
    ///
    /// # Errors
    /// When Redis cannot answer. Asking again is safe.
    pub async fn enter(&self, member: &str, expires: u64) -> Result<bool, Error> {
        let mut script = ENTER.key(&self.key);
        self.redis.script(script.arg(member).arg(expires)).await
    }

    /// The score of a member, for [`Self::remove`].
    ///
    /// # Errors
    /// When Redis cannot answer.
    pub async fn score(&self, member: &str) -> Result<Option<String>, Error> {
        self.redis.query(cmd("ZSCORE").arg(&self.key).arg(member)).await
    }

    /// Removes a member that still has this score: the record of a later one may be there already.
    ///
    /// # Errors
    /// When Redis cannot answer. Asking again is safe.
    pub async fn remove(&self, member: &str, score: &str) -> Result<(), Error> {
        let mut script = SETTLE.key(&self.key);
        self.redis.script::<usize>(script.arg(member).arg(score).arg("")).await.map(drop)
    }

    /// How many records there are, after a look at the suspects.
    ///
    /// # Errors
    /// When Redis cannot answer. Asking again is safe.
    pub async fn count(&self) -> Result<usize, Error> {
        let mut last = 0;
        for _ in 0..BATCHES_MAX {
            let mut script = SUSPECTS.key(&self.key);
            let (count, suspects): (usize, Vec<(String, String)>) = self.redis.script(script.arg(BATCH)).await?;
            last = if suspects.is_empty() { count } else { self.settle(&suspects).await? };
            if suspects.len() < BATCH {
                break;
            }
        }
        Ok(last)
    }

    /// At most `most` members, the dead ones among them included that nobody has noticed yet.
    ///
    /// # Errors
    /// When Redis cannot answer.
    pub async fn members(&self, most: usize) -> Result<Vec<String>, Error> {
        self.redis.query(cmd("ZRANGE").arg(&self.key).arg(0).arg(most.saturating_sub(1))).await
    }

    /// At most `most` members with their scores, those first whose records end first.
    ///
    /// # Errors
    /// When Redis cannot answer.
    pub async fn first(&self, most: usize) -> Result<Vec<(String, String)>, Error> {
        self.redis.query(cmd("ZRANGE").arg(&self.key).arg(0).arg(most.saturating_sub(1)).arg("WITHSCORES")).await
    }

    async fn settle(&self, suspects: &[(String, String)]) -> Result<usize, Error> {
        let records: Vec<String> = suspects.iter().map(|(member, _)| self.record(member)).collect();
        let expires = stream::iter(records)
            .map(|record| async move { self.redis.query::<i64>(cmd("PEXPIRETIME").arg(record)).await });
        let expires: Vec<i64> = expires.buffered(AT_ONCE).try_collect().await?;
        let mut script = SETTLE.key(&self.key);
        for ((member, seen), expires) in suspects.iter().zip(expires) {
            script.arg(member).arg(seen).arg(if expires > 0 { expires.to_string() } else { String::new() });
        }
        self.redis.script(&script).await
    }
}

/// Whole milliseconds, at least one: Redis knows no shorter life.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
