//! What every place that keeps sessions must do. The contract is checked by `session::suite`.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use browserfleet_common::{egress::Egress, ids::Principal};

use super::{Client, Created, Key, LeaseState, Limits, Record, Swapped};
use crate::Unavailable;

/// Keeps sessions, for all front ends; what is beside them is kept by `common::artifact` and `common::checkpoint`'s stores, in the
/// same place.
///
/// A session whose time to live has passed is as absent as one that never was, whether or not it has been removed; so is
/// everything kept for it, but for its checkpoint, which brings it back until its longest lifetime is over.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Creates a session unless one of this name lives, and answers the one that lives then. Of any number of callers
    /// at the same time exactly one creates. The limits hold for creation only.
    ///
    /// # Errors
    /// When the store cannot answer; the session may or may not have been created.
    async fn create(&self, new: NewSession, limits: Limits) -> Result<Created, Unavailable>;

    /// Reads a session and prolongs it by its idle time, in one round trip, but never beyond its longest lifetime.
    ///
    /// # Errors
    /// When the store cannot answer; the session may or may not have been prolonged.
    async fn touch(&self, key: &Key) -> Result<Option<Record>, Unavailable>;

    /// Brings back a session that has lapsed and left a checkpoint: what it was, but without a browser. Nothing if there is
    /// none. The limits are those of a creation; no session lives longer than `max_lifetime`.
    ///
    /// # Errors
    /// When the store cannot answer; the session may or may not be there. Asking again is safe.
    async fn revive(&self, key: &Key, limits: Limits, max_lifetime: Duration) -> Result<Option<Created>, Unavailable>;

    /// Replaces the lease state of the session born as `birth`, if it holds the lease `expected` (`None`: no lease) at
    /// that moment. Does not prolong the session.
    ///
    /// # Errors
    /// When the store cannot answer; the state may or may not have been replaced. Asking again is safe.
    async fn swap_lease(
        &self,
        key: &Key,
        birth: &str,
        expected: Option<&str>,
        next: LeaseState,
    ) -> Result<Swapped, Unavailable>;

    /// Removes a session (only the one born as `birth`, if given) and everything kept for it, and answers what it was; also
    /// one that has lapsed and left a checkpoint.
    /// Of any number of callers at the same time exactly one gets it.
    ///
    /// # Errors
    /// When the store cannot answer; the session may or may not be gone. Asking again is safe.
    async fn end(&self, key: &Key, birth: Option<&str>) -> Result<Option<Record>, Unavailable>;

    /// The living sessions in scope, oldest first. Does not prolong them.
    ///
    /// # Errors
    /// When the store cannot answer.
    async fn list(&self, scope: Scope<'_>) -> Result<Vec<Record>, Unavailable>;

    /// How many sessions live.
    ///
    /// # Errors
    /// When the store cannot answer.
    async fn counts(&self, principal: &Principal) -> Result<Counts, Unavailable>;

    /// Removes what has expired and answers it, so that its leases can be returned at once. Each is answered once. A
    /// store that expires by itself answers nothing: the daemons notice.
    ///
    /// # Errors
    /// When the store cannot answer. Asking again is safe.
    async fn sweep(&self) -> Result<Vec<Record>, Unavailable>;

    /// What a store in this process, or on its disk, has of everybody. A store that is a server of its own tells operators itself.
    ///
    /// # Errors
    /// When the store cannot answer.
    async fn kept(&self) -> Result<Option<Kept>, Unavailable> {
        Ok(None)
    }
}

/// A session to create.
#[derive(Clone, Debug)]
pub struct NewSession {
    pub key: Key,
    pub connection: Option<String>,
    pub client: Client,
    pub egress: Egress,
    pub idle_ttl: Duration,
    /// The session ends after this, used or not.
    pub max_lifetime: Duration,
}

/// Which sessions to list.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    Of(&'a Principal),
    /// Everybody's: for operators.
    All,
}

/// How much a store has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Those that have lapsed and left a checkpoint, too.
    pub sessions: usize,
    pub artifacts: usize,
    pub checkpoints: usize,
}

/// How many sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    pub of_principal: usize,
    pub total: usize,
}
