//! MCP connections of the legacy era: what the handshake said, kept where any front end finds it.
//!
//! A connection's id is a transport token. It names no browser: that is what sessions are for.

pub mod memory;

pub mod redis;

#[cfg(any(test, feature = "test-util"))]
pub mod suite;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use browserfleet_common::ids::{Principal, SessionName, digest};
use browserfleet_tools::Groups;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::{memory::MemoryStore, redis::RedisStore};
use crate::{Unavailable, session::Client};

/// Most sessions a connection is remembered to have used.
pub const SESSIONS_MAX: usize = 64;

/// What names a connection: nobody but its principal can say it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Key {
    pub principal: Principal,
    pub id: String,
}

impl Key {
    /// What may be logged and listed in its place.
    pub fn digest(&self) -> String {
        digest(&self.id)
    }
}

/// The id is a secret while nobody is authenticated: `Debug` shows its digest only.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection::Key({:?}, #{})", self.principal, self.digest())
    }
}

/// A connection, as every front end sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub key: Key,
    /// The parameters of `initialize`, with the version that was agreed upon.
    pub initialize: Value,
    pub client: Client,
    /// Groups of tools that the URL of its handshake asked for; none: it said nothing of them.
    #[serde(default)]
    pub caps: Option<Groups>,
    /// The session of calls that name none. Drawn with the connection, created by the first call that needs it.
    pub default_session: SessionName,
    /// Other sessions its calls named.
    pub sessions: Vec<SessionName>,
    /// Wall time, for people.
    pub created: Duration,
    pub last_seen: Duration,
}

impl Record {
    /// Whether calls of this connection opened or used the session.
    pub fn knows(&self, name: &SessionName) -> bool {
        *name == self.default_session || self.sessions.contains(name)
    }
}

/// A connection to keep.
#[derive(Clone, Debug)]
pub struct NewConnection {
    pub key: Key,
    pub initialize: Value,
    pub client: Client,
    /// As [`Record::caps`].
    pub caps: Option<Groups>,
}

/// How many connections are kept, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// After they were last touched.
    pub ttl: Duration,
    pub most: usize,
    /// So that nobody takes all of them.
    pub per_principal: usize,
}

/// Keeps connections, for all front ends. The contract is checked by `connection::suite`.
///
/// A connection lives until a fixed time after it was last touched. One that has lapsed is as absent as one that never was.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Keeps a connection. Its id is fresh: nothing of this id lives. `None`: as many as allowed are kept, in all or of its
    /// principal.
    ///
    /// # Errors
    /// When the store cannot answer; the connection may or may not be kept.
    async fn create(&self, new: NewConnection) -> Result<Option<Record>, Unavailable>;

    /// Reads a connection and prolongs it, in one round trip.
    ///
    /// # Errors
    /// When the store cannot answer; the connection may or may not have been prolonged.
    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable>;

    /// Remembers that a call of the connection named a session: the last [`SESSIONS_MAX`] are kept, each once. An absent
    /// connection remembers nothing.
    ///
    /// # Errors
    /// When the store cannot answer; it may or may not be remembered. Asking again is safe.
    async fn remember(&self, key: &Key, session: &SessionName) -> Result<(), Unavailable>;

    /// Takes the connection's event stream. The number is greater than any before: the stream with the greatest number
    /// is the one that counts. `None`: the connection is absent.
    ///
    /// # Errors
    /// When the store cannot answer; a number may have been used up.
    async fn take_stream(&self, key: &Key) -> Result<Option<u64>, Unavailable>;

    /// Forgets a connection and answers what it was. Of any number of callers at the same time exactly one gets it.
    ///
    /// # Errors
    /// When the store cannot answer; the connection may or may not be gone. Asking again is safe.
    async fn end(&self, key: &Key) -> Result<Option<Record>, Unavailable>;

    /// How many connections live.
    ///
    /// # Errors
    /// When the store cannot answer.
    async fn count(&self) -> Result<usize, Unavailable>;

    /// Removes what has lapsed. A store that does so by itself does nothing.
    ///
    /// # Errors
    /// When the store cannot answer. Asking again is safe.
    async fn sweep(&self) -> Result<(), Unavailable>;
}
