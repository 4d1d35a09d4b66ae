//! The decisions over random histories. The observer knows only events and actions, as the driver does.
//!
//! Named as in the list of invariants: S-01 one lease a slot (or as many as contexts, of one principal), one session a lease;
//! S-02 a browser is in one state and there are never more than allowed; S-03, S-04 leases never come back; S-13 bounds;
//! S-14 nothing but a request grants; L-03 everybody gets an answer; L-04 no capacity is lost.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::{tests::limits, *};
use crate::pool::model::{PerPrincipal, Retirement, Ticket};

const SECOND: Duration = Duration::from_secs(1);
const MAX_BROWSERS: usize = 3;
const MAX_QUEUE: usize = 4;
const PER_PRINCIPAL: usize = 4;

/// One step of a random history.
#[derive(Clone, Debug)]
enum Op {
    /// A principal asks for a session.
    Acquire(usize, usize),
    Abandon(usize),
    LaunchOk(usize),
    LaunchFails(usize),
    Renew(usize),
    Use(usize),
    Release(usize),
    SessionEnded(usize),
    /// A grant finds none of its callers.
    Undelivered,
    OpenFails(usize),
    CloseOk(usize, u64),
    CloseFails(usize),
    Died(usize),
    EndOk(usize),
    EndFails(usize),
    Pressure(bool, bool),
    Pass(u64),
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    let any_index = any::<usize>;
    prop_oneof![
        8 => (0_usize..3, 0_usize..4).prop_map(|(principal, session)| Op::Acquire(principal, session)),
        1 => any_index().prop_map(Op::Abandon),
        8 => any_index().prop_map(Op::LaunchOk),
        1 => any_index().prop_map(Op::LaunchFails),
        3 => any_index().prop_map(Op::Renew),
        2 => any_index().prop_map(Op::Use),
        3 => any_index().prop_map(Op::Release),
        1 => any_index().prop_map(Op::SessionEnded),
        1 => Just(Op::Undelivered),
        1 => any_index().prop_map(Op::OpenFails),
        5 => (any_index(), 0_u64..1200).prop_map(|(index, memory)| Op::CloseOk(index, memory)),
        1 => any_index().prop_map(Op::CloseFails),
        1 => any_index().prop_map(Op::Died),
        8 => any_index().prop_map(Op::EndOk),
        1 => any_index().prop_map(Op::EndFails),
        1 => any::<(bool, bool)>().prop_map(|(memory, cpu)| Op::Pressure(memory, cpu)),
        4 => (0_u64..400).prop_map(Op::Pass),
        1 => Just(Op::Drain),
    ]
}

/// What an outside observer sees: browsers, leases and callers, by events and actions alone.
#[derive(Default)]
struct Observer {
    starting: Vec<BrowserRef>,
    up: Vec<BrowserRef>,
    killing: Vec<BrowserRef>,
    poisoned: HashSet<usize>,
    /// Leases that live, and who has them.
    live: HashMap<LeaseRef, Key>,
    closing: Vec<BrowserRef>,
    ever: HashSet<LeaseRef>,
    ended: HashSet<LeaseRef>,
    /// Whose first lease a browser had.
    owner: HashMap<BrowserRef, String>,
    waiting: HashMap<Ticket, Key>,
    /// Who was granted what by the latest step.
    granted: Vec<(Ticket, LeaseRef)>,
}

impl Observer {
    fn see(&mut self, actions: &[Action], contexts: usize) -> Result<(), TestCaseError> {
        self.granted.clear();
        for action in actions {
            match action {
                Action::Launch { at } => {
                    let all = self.starting.iter().chain(&self.up).chain(&self.killing);
                    prop_assert!(all.clone().all(|other| other.slot != at.slot), "S-02: the slot is taken");
                    prop_assert!(!self.poisoned.contains(&at.slot), "S-02: a poisoned slot is out of use");
                    self.starting.push(*at);
                }
                Action::End { at } => {
                    prop_assert!(self.up.contains(at), "only a browser that is up is ended");
                    self.up.retain(|other| other != at);
                    self.closing.retain(|other| other != at);
                    self.killing.push(*at);
                }
                Action::Grant { ticket, lease } => self.see_grant(*ticket, *lease)?,
                Action::Revoke { lease, .. } => {
                    prop_assert!(self.live.remove(lease).is_some(), "only a live lease ends");
                    prop_assert!(self.ended.insert(*lease), "S-01: a lease ends exactly once");
                }
                Action::Close { lease } => self.closing.push(lease.browser),
                Action::Report(violation) => prop_assert!(false, "{violation:?}"),
                Action::Refuse { ticket, .. } => {
                    prop_assert!(self.waiting.remove(ticket).is_some(), "L-03: one answer for each caller");
                }
                Action::Queued { ticket, position, depth } => {
                    prop_assert!(self.waiting.contains_key(ticket));
                    prop_assert!(position <= depth && *depth <= MAX_QUEUE, "S-13");
                }
            }
        }
        self.check(contexts)
    }

