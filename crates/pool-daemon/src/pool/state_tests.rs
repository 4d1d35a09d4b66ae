//! The decisions, by hand and over random histories.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn limits(max_browsers: usize, min_warm: usize) -> Limits {
    Limits {
        max_browsers,
        min_warm,
        max_queue: 3,
        warm_ttl: 300 * SECOND,
        unbound_ttl: 10 * SECOND,
        backoff: SECOND,
        max_backoff: 8 * SECOND,
    }
}

fn key(session: usize) -> Key {
    Key { principal: "p".to_owned(), session: format!("s{session}"), birth: "1".to_owned() }
}

fn acquire(ticket: u64, session: usize, now: Instant) -> Event {
    Event::Acquire { ticket: Ticket(ticket), key: key(session), ttl: 60 * SECOND, deadline: now + 30 * SECOND }
}

fn granted(actions: &[Action]) -> Vec<(u64, LeaseRef)> {
    let grant = |action: &Action| match action {
        Action::Grant { ticket, lease } => Some((ticket.0, *lease)),
        _ => None,
    };
    actions.iter().filter_map(grant).collect()
}

fn refused(actions: &[Action]) -> Vec<(u64, ErrorCode)> {
    let refuse = |action: &Action| match action {
        Action::Refuse { ticket, refusal } => Some((ticket.0, refusal.code)),
        _ => None,
    };
    actions.iter().filter_map(refuse).collect()
}

/// A pool with one warm browser in slot 0.
fn warm(max_browsers: usize, now: Instant) -> State {
    let mut state = State::new(limits(max_browsers, 1));
    assert_eq!(state.on(Event::Tick, now), [Action::Launch { slot: 0, generation: 1 }]);
    assert_eq!(state.on(Event::Launched { slot: 0, generation: 1 }, now), []);
    state
}

#[test]
fn a_warm_browser_is_granted_at_once_and_replaced() {
    let now = Instant::now();
    let mut state = warm(2, now);
    let actions = state.on(acquire(1, 1, now), now);
    assert_eq!(granted(&actions), [(1, LeaseRef { slot: 0, generation: 1 })]);
    assert!(actions.contains(&Action::Launch { slot: 1, generation: 2 }), "the next one is warmed: {actions:?}");
}

#[test]
fn one_session_has_one_lease_however_often_it_asks() {
    let now = Instant::now();
    let mut state = State::new(limits(2, 0));
    state.on(acquire(1, 1, now), now);
    state.on(acquire(2, 1, now), now);
    let actions = state.on(Event::Launched { slot: 0, generation: 1 }, now);
    let lease = LeaseRef { slot: 0, generation: 1 };
    assert_eq!(granted(&actions), [(1, lease), (2, lease)]);
    assert_eq!(granted(&state.on(acquire(3, 1, now), now)), [(3, lease)]);
}

#[test]
fn a_lease_nobody_confirms_comes_back_and_a_confirmed_one_lives_by_its_use() {
    let now = Instant::now();
    let mut state = warm(1, now);
    let (_, lease) = granted(&state.on(acquire(1, 1, now), now))[0];
    assert_eq!(state.next_deadline(), Some(now + 10 * SECOND));
    state.on(Event::Renew { lease, ttl: None }, now + 5 * SECOND);
    state.on(Event::Used { lease, at: now + 30 * SECOND }, now + 30 * SECOND);
    assert_eq!(state.next_deadline(), Some(now + 90 * SECOND));
    assert_eq!(state.on(Event::Tick, now + 89 * SECOND), []);
    let actions = state.on(Event::Tick, now + 90 * SECOND);
    assert!(matches!(actions[..], [Action::Revoke { .. }, Action::End { slot: 0, generation: 1 }]), "{actions:?}");
    assert!(state.lease(lease).is_none());
}

#[test]
fn the_queue_is_bounded_in_length_and_time_and_tells_places() {
    let now = Instant::now();
    let mut state = State::new(limits(1, 0));
    let first = state.on(acquire(1, 1, now), now);
    assert!(first.contains(&Action::Queued { ticket: Ticket(1), position: 1, depth: 1 }), "{first:?}");
    state.on(acquire(2, 2, now), now);
    state.on(acquire(3, 3, now), now);
    assert_eq!(refused(&state.on(acquire(4, 4, now), now)), [(4, ErrorCode::PoolFull)]);
    let left = state.on(Event::Abandon { ticket: Ticket(2) }, now);
    assert!(left.contains(&Action::Queued { ticket: Ticket(3), position: 2, depth: 2 }), "{left:?}");
    let late = state.on(Event::Tick, now + 30 * SECOND);
    assert_eq!(refused(&late), [(1, ErrorCode::QueueTimeout), (3, ErrorCode::QueueTimeout)]);
}

