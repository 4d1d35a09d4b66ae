//! Whether sessions are missing because Redis was emptied, and not because they have ended.
//!
//! The daemons then write the sessions of their leases again. Until they have, nobody may be told that a session is unknown,
//! and none may be created in the place of one whose browser lives.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long daemons have for that, from when it is noticed here. They look every second.
const GRACE: Duration = Duration::from_secs(5);

/// What Redis has called itself; see `common::redis::Sessions::epoch`.
#[derive(Debug, Default)]
pub(super) struct Epochs(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    known: Option<String>,
    /// When it was last noticed that it has another one.
    changed: Option<Instant>,
}

impl Epochs {
    /// Takes note of the epoch there is. Answers whether what is missing now may come back.
    pub(super) fn note(&self, epoch: String, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.known.as_ref() != Some(&epoch) && state.known.replace(epoch).is_some() {
            state.changed = Some(now);
        }
        state.changed.is_some_and(|changed| now < changed + GRACE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_may_come_back_for_a_while_after_each_change() {
        let (epochs, start) = (Epochs::default(), Instant::now());
        let second = Duration::from_secs(1);
        let note = |epoch: &str, seconds| epochs.note(epoch.to_owned(), start + second * seconds);
        assert!(!note("first", 0) && !note("first", 1), "a front end that has just started has seen nothing go");
        assert!(note("second", 2) && note("second", 6));
        assert!(!note("second", 7));
        assert!(note("third", 8));
    }
}
