//! Whether a lease goes on, by what the store says of its session. Decisions only.

use browserfleet_common::redis::looking::{Held, Sight};
use tokio::time::{Duration, Instant};

use crate::pool::model::Term;

/// How long a lease that its session does not hold stays, unused: the store may have forgotten the last thing it was told,
/// and whoever then asks for the session's browser gets this one.
const DISOWNED: Duration = Duration::from_secs(10);

/// When the store last said that the session holds the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    pub(super) at: Instant,
    /// Until the session ends, unless it is used. None: it does not.
    pub(super) rest: Option<Duration>,
}

/// What is known of a lease here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) lease_id: &'a str,
    pub(super) birth: &'a str,
    /// How long nobody has used it.
    pub(super) unused: Duration,
    /// How long it may be unused, as far as its daemon was told.
    pub(super) ttl: Duration,
    pub(super) seen: Option<Sighting>,
    /// Whether the store has ever been seen to have a session of ours: front ends may use another one.
    pub(super) shared: bool,
}

/// What becomes of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its session holds it.
    Lives(Sighting),
    /// Nothing is certain: it stays as it is.
    Stays,
    /// The store has lost the session: it is written again, for what was left of it.
    Lost,
    Over(&'static str),
}

const ENDED: &str = "its session has ended";
const IDLE: &str = Term::IDLE;
const ELSEWHERE: &str = "its session has another browser";

/// Judges a lease. What the store does not say is never taken for an end.
pub(super) fn judge(lease: Known<'_>, sight: &Sight, now: Instant) -> Verdict {
    match sight {
        Sight::Lives(held) if held.birth != lease.birth => Verdict::Over(ENDED),
        Sight::Lives(Held { lease_id, rest, .. }) if lease_id.as_deref() == Some(lease.lease_id) => {
            Verdict::Lives(Sighting { at: now, rest: *rest })
        }
        // A front end that could not reach us keeps it for the session, as long as the session would.
        Sight::Lives(Held { doubtful, .. }) if doubtful.as_deref() == Some(lease.lease_id) => {
            over_when(lease.unused >= lease.ttl, IDLE)
        }
        Sight::Lives(_) => over_when(lease.unused >= DISOWNED, ELSEWHERE),
        Sight::Missing { ended } if ended.as_deref() == Some(lease.birth) => Verdict::Over(ENDED),
        Sight::Missing { .. } => match lease.seen {
            Some(Sighting { at, rest: Some(rest) }) if at + rest <= now => Verdict::Over(IDLE),
            Some(_) => Verdict::Lost,
            // It was bound, so it was there, if our front ends use this store.
            None if lease.shared => Verdict::Lost,
            None => over_when(lease.unused >= lease.ttl, IDLE),
        },
    }
}

fn over_when(over: bool, reason: &'static str) -> Verdict {
    if over { Verdict::Over(reason) } else { Verdict::Stays }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TTL: Duration = Duration::from_mins(10);

    fn lives(birth: &str, lease_id: Option<&str>, doubtful: Option<&str>) -> Sight {
        let text = |text: Option<&str>| text.map(str::to_owned);
        let (lease_id, doubtful) = (text(lease_id), text(doubtful));
        Sight::Lives(Held { birth: birth.to_owned(), lease_id, doubtful, rest: Some(TTL) })
    }

    fn missing(ended: Option<&str>) -> Sight {
        Sight::Missing { ended: ended.map(str::to_owned) }
    }

    /// The verdict on lease `l` of birth `b`, unused for so long, last seen so long ago with a minute left.
    fn judged(sight: &Sight, unused: Duration, seen: Option<Duration>) -> Verdict {
        let now = Instant::now() + TTL;
        let seen = seen.map(|ago| Sighting { at: now.checked_sub(ago).unwrap(), rest: Some(60 * SECOND) });
        judge(Known { lease_id: "l", birth: "b", unused, ttl: TTL, seen, shared: seen.is_some() }, sight, now)
    }

    #[test]
    fn a_lease_lives_while_its_session_holds_it() {
        let sight = lives("b", Some("l"), None);
        for unused in [Duration::ZERO, 2 * TTL] {
            assert!(matches!(judged(&sight, unused, None), Verdict::Lives(_)), "its own clock does not count");
        }
    }

    #[test]
    fn a_session_that_was_ended_or_has_lapsed_ends_it() {
        let just_now = Duration::ZERO;
        assert_eq!(judged(&missing(Some("b")), just_now, Some(SECOND)), Verdict::Over(ENDED));
        assert_eq!(judged(&lives("c", None, None), just_now, Some(SECOND)), Verdict::Over(ENDED));
        assert_eq!(judged(&missing(None), 61 * SECOND, Some(61 * SECOND)), Verdict::Over(IDLE));
    }

    #[test]
    fn a_session_that_cannot_have_ended_was_lost() {
        for ended in [None, Some("an earlier one")] {
            assert_eq!(judged(&missing(ended), SECOND, Some(SECOND)), Verdict::Lost);
        }
        let forever = Sighting { at: Instant::now(), rest: None };
        let known = Known { lease_id: "l", birth: "b", unused: TTL, ttl: TTL, seen: Some(forever), shared: true };
        for known in [known, Known { seen: None, ..known }] {
            assert_eq!(judge(known, &missing(None), Instant::now() + 100 * TTL), Verdict::Lost);
        }
    }

    #[test]
    fn a_session_of_another_store_ends_by_the_leases_own_clock() {
        assert_eq!(judged(&missing(None), TTL.saturating_sub(SECOND), None), Verdict::Stays);
        assert_eq!(judged(&missing(None), TTL, None), Verdict::Over(IDLE));
    }

    #[test]
    fn one_in_doubt_is_kept_and_one_that_was_replaced_is_not() {
        let (doubted, replaced) = (lives("b", None, Some("l")), lives("b", Some("m"), Some("k")));
        assert_eq!(judged(&doubted, DISOWNED, Some(SECOND)), Verdict::Stays);
        assert_eq!(judged(&doubted, TTL, Some(SECOND)), Verdict::Over(IDLE));
        for sight in [replaced, lives("b", None, None)] {
            assert_eq!(judged(&sight, SECOND, Some(SECOND)), Verdict::Stays, "it may be resumed");
            assert_eq!(judged(&sight, DISOWNED, Some(SECOND)), Verdict::Over(ELSEWHERE));
        }
    }
}