#[test]
fn failing_launches_back_off_and_refuse_those_they_were_for() {
    let now = Instant::now();
    let mut state = State::new(limits(3, 0));
    state.on(acquire(1, 1, now), now);
    state.on(acquire(2, 2, now), now);
    let failed = |state: &mut State, slot, generation| {
        state.on(Event::LaunchFailed { slot, generation, reason: "no".to_owned() }, now)
    };
    assert_eq!(refused(&failed(&mut state, 0, 1)), [(1, ErrorCode::BrowserGone)]);
    assert_eq!(refused(&failed(&mut state, 1, 2)), [(2, ErrorCode::BrowserGone)]);
    state.on(acquire(3, 3, now), now);
    assert_eq!(state.next_deadline(), Some(now + 2 * SECOND), "the second failure doubles the delay");
    let retry = state.on(Event::Tick, now + 2 * SECOND);
    assert_eq!(retry, [Action::Launch { slot: 0, generation: 3 }]);
}

#[test]
fn a_dead_browser_ends_its_lease_with_the_reason() {
    let now = Instant::now();
    let mut state = warm(1, now);
    state.on(acquire(1, 1, now), now);
    let actions = state.on(Event::Died { slot: 0, generation: 1, reason: "killed".to_owned() }, now);
    let lease = LeaseRef { slot: 0, generation: 1 };
    assert_eq!(actions[0], Action::Revoke { lease, reason: "killed".to_owned() });
    assert_eq!(actions[1], Action::End { slot: 0, generation: 1 });
    // An old browser's end does not touch what is in the slot now.
    state.on(Event::Ended { slot: 0, generation: 1 }, now);
    assert_eq!(state.counts().starting, 1);
    state.on(Event::Died { slot: 0, generation: 1, reason: String::new() }, now);
    assert_eq!(state.counts().starting, 1);
}

#[test]
fn a_drain_refuses_waits_and_then_ends() {
    let now = Instant::now();
    let mut state = warm(1, now);
    state.on(acquire(1, 1, now), now);
    state.on(acquire(2, 2, now), now);
    let actions = state.on(Event::Drain { deadline: now + 5 * SECOND }, now);
    assert_eq!(refused(&actions), [(2, ErrorCode::Draining)]);
    assert_eq!(state.next_deadline(), Some(now + 5 * SECOND));
    assert!(!state.is_drained());
    let actions = state.on(Event::Tick, now + 5 * SECOND);
    assert!(actions.contains(&Action::End { slot: 0, generation: 1 }), "{actions:?}");
    state.on(Event::Ended { slot: 0, generation: 1 }, now + 6 * SECOND);
    assert!(state.is_drained());
}

/// One step of a random history.
#[derive(Clone, Debug)]
enum Op {
    Acquire(usize),
    Abandon(usize),
    LaunchOk(usize),
    LaunchFails(usize),
    Renew(usize),
    Release(usize),
    Died(usize),
    Ended(usize),
    Pass(u64),
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0_usize..6).prop_map(Op::Acquire),
        1 => any::<usize>().prop_map(Op::Abandon),
        6 => any::<usize>().prop_map(Op::LaunchOk),
        1 => any::<usize>().prop_map(Op::LaunchFails),
        3 => any::<usize>().prop_map(Op::Renew),
        3 => any::<usize>().prop_map(Op::Release),
        1 => any::<usize>().prop_map(Op::Died),
        6 => any::<usize>().prop_map(Op::Ended),
        4 => (0_u64..40).prop_map(Op::Pass),
        1 => Just(Op::Drain),
    ]
}

/// What an outside observer sees: browsers, leases and callers, by the actions alone.
#[derive(Default)]
struct Observer {
    starting: Vec<(usize, u64)>,
    up: Vec<(usize, u64)>,
    ending: Vec<(usize, u64)>,
    live: HashSet<LeaseRef>,
    ever: HashSet<LeaseRef>,
    ended: HashSet<LeaseRef>,
    holder: HashMap<LeaseRef, usize>,
    waiting: HashMap<u64, usize>,
}

