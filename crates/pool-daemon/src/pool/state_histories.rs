//! The decisions over random histories. The observer knows only events and actions, as the driver does.
//!
//! Named as in the list of invariants: S-01 one lease a slot (or as many as contexts, of one principal), one session a lease;
//! S-02 a browser is in one state and there are never more than allowed; S-03 an ended lease is good for nothing; S-04 it never
//! comes back; S-13 bounds; S-14 nothing but a request grants; L-03 everybody gets an answer in time, callers of a principal in
//! the order of their arrival and principals in turn; L-04 no capacity is lost.
//!
//! Histories that once broke one of them are kept in `proptest-regressions` and are tried first.

use std::collections::HashSet;

use proptest::{prelude::*, sample::Index};

use super::{tests::limits, *};
use crate::pool::model::{PerPrincipal, Retirement, Ticket};

#[path = "state_observer.rs"]
mod observer;

use observer::Observer;

const SECOND: Duration = Duration::from_secs(1);
const MAX_BROWSERS: usize = 3;
/// How long callers wait.
const WAIT: Duration = Duration::from_secs(30);

/// One step of a random history.
#[derive(Clone, Debug)]
enum Op {
    /// A principal asks for a session.
    Acquire(usize, usize),
    Abandon(Index),
    LaunchOk(Index),
    LaunchFails(Index),
    Renew(Index),
    Use(Index),
    Release(Index),
    SessionEnded(Index),
    /// A grant finds none of its callers.
    Undelivered,
    OpenFails(Index),
    CloseOk(Index, u64),
    CloseFails(Index),
    Died(Index),
    EndOk(Index),
    EndFails(Index),
    Pressure(bool, bool),
    /// So many tenths of a second go by.
    Pass(u64),
    /// Something is done with a lease that has ended, by somebody who has not heard of it.
    Stale(Stale, Index),
    Drain,
}

#[derive(Clone, Copy, Debug)]
enum Stale {
    Renew,
    Use,
    Release,
    SessionEnded,
    Undelivered,
    Died,
}

fn op() -> impl Strategy<Value = Op> {
    let any_index = any::<Index>;
    let stale = prop::sample::select(vec![
        Stale::Renew,
        Stale::Use,
        Stale::Release,
        Stale::SessionEnded,
        Stale::Undelivered,
        Stale::Died,
    ]);
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
        1 => (0_u64..3_000).prop_map(Op::Pass),
        2 => (stale, any_index()).prop_map(|(what, index)| Op::Stale(what, index)),
    ]
}

/// What happens to a pool; three of ten are drained at some time.
fn history() -> impl Strategy<Value = Vec<Op>> {
    let drained = prop::option::weighted(0.3, any::<Index>());
    (prop::collection::vec(op(), 1..200), drained).prop_map(|(mut ops, drained)| {
        if let Some(at) = drained {
            ops.insert(at.index(ops.len()), Op::Drain);
        }
        ops
    })
}

/// A pool, its time, and who looks at it.
struct World {
    state: State,
    now: Instant,
    seen: Observer,
    tickets: u64,
}

impl World {
    fn new(limits: Limits) -> Self {
        Self { seen: Observer::new(limits.clone()), state: State::new(limits), now: Instant::now(), tickets: 0 }
    }

    fn on(&mut self, event: Event) -> Result<Vec<Action>, TestCaseError> {
        let actions = self.state.on(event, self.now);
        self.seen.see(&actions, self.now)?;
        prop_assert_eq!(self.state.violations(self.now), []);
        prop_assert!(self.state.next_deadline(self.now).is_none_or(|at| at > self.now), "the driver must not spin");
        let leases: HashSet<_> = self.state.leases().map(|(at, _)| at).collect();
        prop_assert_eq!(leases, self.seen.live.keys().copied().collect::<HashSet<_>>());
        Ok(actions)
    }

    fn step(&mut self, op: &Op) -> Result<(), TestCaseError> {
        match op {
            Op::Pass(tenths) => self.pass(Duration::from_millis(100 * tenths)),
            Op::Stale(what, index) => {
                let Some(event) = self.stale(*what, *index) else { return Ok(()) };
                prop_assert_eq!(self.on(event)?, [], "S-03: an ended lease is good for nothing");
                Ok(())
            }
            _ => self.event(op).map_or(Ok(()), |event| self.on(event).map(drop)),
        }
    }

