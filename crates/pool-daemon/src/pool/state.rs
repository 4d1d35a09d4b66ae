//! What is allowed: the pool's decisions as plain data. No lock, no clock, no I/O.
//!
//! [`State::on`] takes an event and the time and answers with the actions to take; [`crate::pool::driver`] takes them.
//! Who is let in and served is in [`super::admission`], which browsers are started and ended for it in [`super::supply`].
//! The invariants are in [`super::audit`]; they are checked after every event, in production too, and a slot that breaks
//! one is poisoned: its browser is ended and the slot stays out of use.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;

use super::{
    breaker::Breaker,
    browser::Death,
    model::{Action, BrowserRef, Counts, Event, Key, Lease, LeaseRef, Limits, Pressure, Refusal},
    queue::{Queue, Waiter},
    slot::{Phase, Remains, Slot, Up},
    supply::Wanted,
};

/// The pool.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) limits: Limits,
    pub(super) slots: Vec<Slot>,
    pub(super) queue: Queue,
    /// Where the live lease of a key is.
    pub(super) by_key: HashMap<Key, LeaseRef>,
    pub(super) breaker: Breaker,
    pub(super) pressure: Pressure,
    pub(super) next_generation: u64,
    /// When launching ahead of need may go on after a grant.
    pub(super) ahead_from: Option<Instant>,
    /// Set once by a drain: when the remaining leases are ended.
    pub(super) draining: Option<Instant>,
    /// Invariants of no one slot that are broken, as far as operators have been told.
    told: HashSet<&'static str>,
}

impl State {
    pub fn new(limits: Limits) -> Self {
        Self {
            slots: vec![Slot::Empty; limits.max_browsers],
            queue: Queue::default(),
            by_key: HashMap::new(),
            breaker: Breaker::new(limits.launching),
            pressure: Pressure::default(),
            next_generation: 1,
            ahead_from: None,
            draining: None,
            told: HashSet::new(),
            limits,
        }
    }

