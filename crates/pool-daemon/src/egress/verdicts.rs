//! Why requests were refused: remembered, because Chromium only learns that they were.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use browserfleet_common::error_code::ErrorCode;

use super::{policy::Blocked, target::Target};
use crate::failure::Failure;

/// Most refusals a gate remembers, each of another target.
const REMEMBERED: usize = 256;

/// Why a request got no answer. What would have failed without a gate as well has Chromium's own name for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Blocked(#[from] Blocked),
    #[error("the session's proxy_server {0}")]
    Upstream(String),
    #[error("the browser's own way out is gone")]
    Gone,
    #[error("net::ERR_NAME_NOT_RESOLVED")]
    Unresolved,
    #[error("net::ERR_CONNECTION_REFUSED")]
    Refused,
    #[error("net::ERR_CONNECTION_RESET")]
    Reset,
    #[error("net::ERR_ADDRESS_UNREACHABLE")]
    Unreachable,
    #[error("net::ERR_CONNECTION_TIMED_OUT")]
    TimedOut,
    #[error("net::ERR_TIMED_OUT")]
    Unanswered,
    #[error("net::ERR_EMPTY_RESPONSE")]
    Empty,
    #[error("net::ERR_INVALID_HTTP_RESPONSE")]
    Malformed,
    #[error("net::ERR_UNEXPECTED_PROXY_AUTH")]
    AsksForCredentials,
}

impl Refusal {
    /// The failure of a navigation to `url`.
    pub fn into_failure(self, url: &str) -> Failure {
        match self {
            Self::Blocked(blocked) => Failure::new(ErrorCode::UrlBlocked, format!("{blocked}. Attempted URL: {url}")),
            Self::Upstream(_) => Failure::new(
                ErrorCode::EgressUnavailable,
                format!(
                    "{self}. Nothing was loaded around it. Check proxy_server, or open another session. URL: {url}"
                ),
            ),
            Self::Gone => Failure::new(
                ErrorCode::EgressUnavailable,
                format!("{self}. Call browser_close, then go on with a new browser. URL: {url}"),
            ),
            other => Failure::new(ErrorCode::NavigationFailed, format!("{other} at {url}")),
        }
    }
}

/// How Chromium names what a gate refuses: over HTTP, in a tunnel, and when the gate itself is gone.
const EMPTY: &str = "net::ERR_EMPTY_RESPONSE";
const NO_TUNNEL: &str = "net::ERR_TUNNEL_CONNECTION_FAILED";
const NO_PROXY: &str = "net::ERR_PROXY_CONNECTION_FAILED";

/// Whether an error of Chromium's may be a gate's doing.
pub(super) fn may_be_ours(error: &str) -> bool {
    [EMPTY, NO_TUNNEL, NO_PROXY].contains(&error)
}

/// Whether there was no gate to ask.
pub(super) fn is_gone(error: &str) -> bool {
    error == NO_PROXY
}

/// The last refusals, of each target the newest.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    /// The oldest first. Held only to read or change the list.
    known: Mutex<VecDeque<(Target, Refusal)>>,
}

impl Verdicts {
    pub(super) fn add(&self, target: Target, refusal: Refusal) {
        let mut known = self.lock();
        known.retain(|(of, _)| *of != target);
        if known.len() == REMEMBERED {
            known.pop_front();
        }
        known.push_back((target, refusal));
    }

    /// What was refused before works now.
    pub(super) fn forget(&self, target: &Target) {
        self.lock().retain(|(of, _)| of != target);
    }

    pub(super) fn of(&self, target: &Target) -> Option<Refusal> {
        self.lock().iter().find(|(of, _)| of == target).map(|(_, refusal)| refusal.clone())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Target, Refusal)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