    /// Time goes by as the driver sees it: it wakes when it said it would, and that is early enough.
    fn pass(&mut self, time: Duration) -> Result<(), TestCaseError> {
        let until = self.now + time;
        while let Some(at) = self.state.next_deadline(self.now).filter(|at| *at <= until) {
            let just_before = (at - Duration::from_millis(1)).max(self.now);
            prop_assert_eq!(self.state.clone().on(Event::Tick, just_before), [], "the driver would have slept");
            self.now = at;
            self.on(Event::Tick)?;
        }
        self.now = until;
        prop_assert_eq!(self.on(Event::Tick)?, [], "the driver would have slept");
        Ok(())
    }

    fn acquire(&mut self, principal: String, session: usize) -> Event {
        self.tickets += 1;
        let key = Key { principal, session: session.to_string(), birth: String::new() };
        let (ticket, deadline) = (Ticket(self.tickets), self.now + WAIT);
        self.seen.waiting.insert(ticket, (key.clone(), deadline));
        Event::Acquire { ticket, key, ttl: 60 * SECOND, deadline }
    }

    fn launched(&mut self, at: BrowserRef) -> Event {
        self.seen.came_up(at, self.now);
        Event::Launched { at }
    }

    fn closed(&mut self, at: BrowserRef, memory: u64) -> Event {
        self.seen.served(at, self.now);
        Event::Closed { at, memory }
    }

    /// The event of an operation, if it can happen now; what the world itself does is noted.
    fn event(&mut self, op: &Op) -> Option<Event> {
        let seen = &mut self.seen;
        let live = |index: &Index| pick(seen.live.keys().copied(), *index);
        Some(match op {
            Op::Acquire(principal, session) => self.acquire(format!("p{principal}"), *session),
            Op::Abandon(index) => {
                let ticket = pick(seen.waiting.keys().copied(), *index)?;
                seen.waiting.remove(&ticket);
                Event::Abandon { ticket }
            }
            Op::LaunchOk(index) => {
                let at = take(&mut seen.starting, *index)?;
                self.launched(at)
            }
            Op::LaunchFails(index) => {
                Event::LaunchFailed { at: take(&mut seen.starting, *index)?, reason: String::new() }
            }
            Op::Renew(index) => Event::Renew { lease: live(index)?, ttl: None },
            Op::Use(index) => Event::Used { leases: vec![(live(index)?, self.now)] },
            Op::Release(index) => Event::Release { lease: live(index)? },
            Op::SessionEnded(index) => Event::SessionEnded { lease: live(index)?, reason: "" },
            Op::Undelivered => {
                let (_, lease) = *seen.granted.last()?;
                // Only a lease that all its callers have missed, and that is new.
                let known = seen.granted.iter().filter(|(_, other)| *other == lease).count() > 1;
                seen.live.get(&lease).filter(|_| !known)?;
                seen.forget(lease);
                Event::Undelivered { lease }
            }
            Op::OpenFails(index) => {
                Event::OpenFailed { lease: live(index).filter(|lease| lease.seat > 0)?, reason: String::new() }
            }
            Op::CloseOk(index, memory) => {
                let at = take(&mut seen.closing, *index)?;
                self.closed(at, *memory)
            }
            Op::CloseFails(index) => {
                let at = take(&mut seen.closing, *index)?;
                seen.served(at, self.now);
                Event::CloseFailed { at }
            }
            Op::Died(index) => Event::Died { at: pick(seen.up.keys().copied(), *index)?, death: died() },
            Op::EndOk(index) => Event::Ended { at: take(&mut seen.killing, *index)? },
            Op::EndFails(index) => {
                let at = take(&mut seen.killing, *index)?;
                seen.poisoned.insert(at.slot);
                Event::EndFailed { at }
            }
            Op::Pressure(memory, cpu) => {
                Event::Pressure(Pressure { memory: memory.then(String::new), cpu: cpu.then(String::new) })
            }
            Op::Drain => Event::Drain { deadline: self.now + 20 * SECOND },
            Op::Pass(_) | Op::Stale(..) => return None,
        })
    }

