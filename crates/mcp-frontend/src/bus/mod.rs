//! Messages between front ends, most of them about one MCP connection of the legacy era: a request runs on one front end,
//! what concerns it may arrive at another.

pub mod memory;

pub mod redis;

#[cfg(any(test, feature = "test-util"))]
pub mod suite;

use std::fmt;

use async_trait::async_trait;
use browserfleet_common::ids::Principal;
use futures_util::{StreamExt as _, stream::BoxStream};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use self::{memory::MemoryBus, redis::RedisBus};
use crate::{Unavailable, changes::Change, connection::Key};

/// Carries messages to whoever listens for a connection. The contract is checked by `bus::suite`.
///
/// A message reaches each listener at most once, in the order of publication by one publisher; nobody waits for a slow
/// listener. A message about nothing anybody listens to is no error. The channel's name carries the principal: no
/// principal reaches another's channels.
#[async_trait]
pub trait Bus: Send + Sync + fmt::Debug + 'static {
    /// Sends a message to everybody who listens now, and answers whether there is anybody.
    ///
    /// # Errors
    /// When the bus does not work; the message may or may not arrive.
    async fn publish(&self, channel: &Key, message: Message) -> Result<Audience, Unavailable>;

    /// Listens: every message published after this returned arrives, unless the listener falls far behind.
    ///
    /// # Errors
    /// When the bus does not work.
    async fn listen(&self, channel: &Key) -> Result<Listener, Unavailable>;
}

/// Whether anybody listened to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    Nobody,
    Somebody,
    /// A node of a cluster knows only those who listen at it.
    Unknown,
}

/// What front ends tell each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Message {
    /// The client does not want the answer of a request any more: a JSON-RPC id, unique within its connection only.
    Cancel { request: Value },
    /// The client's response to a request of ours; its id says which.
    Response { response: Value },
    /// A notification for the client's event stream.
    Notify { notification: Value },
    /// An event stream was opened; those with a smaller number end.
    StreamTaken { number: u64 },
    /// The connection has ended.
    Closed,
    /// Somebody who may do so wants a call stopped, wherever it runs.
    Stop { call: Uuid },
    /// A list of the principal has changed.
    Changed { change: Change },
}

/// The channel of a front end: what concerns it and no connection. No principal has an empty name.
pub(crate) fn of_front_end(name: &str) -> Key {
    Key { principal: Principal::named(""), id: name.to_owned() }
}

/// The channel of what concerns all clients of a principal. No connection has such an id.
pub(crate) fn all_of(principal: &Principal) -> Key {
    Key { principal: principal.clone(), id: "all".to_owned() }
}

/// Receives the messages of one connection until it is dropped.
pub struct Listener(BoxStream<'static, Message>);

impl Listener {
    pub fn new(messages: BoxStream<'static, Message>) -> Self {
        Self(messages)
    }

    /// The next message; `None` when the bus has stopped working. Cancel-safe.
    pub async fn next(&mut self) -> Option<Message> {
        self.0.next().await
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}