    fn see_grant(&mut self, ticket: Ticket, lease: LeaseRef) -> Result<(), TestCaseError> {
        let key = self.waiting.remove(&ticket);
        prop_assert!(key.is_some(), "S-14: a grant goes to somebody who waits");
        let key = key.unwrap();
        prop_assert!(self.up.contains(&lease.browser), "a granted browser is up");
        let owner = self.owner.entry(lease.browser).or_insert_with(|| key.principal.clone());
        prop_assert_eq!(&*owner, &key.principal, "S-01: a browser has one principal");
        let new = !self.live.contains_key(&lease);
        prop_assert!(!new || self.ever.insert(lease), "S-04: a lease never comes back");
        let holder = self.live.entry(lease).or_insert_with(|| key.clone());
        prop_assert_eq!(&*holder, &key, "S-01: a lease has one session");
        self.granted.push((ticket, lease));
        Ok(())
    }

    fn check(&self, contexts: usize) -> Result<(), TestCaseError> {
        let browsers = self.starting.len() + self.up.len() + self.killing.len() + self.poisoned.len();
        prop_assert!(browsers <= MAX_BROWSERS, "S-02: more processes than allowed");
        for browser in &self.up {
            let leases = self.live.keys().filter(|lease| lease.browser == *browser).count();
            let closing = self.closing.iter().filter(|at| *at == browser).count();
            prop_assert!(leases + closing <= contexts, "S-01: more leases than the browser has contexts");
        }
        let sessions: HashSet<_> = self.live.values().collect();
        prop_assert_eq!(sessions.len(), self.live.len(), "S-01: a session has one lease");
        let principals: HashSet<_> = self.live.values().map(|key| &key.principal).collect();
        for principal in principals {
            let held = self.live.values().filter(|key| key.principal == *principal).count();
            prop_assert!(held <= PER_PRINCIPAL, "S-13: more leases than the principal may have");
        }
        Ok(())
    }

    /// The event of an operation, if it can happen now; what the observer itself does is noted.
    fn event(&mut self, op: &Op, now: Instant, tickets: &mut u64) -> Option<Event> {
        let mut live: Vec<_> = self.live.keys().copied().collect();
        live.sort_unstable();
        Some(match *op {
            Op::Acquire(principal, session) => {
                *tickets += 1;
                let key =
                    Key { principal: format!("p{principal}"), session: session.to_string(), birth: String::new() };
                self.waiting.insert(Ticket(*tickets), key.clone());
                Event::Acquire { ticket: Ticket(*tickets), key, ttl: 60 * SECOND, deadline: now + 30 * SECOND }
            }
            Op::Abandon(index) => {
                let mut waiting: Vec<_> = self.waiting.keys().copied().collect();
                waiting.sort_unstable();
                let ticket = pick(&waiting, index)?;
                self.waiting.remove(&ticket);
                Event::Abandon { ticket }
            }
            Op::LaunchOk(index) => {
                let at = take(&mut self.starting, index)?;
                self.up.push(at);
                Event::Launched { at }
            }
            Op::LaunchFails(index) => {
                Event::LaunchFailed { at: take(&mut self.starting, index)?, reason: String::new() }
            }
            Op::Renew(index) => Event::Renew { lease: pick(&live, index)?, ttl: None },
            Op::Use(index) => Event::Used { leases: vec![(pick(&live, index)?, now)] },
            Op::Release(index) => Event::Release { lease: pick(&live, index)? },
            Op::SessionEnded(index) => Event::SessionEnded { lease: pick(&live, index)?, reason: "" },
            Op::Undelivered => {
                let (_, lease) = *self.granted.last()?;
                // Only a lease that all its callers have missed, and that is new.
                let known = self.granted.iter().filter(|(_, other)| *other == lease).count() > 1;
                self.live.get(&lease).filter(|_| !known)?;
                self.forget(lease);
                Event::Undelivered { lease }
            }
            Op::OpenFails(index) => {
                Event::OpenFailed { lease: pick(&live, index).filter(|lease| lease.seat > 0)?, reason: String::new() }
            }
            Op::CloseOk(index, memory) => Event::Closed { at: take(&mut self.closing, index)?, memory },
            Op::CloseFails(index) => Event::CloseFailed { at: take(&mut self.closing, index)? },
            Op::Died(index) => {
                let death = Death { code: ErrorCode::BrowserGone, reason: String::new() };
                Event::Died { at: pick(&self.up, index)?, death }
            }
            Op::EndOk(index) => Event::Ended { at: take(&mut self.killing, index)? },
            Op::EndFails(index) => {
                let at = take(&mut self.killing, index)?;
                self.poisoned.insert(at.slot);
                Event::EndFailed { at }
            }
            Op::Pressure(memory, cpu) => {
                Event::Pressure(Pressure { memory: memory.then(String::new), cpu: cpu.then(String::new) })
            }
            Op::Pass(_) => Event::Tick,
            Op::Drain => Event::Drain { deadline: now + 20 * SECOND },
        })
    }