    fn stale(&self, what: Stale, index: Index) -> Option<Event> {
        let lease = pick(self.seen.ended.iter().copied(), index)?;
        Some(match what {
            Stale::Renew => Event::Renew { lease, ttl: Some(600 * SECOND) },
            Stale::Use => Event::Used { leases: vec![(lease, self.now)] },
            Stale::Release => Event::Release { lease },
            Stale::SessionEnded => Event::SessionEnded { lease, reason: "" },
            Stale::Undelivered => Event::Undelivered { lease },
            Stale::Died => {
                Event::Died { at: Some(lease.browser).filter(|at| !self.seen.up.contains_key(at))?, death: died() }
            }
        })
    }

    /// Whatever has begun succeeds, and what follows from it. Answers how many callers were served meanwhile.
    fn succeed(&mut self) -> Result<usize, TestCaseError> {
        let mut served = 0;
        loop {
            let event = if let Some(at) = self.seen.starting.pop() {
                self.launched(at)
            } else if let Some(at) = self.seen.closing.pop() {
                self.closed(at, 0)
            } else if let Some(at) = self.seen.killing.pop() {
                Event::Ended { at }
            } else {
                return Ok(served);
            };
            self.on(event)?;
            served += self.seen.granted.len();
        }
    }

    /// Faults have ended: launches, closings and endings succeed, time passes in small steps.
    fn calm(&mut self) -> Result<(), TestCaseError> {
        self.on(Event::Pressure(Pressure::default()))?;
        for _ in 0..60 {
            self.succeed()?;
            self.pass(SECOND)?;
        }
        Ok(())
    }

    /// L-04: every slot that is not out of use serves somebody.
    fn serves_with_all_it_has(&mut self) -> Result<(), TestCaseError> {
        for lease in self.seen.live.keys().copied().collect::<Vec<_>>() {
            self.on(Event::Release { lease })?;
        }
        self.calm()?;
        let free = MAX_BROWSERS - self.seen.poisoned.len();
        for n in 0..free {
            let event = self.acquire(format!("new{n}"), n);
            self.on(event)?;
        }
        let late = self.succeed()?;
        let waiting = self.seen.waiting.len();
        prop_assert_eq!(waiting, 0, "L-04: {} of {} slots serve, {} late", free - waiting, free, late);
        Ok(())
    }
}

fn died() -> Death {
    Death { code: ErrorCode::BrowserGone, reason: String::new() }
}

fn pick<T>(items: impl ExactSizeIterator<Item = T>, index: Index) -> Option<T> {
    let mut items = items;
    (items.len() > 0).then(|| items.nth(index.index(items.len())))?
}

fn take<T>(items: &mut Vec<T>, index: Index) -> Option<T> {
    (!items.is_empty()).then(|| items.remove(index.index(items.len())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn invariants_hold_over_random_histories(
        ops in history(),
        warm in 0_usize..3,
        contexts in 1_usize..4,
        sessions_are_watched: bool,
    ) {
        let mut world = World::new(Limits {
            contexts_per_browser: contexts,
            max_queue: 4,
            max_starting: 2,
            per_principal: PerPrincipal { max_leases: 4, max_waiting: 3 },
            warm_ttl: 120 * SECOND,
            retirement: Retirement { max_age: 400 * SECOND, max_uses: 5, max_memory: 1000 },
            max_lifetime: 240 * SECOND,
            sessions_are_watched,
            ..limits(MAX_BROWSERS, warm)
        });
        world.on(Event::Tick)?;
        for op in &ops {
            world.step(op)?;
        }
        // L-03, L-04: once the faults stop, everybody has an answer in time, and the capacity is whole.
        world.calm()?;
        prop_assert!(world.seen.waiting.is_empty(), "L-03: {:?} still wait", world.seen.waiting);
        if !ops.iter().any(|op| matches!(op, Op::Drain)) {
            world.serves_with_all_it_has()?;
        }
        // And nothing is left at the end.
        world.on(Event::Drain { deadline: world.now })?;
        world.calm()?;
        prop_assert!(world.state.is_drained(), "{:?}", world.state.counts());
        prop_assert!(world.seen.live.is_empty() && world.seen.up.is_empty());
        prop_assert_eq!(world.seen.ever.keys().copied().collect::<std::collections::BTreeSet<_>>(), world.seen.ended);
    }
}