    /// Takes note of an event and decides what follows.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Acquire { ticket, key, ttl, deadline } => {
                self.acquire(Waiter::new(ticket, key, ttl, deadline), now, &mut actions);
            }
            Event::Abandon { ticket } => drop(self.queue.take(|waiter| waiter.ticket == ticket)),
            Event::Undelivered { lease } => self.undelivered(lease),
            Event::Launched { at } => self.launched(at, now, &mut actions),
            Event::LaunchFailed { at, reason } => self.launch_failed(at, &reason, now, &mut actions),
            Event::Renew { lease, ttl } => self.renew(lease, ttl, now),
            Event::Used { leases } => leases.into_iter().for_each(|(lease, at)| self.used(lease, at)),
            Event::Release { lease } => {
                self.end_lease(lease, &Death::of_lease("released"), now, &mut actions);
            }
            Event::SessionEnded { lease, reason } => {
                self.end_lease(lease, &Death::of_lease(reason), now, &mut actions);
            }
            Event::OpenFailed { lease, reason } => self.open_failed(lease, &reason, now, &mut actions),
            Event::Closed { at, memory } => self.closed(at, memory <= self.limits.retirement.max_memory, now),
            Event::CloseFailed { at } => self.closed(at, false, now),
            Event::Died { at, death } => self.died(at, &death, &mut actions),
            Event::Ended { at } => self.ended(at, Remains::Nothing),
            Event::EndFailed { at } => self.ended(at, Remains::Processes),
            Event::Pressure(pressure) => self.pressure = pressure,
            Event::Drain { deadline } => self.drain(deadline, &mut actions),
            Event::Tick => {}
        }
        self.settle(now, &mut actions);
        actions
    }

    /// What every event may make possible: expiries, grants, ends, launches, news for those who wait.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.expire(now, actions);
        // Before anybody is refused for waiting too long: who cannot wait at all gets what is there.
        self.grant(now, actions);
        self.give_up(now, actions);
        self.retire(now, actions);
        self.launch(now, actions);
        let depth = self.queue.len();
        let news = self.queue.news();
        actions.extend(news.into_iter().map(|(ticket, position)| Action::Queued { ticket, position, depth }));
        self.audit(now, actions);
    }

    /// When [`Event::Tick`] is due next, as long as nothing else happens.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let leases = self.slots.iter().enumerate().flat_map(|(slot, state)| state.leases(slot));
        let expiries = leases.map(|(_, lease)| lease.term.expires(&self.limits));
        let kept = self.kept_warm();
        let idle = self.idle().flat_map(|(at, up)| {
            let cold = (!kept.contains(&at)).then_some(up.free_since + self.limits.warm_ttl);
            [Some(up.expires(&self.limits)), cold]
        });
        let launch = self.breaker.not_before().filter(|_| self.wanted(now) != Wanted::default());
        let ahead = self.ahead_from;
        let drain = self.draining.filter(|_| !self.by_key.is_empty());
        let all =
            expiries.chain(idle.flatten()).chain(launch).chain(ahead).chain(drain).chain(self.queue.next_deadline());
        // Whatever is due now has been done by the event that has just been handled.
        all.filter(|at| *at > now).min()
    }

    /// A live lease.
    pub fn lease(&self, at: LeaseRef) -> Option<&Lease> {
        self.up(at.browser)?.leases.get(&at.seat)
    }

    /// Whether a browser is up, as far as the pool knows.
    pub fn is_running(&self, at: BrowserRef) -> bool {
        self.up(at).is_some()
    }

    /// Every live lease, oldest first.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseRef, &Lease)> {
        let mut live: Vec<_> = self.slots.iter().enumerate().flat_map(|(slot, state)| state.leases(slot)).collect();
        live.sort_by_key(|(at, lease)| (lease.term.granted, *at));
        live.into_iter()
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts {
            leases: self.by_key.len(),
            queued: self.queue.len(),
            draining: self.draining.is_some(),
            broken: self.broken(),
            pressure: self.pressure.clone(),
            ..Counts::default()
        };
        for slot in &self.slots {
            let count = match slot {
                Slot::Empty => continue,
                Slot::Starting { .. } => &mut counts.starting,
                Slot::Killing { .. } => &mut counts.killing,
                Slot::Poisoned(remains) => {
                    counts.left += usize::from(*remains == Remains::Processes);
                    &mut counts.poisoned
                }
                Slot::Up(up) => match up.phase() {
                    Phase::Idle => &mut counts.idle,
                    Phase::Leased => &mut counts.leased,
                    Phase::Retiring => &mut counts.retiring,
                },
            };
            *count += 1;
        }
        counts
    }

    /// Why no browser can be started at present.
    pub(super) fn broken(&self) -> Option<String> {
        if self.slots.iter().all(|slot| matches!(slot, Slot::Poisoned(_))) {
            let count = self.slots.len();
            return Some(format!("all {count} places for browsers are out of use until the server is started again"));
        }
        self.breaker.broken().map(|reason| format!("browsers cannot be started at present: {reason}"))
    }

    /// Whether a drain has finished: nothing is left that could be ended.
    pub fn is_drained(&self) -> bool {
        self.draining.is_some() && self.queue.is_empty() && self.slots.iter().all(Slot::is_over)
    }

    fn undelivered(&mut self, at: LeaseRef) {
        if let Some(lease) = self.up_mut(at.browser).and_then(|up| up.unseat(at.seat)) {
            self.by_key.remove(&lease.key);
        }
    }

    fn launched(&mut self, at: BrowserRef, now: Instant, actions: &mut Vec<Action>) {
        if self.slots[at.slot] == (Slot::Starting { generation: at.generation }) {
            self.slots[at.slot] = Slot::Up(Up::new(at.generation, now));
            self.breaker.succeeded();
        } else {
            // Its slot was poisoned meanwhile.
            actions.push(Action::End { at });
        }
    }

    fn launch_failed(&mut self, at: BrowserRef, reason: &str, now: Instant, actions: &mut Vec<Action>) {
        if self.slots[at.slot] != (Slot::Starting { generation: at.generation }) {
            // Its slot was poisoned meanwhile, and nothing will come up in it.
            self.ended(at, Remains::Nothing);
            return;
        }
        self.slots[at.slot] = Slot::Empty;
        let delay = self.breaker.failed(reason, now);
        // The caller whose turn it is asked for this browser, the others may be luckier with the next one; unless there
        // is no hope.
        let hopeless = self.broken().is_some();
        let losers = if hopeless { self.queue.take(|_| true) } else { self.queue.pop().into_iter().collect() };
        for waiter in losers {
            let message = format!("the browser could not be started: {reason}");
            let refusal = Refusal::retry(ErrorCode::BrowserGone, message, delay);
            actions.push(Action::Refuse { ticket: waiter.ticket, refusal });
        }
    }

    fn renew(&mut self, at: LeaseRef, ttl: Option<Duration>, now: Instant) {
        if let Some(lease) = self.lease_mut(at) {
            lease.term.bound = true;
            lease.term.used = now;
            lease.term.ttl = ttl.unwrap_or(lease.term.ttl);
        }
    }

    fn used(&mut self, at: LeaseRef, when: Instant) {
        if let Some(lease) = self.lease_mut(at) {
            lease.term.bound = true;
            lease.term.used = lease.term.used.max(when);
        }
    }

    fn open_failed(&mut self, at: LeaseRef, reason: &str, now: Instant, actions: &mut Vec<Action>) {
        // A browser that cannot open a page is of no use to the next one either.
        if let Some(up) = self.up_mut(at.browser) {
            up.retiring = true;
        }
        let death = Death { code: ErrorCode::BrowserGone, reason: format!("it could not open a page: {reason}") };
        self.end_lease(at, &death, now, actions);
    }

    fn closed(&mut self, at: BrowserRef, sound: bool, now: Instant) {
        if let Some(up) = self.up_mut(at) {
            up.closing = up.closing.saturating_sub(1);
            up.free_since = now;
            up.retiring |= !sound;
        }
    }

    fn died(&mut self, at: BrowserRef, death: &Death, actions: &mut Vec<Action>) {
        // Starting: its launch fails by itself. Killing: expected.
        if self.up(at).is_some() {
            self.end_browser(at, death, actions);
        }
    }

    /// What the end of a browser came to: its slot is free again, unless something is left in it or it was poisoned.
    fn ended(&mut self, at: BrowserRef, remains: Remains) {
        let generation = at.generation;
        let slot = &mut self.slots[at.slot];
        if *slot == (Slot::Killing { generation }) && remains == Remains::Nothing {
            *slot = Slot::Empty;
        } else if [Slot::Killing { generation }, Slot::Poisoned(Remains::Ending { generation })].contains(slot) {
            *slot = Slot::Poisoned(remains);
        }
    }

    fn drain(&mut self, deadline: Instant, actions: &mut Vec<Action>) {
        self.draining = Some(self.draining.map_or(deadline, |earlier| earlier.min(deadline)));
        for waiter in self.queue.take(|_| true) {
            actions.push(Action::Refuse { ticket: waiter.ticket, refusal: Refusal::draining() });
        }
    }

    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let drained = self.draining.is_some_and(|deadline| deadline <= now);
        let over: Vec<_> = self
            .leases()
            .filter(|(_, lease)| drained || lease.term.expires(&self.limits) <= now)
            .map(|(at, lease)| (at, if drained { Refusal::SHUT_DOWN } else { lease.term.reason(&self.limits) }))
            .collect();
        for (at, reason) in over {
            self.end_lease(at, &Death::of_lease(reason), now, actions);
        }
    }

    fn end_lease(&mut self, at: LeaseRef, death: &Death, now: Instant, actions: &mut Vec<Action>) {
        let shared = self.limits.contexts_per_browser > 1;
        let Some(up) = self.up_mut(at.browser) else { return };
        let Some(lease) = up.leases.remove(&at.seat) else { return };
        up.free_since = now;
        // Its data must go, and nobody else gets to it, even of the same principal: each lease has a context of its own. So
        // that is closed, or the whole browser is ended when that is all it had.
        let goes_on = shared && !(up.retiring && up.is_free());
        if goes_on {
            up.closing += 1;
        }
        self.by_key.remove(&lease.key);
        actions.push(Action::Revoke { lease: at, death: death.clone() });
        if goes_on {
            actions.push(Action::Close { lease: at });
        } else {
            self.end_browser(at.browser, death, actions);
        }
    }

    /// Ends a browser, with every lease it still has.
    pub(super) fn end_browser(&mut self, at: BrowserRef, death: &Death, actions: &mut Vec<Action>) {
        let killing = Slot::Killing { generation: at.generation };
        let Slot::Up(up) = std::mem::replace(&mut self.slots[at.slot], killing) else { return };
        for (seat, lease) in up.leases {
            self.by_key.remove(&lease.key);
            actions.push(Action::Revoke { lease: LeaseRef { browser: at, seat }, death: death.clone() });
        }
        actions.push(Action::End { at });
    }

    /// Checks the invariants. What is broken costs its slot and nothing else; what is no one slot's is told when it begins.
    fn audit(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let told = std::mem::take(&mut self.told);
        for violation in self.violations(now) {
            if let Some(slot) = violation.slot {
                actions.push(Action::Report(violation));
                self.poison(slot, actions);
            } else {
                self.told.insert(violation.invariant);
                let new = !told.contains(violation.invariant);
                actions.extend(new.then_some(Action::Report(violation)));
            }
        }
    }

    fn poison(&mut self, slot: usize, actions: &mut Vec<Action>) {
        if let Some(up) = self.slots[slot].up() {
            let at = BrowserRef { slot, generation: up.generation };
            let death = Death { code: ErrorCode::Internal, reason: "the pool lost account of it".to_owned() };
            self.end_browser(at, &death, actions);
        }
        self.slots[slot] = self.slots[slot].poisoned();
        // Whatever still points there leads nowhere.
        self.by_key.retain(|_, at| at.browser.slot != slot);
    }

    fn up(&self, at: BrowserRef) -> Option<&Up> {
        self.slots.get(at.slot)?.up().filter(|up| up.generation == at.generation)
    }

    fn up_mut(&mut self, at: BrowserRef) -> Option<&mut Up> {
        match self.slots.get_mut(at.slot) {
            Some(Slot::Up(up)) if up.generation == at.generation => Some(up),
            _ => None,
        }
    }

    fn lease_mut(&mut self, at: LeaseRef) -> Option<&mut Lease> {
        self.up_mut(at.browser)?.leases.get_mut(&at.seat)
    }

    /// Browsers that run.
    pub(super) fn running(&self) -> impl Iterator<Item = (BrowserRef, &Up)> {
        self.slots.iter().enumerate().filter_map(|(slot, state)| {
            let up = state.up()?;
            Some((BrowserRef { slot, generation: up.generation }, up))
        })
    }

    /// Browsers that serve nobody and may serve somebody.
    pub(super) fn idle(&self) -> impl Iterator<Item = (BrowserRef, &Up)> {
        self.running().filter(|(_, up)| up.phase() == Phase::Idle)
    }
}

#[cfg(test)]
#[path = "state_tests.rs"]
pub(super) mod tests;

#[cfg(test)]
#[path = "state_histories.rs"]
mod histories;