    /// A lease that reached nobody has never been.
    fn forget(&mut self, lease: LeaseRef) {
        self.live.remove(&lease);
        self.ever.remove(&lease);
        if self.ever.iter().all(|other| other.browser != lease.browser) {
            self.owner.remove(&lease.browser);
        }
    }
}

fn pick<T: Copy>(items: &[T], index: usize) -> Option<T> {
    (!items.is_empty()).then(|| items[index % items.len()])
}

fn take<T>(items: &mut Vec<T>, index: usize) -> Option<T> {
    (!items.is_empty()).then(|| items.remove(index % items.len()))
}

/// Faults have ended: launches, closings and endings succeed, time passes in small steps.
fn calm(state: &mut State, seen: &mut Observer, now: &mut Instant, contexts: usize) -> Result<(), TestCaseError> {
    seen.see(&state.on(Event::Pressure(Pressure::default()), *now), contexts)?;
    for _ in 0..60 {
        for at in std::mem::take(&mut seen.starting) {
            seen.up.push(at);
            seen.see(&state.on(Event::Launched { at }, *now), contexts)?;
        }
        for at in std::mem::take(&mut seen.closing) {
            seen.see(&state.on(Event::Closed { at, memory: 0 }, *now), contexts)?;
        }
        for at in std::mem::take(&mut seen.killing) {
            seen.see(&state.on(Event::Ended { at }, *now), contexts)?;
        }
        *now += SECOND;
        seen.see(&state.on(Event::Tick, *now), contexts)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn invariants_hold_over_random_histories(
        ops in prop::collection::vec(op(), 1..200),
        warm in 0_usize..3,
        contexts in 1_usize..4,
    ) {
        let mut now = Instant::now();
        let mut limits = limits(MAX_BROWSERS, warm);
        limits.contexts_per_browser = contexts;
        limits.max_queue = MAX_QUEUE;
        limits.max_starting = 2;
        limits.per_principal = PerPrincipal { max_leases: PER_PRINCIPAL, max_waiting: 3 };
        limits.retirement = Retirement { max_age: 600 * SECOND, max_uses: 5, max_memory: 1000 };
        let mut state = State::new(limits);
        let mut seen = Observer::default();
        let (mut tickets, mut drained) = (0, false);
        for op in ops {
            if let Op::Pass(tenths) = op {
                now += Duration::from_millis(100 * tenths);
            }
            drained |= matches!(op, Op::Drain);
            let Some(event) = seen.event(&op, now, &mut tickets) else { continue };
            let actions = state.on(event, now);
            seen.see(&actions, contexts)?;
            prop_assert_eq!(state.violations(), []);
            prop_assert!(state.next_deadline(now).is_none_or(|at| at > now), "the driver must not spin");
            let leases: HashSet<_> = state.leases().map(|(at, _)| at).collect();
            prop_assert_eq!(leases, seen.live.keys().copied().collect::<HashSet<_>>());
        }

        // L-03, L-04: once the faults stop, everybody has an answer in time, and the capacity is whole.
        calm(&mut state, &mut seen, &mut now, contexts)?;
        prop_assert!(seen.waiting.is_empty(), "L-03: {:?} still wait", seen.waiting);
        if !drained {
            for lease in seen.live.keys().copied().collect::<Vec<_>>() {
                seen.see(&state.on(Event::Release { lease }, now), contexts)?;
            }
            calm(&mut state, &mut seen, &mut now, contexts)?;
            let free = MAX_BROWSERS - seen.poisoned.len();
            for n in 0..free {
                let key = Key { principal: format!("new{n}"), session: n.to_string(), birth: String::new() };
                tickets += 1;
                seen.waiting.insert(Ticket(tickets), key.clone());
                let (ttl, deadline) = (60 * SECOND, now + 30 * SECOND);
                seen.see(&state.on(Event::Acquire { ticket: Ticket(tickets), key, ttl, deadline }, now), contexts)?;
            }
            let mut granted = 0;
            for _ in 0..20 {
                for at in std::mem::take(&mut seen.killing) {
                    seen.see(&state.on(Event::Ended { at }, now), contexts)?;
                    granted += seen.granted.len();
                }
                for at in std::mem::take(&mut seen.starting) {
                    seen.up.push(at);
                    seen.see(&state.on(Event::Launched { at }, now), contexts)?;
                    granted += seen.granted.len();
                }
            }
            prop_assert!(seen.waiting.is_empty(), "L-04: {} of {free} slots serve, {granted} late", free - seen.waiting.len());
        }

        // And nothing is left at the end.
        seen.see(&state.on(Event::Drain { deadline: now }, now), contexts)?;
        calm(&mut state, &mut seen, &mut now, contexts)?;
        prop_assert!(state.is_drained(), "{:?}", state.counts());
        prop_assert!(seen.live.is_empty() && seen.up.is_empty());
        prop_assert_eq!(seen.ever, seen.ended);
    }
}
