//! What principals use right now, on all front ends together: calls that run, places in queues, requests per second, bytes of
//! files per hour.
//!
//! [`Store`] keeps it, [`held`] is what this front end holds of it. A place lapses when its front end does not say that it
//! still holds it: one that died holds nothing for long.

pub(crate) mod held;

pub mod memory;

pub mod redis;

#[cfg(test)]
mod suite;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use browserfleet_common::ids::Principal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use self::held::{Held, Usage};
pub use self::{memory::MemoryStore, redis::RedisStore};
use crate::{Unavailable, session::Scope};

/// What a place is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Among the calls that run.
    Call,
    /// Among the calls that wait for a browser.
    Queue,
}

/// What comes at a pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pace {
    /// Requests, by the second.
    Requests,
    /// Bytes of files that clients bring, by the hour.
    Uploads,
    /// Bytes of files that pages give away, by the hour.
    Downloads,
}

impl Pace {
    /// The time in which a principal's allowance may come, also all at once.
    pub(crate) fn window(self) -> Duration {
        match self {
            Self::Requests => Duration::from_secs(1),
            Self::Uploads | Self::Downloads => Duration::from_hours(1),
        }
    }
}

/// A place, as every front end sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Of the call it is for.
    pub id: Uuid,
    pub principal: Principal,
    pub tool: String,
    /// The digest of the session's name, if the call says one.
    pub session: Option<String>,
    /// Where it runs.
    pub front_end: String,
    /// Wall time, for people.
    pub since: Duration,
}

/// Counts what principals use, for all front ends. The contract is checked by `usage::suite`.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Takes a place if fewer than `most` of its principal are taken (`None`: in any case); whoever has it keeps it. Answers
    /// whether it is taken now.
    ///
    /// # Errors
    /// When the store cannot answer; the place may or may not be taken. Asking again is safe.
    async fn take(&self, kind: Kind, place: &Place, most: Option<usize>) -> Result<bool, Unavailable>;

    /// Gives a place back. One that is not taken is no error.
    ///
    /// # Errors
    /// When the store cannot answer; the place lapses then. Asking again is safe.
    async fn give_back(&self, kind: Kind, principal: &Principal, id: Uuid) -> Result<(), Unavailable>;

    /// The places that are taken, in no order, a thousand of each principal at most.
    ///
    /// # Errors
    /// When the store cannot answer.
    async fn held(&self, kind: Kind, scope: Scope<'_>) -> Result<Vec<Place>, Unavailable>;

    /// Whether so much may pass now of a principal that may have `allowance` in the pace's window, also all at once: if not, how
    /// long to wait, and nothing is counted. More than the allowance never passes; without one nothing does.
    ///
    /// # Errors
    /// When the store cannot answer; it may or may not be counted.
    async fn pass(
        &self,
        pace: Pace,
        principal: &Principal,
        amount: u64,
        allowance: u64,
    ) -> Result<Option<Duration>, Unavailable>;
}
