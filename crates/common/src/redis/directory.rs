//! The directory of daemons: where each is and how it is, in its own words, good for a few seconds.
//!
//! One hash, by address: a daemon that starts again at the same place takes its own entry over. Times are the server's.

use std::{sync::LazyLock, time::Duration};

use redis::Script;
use serde::{Deserialize, Serialize};

use super::{Error, Keys, LoadedScript, Redis, index::millis};

/// How long an entry is good. A daemon says how it is every second: a few of its words may get lost.
pub const GOOD_FOR: Duration = Duration::from_secs(5);

static ANNOUNCE: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/announce.lua")));
static DIRECTORY: LoadedScript = LazyLock::new(|| Script::new(include_str!("lua/directory.lua")));

/// A daemon, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where front ends reach it: `http://host:port`.
    pub address: String,
    pub pool_id: String,
    pub incarnation: String,
    /// Browsers that are ready: a grant costs no launch.
    pub idle: u32,
    /// Browsers that could still be launched.
    pub room: u32,
    /// Callers in its queue.
    pub queued: u32,
    /// It takes no new leases now: it is shutting down, or cannot start browsers.
    pub closed: bool,
}

/// The directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Directory {
    redis: Redis,
    key: String,
}

impl Directory {
    pub fn new(redis: Redis) -> Self {
        let key = Keys::new(&redis.settings().prefix).pools();
        Self { redis, key }
    }

    /// Enters a daemon, or what has changed about it.
    ///
    /// # Errors
    /// When Redis cannot answer; it may or may not be entered. Asking again is safe.
    pub async fn announce(&self, entry: &Entry) -> Result<(), Error> {
        let text = serde_json::to_string(entry).expect("this is plain data");
        let mut script = ANNOUNCE.key(&self.key);
        self.redis.script(script.arg(&entry.address).arg(text).arg(millis(GOOD_FOR))).await
    }

    /// Removes a daemon: it has ended.
    ///
    /// # Errors
    /// When Redis cannot answer; its entry then ends by itself.
    pub async fn leave(&self, address: &str) -> Result<(), Error> {
        self.redis.query(redis::cmd("HDEL").arg(&self.key).arg(address)).await
    }

    /// The daemons there are, by address. Entries of another version of us that cannot be read are left out.
    ///
    /// # Errors
    /// When Redis cannot answer. That says nothing about the daemons.
    pub async fn list(&self) -> Result<Vec<Entry>, Error> {
        let texts: Vec<String> = self.redis.script(&DIRECTORY.key(&self.key)).await?;
        let mut entries: Vec<Entry> = texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect();
        entries.sort_by(|one, other| one.address.cmp(&other.address));
        Ok(entries)
    }
}