impl Observer {
    fn see(&mut self, actions: &[Action]) -> Result<(), TestCaseError> {
        for action in actions {
            match action {
                Action::Launch { slot, generation } => self.starting.push((*slot, *generation)),
                Action::End { slot, generation } => {
                    let at = self.up.iter().position(|up| up == &(*slot, *generation));
                    prop_assert!(at.is_some(), "only a browser that is up is ended");
                    self.up.remove(at.unwrap());
                    self.ending.push((*slot, *generation));
                }
                Action::Grant { ticket, lease } => {
                    let session = self.waiting.remove(&ticket.0);
                    prop_assert!(session.is_some(), "a grant goes to somebody who waits");
                    prop_assert!(self.up.contains(&(lease.slot, lease.generation)), "a granted browser is up");
                    let holder = *self.holder.entry(*lease).or_insert(session.unwrap());
                    prop_assert_eq!(Some(holder), session, "a lease has one session");
                    prop_assert!(self.live.contains(lease) || self.ever.insert(*lease), "a lease never comes back");
                    self.live.insert(*lease);
                }
                Action::Revoke { lease, .. } => {
                    prop_assert!(self.live.remove(lease), "only a live lease ends");
                    prop_assert!(self.ended.insert(*lease), "a lease ends exactly once");
                }
                Action::Refuse { ticket, .. } => {
                    prop_assert!(self.waiting.remove(&ticket.0).is_some(), "one answer for each caller");
                }
                Action::Queued { ticket, .. } => prop_assert!(self.waiting.contains_key(&ticket.0)),
            }
        }
        Ok(())
    }
}

fn pick<T: Copy>(items: &[T], index: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[index % items.len()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn invariants_hold_over_random_histories(ops in prop::collection::vec(op(), 1..200), warm in 0_usize..3) {
        let mut now = Instant::now();
        let mut state = State::new(limits(3, warm));
        let mut seen = Observer::default();
        let mut tickets = 0;
        for op in ops {
            let live: Vec<_> = seen.live.iter().copied().collect();
            let event = match op {
                Op::Acquire(session) => {
                    tickets += 1;
                    seen.waiting.insert(tickets, session);
                    Some(acquire(tickets, session, now))
                }
                Op::Abandon(index) => {
                    let waiting: Vec<_> = seen.waiting.keys().copied().collect();
                    let ticket = pick(&waiting, index);
                    ticket.map(|ticket| { seen.waiting.remove(&ticket); Event::Abandon { ticket: Ticket(ticket) } })
                }
                Op::LaunchOk(index) => pick(&seen.starting, index).map(|(slot, generation)| {
                    seen.starting.retain(|at| *at != (slot, generation));
                    seen.up.push((slot, generation));
                    Event::Launched { slot, generation }
                }),
                Op::LaunchFails(index) => pick(&seen.starting, index).map(|(slot, generation)| {
                    seen.starting.retain(|at| *at != (slot, generation));
                    Event::LaunchFailed { slot, generation, reason: String::new() }
                }),
                Op::Renew(index) => pick(&live, index).map(|lease| Event::Renew { lease, ttl: None }),
                Op::Release(index) => pick(&live, index).map(|lease| Event::Release { lease }),
                Op::Died(index) => pick(&seen.up, index)
                    .map(|(slot, generation)| Event::Died { slot, generation, reason: "died".to_owned() }),
                Op::Ended(index) => pick(&seen.ending, index).map(|(slot, generation)| {
                    seen.ending.retain(|at| *at != (slot, generation));
                    Event::Ended { slot, generation }
                }),
                Op::Pass(seconds) => { now += Duration::from_secs(seconds); Some(Event::Tick) }
                Op::Drain => Some(Event::Drain { deadline: now + 20 * SECOND }),
            };
            let Some(event) = event else { continue };
            let actions = state.on(event, now);
            seen.see(&actions)?;
            prop_assert_eq!(state.check(), Ok(()));
            prop_assert!(seen.starting.len() + seen.up.len() + seen.ending.len() <= 3, "more processes than allowed");
            prop_assert_eq!(state.leases().map(|(at, _)| at).collect::<HashSet<_>>(), seen.live.clone());
        }
        // Calm: launches succeed, endings are verified, time passes. Then everybody has an answer and nothing is left.
        seen.see(&state.on(Event::Drain { deadline: now }, now))?;
        for _ in 0..10 {
            for (slot, generation) in std::mem::take(&mut seen.starting) {
                seen.up.push((slot, generation));
                seen.see(&state.on(Event::Launched { slot, generation }, now))?;
            }
            for (slot, generation) in std::mem::take(&mut seen.ending) {
                seen.see(&state.on(Event::Ended { slot, generation }, now))?;
            }
        }
        prop_assert!(state.is_drained(), "{:?}", state.counts());
        prop_assert!(seen.waiting.is_empty() && seen.live.is_empty() && seen.up.is_empty());
        prop_assert_eq!(seen.ever, seen.ended);
    }
}
