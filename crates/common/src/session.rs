//! What is kept of a session: front ends keep it, daemons look at it.

use std::time::Duration;

use crate::{
    egress::Egress,
    ids::{Principal, SessionName, digest},
};
use serde::{Deserialize, Serialize};

/// What names a session: nobody but its principal can say it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub principal: Principal,
    pub name: SessionName,
}

/// A session, and no other one that is created under its name: whose something is that is kept beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub key: Key,
    /// As [`Record::birth`].
    pub birth: String,
}

impl Owner {
    /// What is sealed for it: lengths first, so that no two owners read alike.
    pub fn bytes(&self) -> Vec<u8> {
        let Self { key: Key { principal, name }, birth } = self;
        let parts = [principal.as_str(), name.as_str(), birth.as_str()];
        parts.iter().flat_map(|part| [&part.len().to_be_bytes()[..], part.as_bytes()].concat()).collect()
    }
}

/// A session, as every front end sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub principal: Principal,
    pub name: SessionName,
    /// Drawn when the session was created: one created again under the same name is another session, and nothing of the
    /// old one may reach it.
    pub birth: String,
    /// Wall time, for people.
    pub created: Duration,
    /// Wall time of the last call.
    pub last_used: Duration,
    /// The session ends this long after its last call.
    pub idle_ttl: Duration,
    /// The connection that made it without being asked to; the session ends with it.
    pub connection: Option<String>,
    pub client: Client,
    /// What its browsers may reach, whichever daemon they are on. Settled at its creation: a browser that replaces a lost
    /// one gets no further than that did.
    #[serde(default)]
    pub egress: Egress,
    pub lease: LeaseState,
    /// Whether there is a checkpoint: another browser can show what this one did.
    #[serde(default)]
    pub restorable: bool,
}

impl Record {
    pub fn key(&self) -> Key {
        Key { principal: self.principal.clone(), name: self.name.clone() }
    }

    pub fn owner(&self) -> Owner {
        Owner { key: self.key(), birth: self.birth.clone() }
    }
}

/// Who opened a session, as it calls itself. For people only: nobody checks it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub name: Option<String>,
    pub version: Option<String>,
    pub user_agent: Option<String>,
}

/// The session's browser, or why it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    pub lease: Option<LeaseRef>,
    /// A browser that went away and of which the agent has not been told yet.
    pub lost: Option<Loss>,
}

impl LeaseState {
    pub fn held(lease: LeaseRef) -> Self {
        Self { lease: Some(lease), lost: None }
    }

    pub fn lost(loss: Loss) -> Self {
        Self { lease: None, lost: Some(loss) }
    }
}

/// What the names of daemons begin with that are in the same process as their front end.
const INSIDE: &str = "local";

/// How leases name a daemon that only the front end in its process reaches. Several such programs may share a store: `door`
/// tells those of one machine apart, and is the same when a program starts again.
pub fn inside_name(pool_id: &str, door: &str) -> String {
    format!("{INSIDE}/{pool_id}/{door}")
}

/// Whether a daemon of this name is reached from its own process only.
pub fn is_inside(name: &str) -> bool {
    name.split('/').next() == Some(INSIDE)
}

/// How leases name the daemon at an address: a URL has more than one spelling.
pub fn daemon_name(address: &str) -> String {
    address.trim_end_matches('/').to_owned()
}

/// Where a session's browser is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseRef {
    pub lease_id: String,
    /// The fencing token, minted and checked by the daemon.
    pub token: String,
    /// The daemon's [`daemon_name`], or [`inside_name`].
    pub daemon: String,
}

/// Whoever has the token can use the browser: `Debug` shows its digest only.
impl std::fmt::Debug for LeaseRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lease_id, token, daemon } = self;
        write!(f, "LeaseRef({lease_id} at {daemon}, token #{})", digest(token))
    }
}

/// A browser that went away under a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The lease that held it: if the daemon still grants this one, nothing was lost.
    pub lease_id: String,
    /// The daemon that held it, as in [`LeaseRef::daemon`].
    pub daemon: String,
    pub reason: LossReason,
    /// Why, in the daemon's words, if it said so.
    pub detail: Option<String>,
}

impl Loss {
    pub fn new(lease: &LeaseRef, reason: LossReason) -> Self {
        Self { lease_id: lease.lease_id.clone(), daemon: lease.daemon.clone(), reason, detail: None }
    }

    /// Why, for the agent.
    pub fn why(&self) -> &str {
        self.detail.as_deref().unwrap_or(match self.reason {
            LossReason::BrowserGone => "its process ended",
            LossReason::LeaseEnded => "its lease ended",
            LossReason::Unreachable => "the machine it ran on could not be reached",
        })
    }
}

/// Why a browser is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// Its process ended during a call.
    BrowserGone,
    /// The daemon had ended the lease.
    LeaseEnded,
    /// The daemon could not be reached. It may come back with the browser alive.
    Unreachable,
}

impl LossReason {
    /// Whether the browser may still be there.
    pub fn is_uncertain(self) -> bool {
        matches!(self, Self::Unreachable)
    }
}

/// How many sessions there may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub per_principal: usize,
    /// Of all principals together.
    pub total: usize,
}

/// What became of a creation.
#[derive(Clone, Debug, PartialEq)]
pub enum Created {
    /// It was not there before.
    Fresh(Record),
    /// It was; it has not been prolonged.
    Existing(Record),
    /// A limit is reached.
    Full(Full),
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Its principal has as many as it may.
    Principal,
    /// There are as many as there may be.
    Total,
}

/// What became of a change of lease.
#[derive(Clone, Debug, PartialEq)]
pub enum Swapped {
    Done,
    /// The session holds something else: this.
    Conflict(LeaseState),
    /// The session has ended, or is another one of the same name.
    Gone,
}
