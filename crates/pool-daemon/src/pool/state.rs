//! What is allowed: the pool's decisions as plain data. No lock, no clock, no I/O.
//!
//! [`State::on`] takes an event and the time and answers with the actions to take; [`crate::pool::driver`] takes them.
//! Invariants (checked by [`State::check`] in tests and debug builds): a slot has at most one lease; a lease has one
//! session; starting + idle + leased + ending never exceeds `max_browsers`; a generation is never used twice.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;

use super::model::{Action, Counts, Event, Key, Lease, LeaseRef, Limits, Refusal, Ticket};

/// The state of one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Starting { generation: u64 },
    Idle { generation: u64, since: Instant },
    Leased { generation: u64, lease: Lease },
    Ending { generation: u64 },
}

#[derive(Clone, Debug)]
struct Waiter {
    ticket: Ticket,
    key: Key,
    ttl: Duration,
    deadline: Instant,
    /// The last place told, so that the same news is not told twice.
    told: (usize, usize),
}

/// The pool.
#[derive(Clone, Debug)]
pub struct State {
    limits: Limits,
    slots: Vec<Slot>,
    queue: VecDeque<Waiter>,
    /// Where the live lease of a key is.
    by_key: HashMap<Key, LeaseRef>,
    next_generation: u64,
    /// Launches that failed in a row, and when the next one may be tried.
    failures: u32,
    launch_after: Option<Instant>,
    /// Set once by a drain: when the remaining leases are ended.
    draining: Option<Instant>,
}

impl State {
    pub fn new(limits: Limits) -> Self {
        let slots = vec![Slot::Empty; limits.max_browsers];
        Self {
            limits,
            slots,
            queue: VecDeque::new(),
            by_key: HashMap::new(),
            next_generation: 1,
            failures: 0,
            launch_after: None,
            draining: None,
        }
    }

    /// Takes note of an event and decides what follows.
    pub fn on(&mut self, event: Event, now: Instant) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Acquire { ticket, key, ttl, deadline } => self.acquire(ticket, key, ttl, deadline, &mut actions),
            Event::Abandon { ticket } => self.queue.retain(|waiter| waiter.ticket != ticket),
            Event::Launched { slot, generation } => self.launched(slot, generation, now),
            Event::LaunchFailed { slot, generation, reason } => {
                self.launch_failed(slot, generation, &reason, now, &mut actions);
            }
            Event::Renew { lease, ttl } => self.renew(lease, ttl, now),
            Event::Used { lease, at } => {
                if let Some(lease) = self.lease_mut(lease) {
                    lease.bound = true;
                    lease.used = lease.used.max(at);
                }
            }
            Event::Release { lease } => self.end_lease(lease, "released", &mut actions),
            Event::Died { slot, generation, reason } => self.died(slot, generation, &reason, &mut actions),
            Event::Ended { slot, generation } => {
                if self.slots[slot] == (Slot::Ending { generation }) {
                    self.slots[slot] = Slot::Empty;
                }
            }
            Event::Drain { deadline } => self.drain(deadline, &mut actions),
            Event::Tick => {}
        }
        self.settle(now, &mut actions);
        actions
    }

    /// What every event may make possible: expiries, grants, launches, news for those who wait.
    fn settle(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.expire(now, actions);
        self.grant(now, actions);
        self.launch(now, actions);
        let depth = self.queue.len();
        for (index, waiter) in self.queue.iter_mut().enumerate() {
            let place = (index + 1, depth);
            if waiter.told != place {
                waiter.told = place;
                actions.push(Action::Queued { ticket: waiter.ticket, position: place.0, depth });
            }
        }
        debug_assert_eq!(self.check(), Ok(()));
    }

    /// When [`Event::Tick`] is due next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.queue.iter().map(|waiter| waiter.deadline);
        let slots = self.slots.iter().enumerate().filter_map(|(index, slot)| match slot {
            Slot::Leased { lease, .. } => Some(lease.expires(&self.limits)),
            Slot::Idle { since, .. } if self.surplus_idle(index) => Some(*since + self.limits.warm_ttl),
            _ => None,
        });
        let launch = self.launch_after.filter(|_| self.launches_wanted() > 0);
        let drain = self.draining.filter(|_| self.leases().next().is_some());
        waiting.chain(slots).chain(launch).chain(drain).min()
    }

    /// A live lease.
    pub fn lease(&self, at: LeaseRef) -> Option<&Lease> {
        match self.slots.get(at.slot) {
            Some(Slot::Leased { generation, lease }) if *generation == at.generation => Some(lease),
            _ => None,
        }
    }

    /// Every live lease, oldest first.
    pub fn leases(&self) -> impl Iterator<Item = (LeaseRef, &Lease)> {
        let mut live: Vec<_> = (0..self.slots.len())
            .filter_map(|slot| match &self.slots[slot] {
                Slot::Leased { generation, lease } => Some((LeaseRef { slot, generation: *generation }, lease)),
                _ => None,
            })
            .collect();
        live.sort_by_key(|(_, lease)| lease.granted);
        live.into_iter()
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts { queued: self.queue.len(), draining: self.draining.is_some(), ..Counts::default() };
        for slot in &self.slots {
            match slot {
                Slot::Empty => {}
                Slot::Starting { .. } => counts.starting += 1,
                Slot::Idle { .. } => counts.idle += 1,
                Slot::Leased { .. } => counts.leased += 1,
                Slot::Ending { .. } => counts.ending += 1,
            }
        }
        counts
    }

    /// Whether a drain has finished: nothing is left.
    pub fn is_drained(&self) -> bool {
        self.draining.is_some() && self.queue.is_empty() && self.slots.iter().all(|slot| *slot == Slot::Empty)
    }

    /// The invariants; the error says which one is broken.
    pub fn check(&self) -> Result<(), String> {
        let counts = self.counts();
        if counts.starting + counts.idle + counts.leased + counts.ending > self.limits.max_browsers {
            return Err(format!("more browsers than allowed: {counts:?}"));
        }
        if counts.queued > self.limits.max_queue {
            return Err(format!("queue longer than allowed: {counts:?}"));
        }
        if self.by_key.len() != counts.leased {
            return Err(format!("{} keys for {} leases", self.by_key.len(), counts.leased));
        }
        for (key, at) in &self.by_key {
            if self.lease(*at).is_none_or(|lease| lease.key != *key) {
                return Err(format!("key of slot {} does not lead to its lease", at.slot));
            }
        }
        Ok(())
    }

    fn acquire(&mut self, ticket: Ticket, key: Key, ttl: Duration, deadline: Instant, actions: &mut Vec<Action>) {
        if let Some(&lease) = self.by_key.get(&key) {
            actions.push(Action::Grant { ticket, lease });
        } else if self.draining.is_some() {
            actions.push(Action::Refuse { ticket, refusal: draining() });
        } else if self.queue.len() >= self.limits.max_queue && self.idle().is_empty() {
            let message = format!(
                "all {} browsers are in use and {} callers wait; try again later",
                self.limits.max_browsers,
                self.queue.len()
            );
            let refusal = Refusal::retry(ErrorCode::PoolFull, message, Duration::from_secs(5));
            actions.push(Action::Refuse { ticket, refusal });
        } else {
            self.queue.push_back(Waiter { ticket, key, ttl, deadline, told: (0, 0) });
        }
    }

    fn launched(&mut self, slot: usize, generation: u64, now: Instant) {
        if self.slots[slot] == (Slot::Starting { generation }) {
            self.slots[slot] = Slot::Idle { generation, since: now };
            self.failures = 0;
            self.launch_after = None;
        }
    }

    fn launch_failed(&mut self, slot: usize, generation: u64, reason: &str, now: Instant, actions: &mut Vec<Action>) {
        if self.slots[slot] != (Slot::Starting { generation }) {
            return;
        }
        self.slots[slot] = Slot::Empty;
        let delay = self.limits.backoff.saturating_mul(1 << self.failures.min(16)).min(self.limits.max_backoff);
        self.failures += 1;
        self.launch_after = Some(now + delay);
        // The caller at the head asked for this browser; the others may be luckier with the next one.
        if let Some(waiter) = self.queue.pop_front() {
            let message = format!("the browser could not be started: {reason}");
            let refusal = Refusal::retry(ErrorCode::BrowserGone, message, delay);
            actions.push(Action::Refuse { ticket: waiter.ticket, refusal });
        }
    }

    fn renew(&mut self, at: LeaseRef, ttl: Option<Duration>, now: Instant) {
        if let Some(lease) = self.lease_mut(at) {
            lease.bound = true;
            lease.used = now;
            lease.ttl = ttl.unwrap_or(lease.ttl);
        }
    }

    fn died(&mut self, slot: usize, generation: u64, reason: &str, actions: &mut Vec<Action>) {
        match &self.slots[slot] {
            Slot::Leased { generation: current, .. } if *current == generation => {
                self.end_lease(LeaseRef { slot, generation }, reason, actions);
            }
            Slot::Idle { generation: current, .. } if *current == generation => {
                self.end_slot(slot, generation, actions);
            }
            // Starting: its launch fails by itself. Ending: expected.
            _ => {}
        }
    }

    fn drain(&mut self, deadline: Instant, actions: &mut Vec<Action>) {
        self.draining = Some(self.draining.map_or(deadline, |earlier| earlier.min(deadline)));
        for waiter in self.queue.drain(..) {
            actions.push(Action::Refuse { ticket: waiter.ticket, refusal: draining() });
        }
        for (slot, generation) in self.idle() {
            self.end_slot(slot, generation, actions);
        }
    }

    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let (late, waiting) = self.queue.drain(..).partition::<VecDeque<_>, _>(|waiter| waiter.deadline <= now);
        self.queue = waiting;
        for waiter in late {
            let message = "no browser became free in time; try again later";
            let refusal = Refusal::retry(ErrorCode::QueueTimeout, message, Duration::from_secs(5));
            actions.push(Action::Refuse { ticket: waiter.ticket, refusal });
        }
        let drained = self.draining.is_some_and(|deadline| deadline <= now);
        let over: Vec<_> = self
            .leases()
            .filter_map(|(at, lease)| match () {
                () if drained => Some((at, "the server is shutting down")),
                () if lease.expires(&self.limits) > now => None,
                () if lease.bound => Some((at, "the session was idle too long")),
                () => Some((at, "the lease was not confirmed in time")),
            })
            .collect();
        for (at, reason) in over {
            self.end_lease(at, reason, actions);
        }
        let cold: Vec<_> = (0..self.slots.len())
            .filter_map(|slot| match self.slots[slot] {
                // A launch that was under way when the drain began.
                Slot::Idle { generation, .. } if self.draining.is_some() => Some((slot, generation)),
                Slot::Idle { generation, since } if self.surplus_idle(slot) && since + self.limits.warm_ttl <= now => {
                    Some((slot, generation))
                }
                _ => None,
            })
            .collect();
        for (slot, generation) in cold {
            self.end_slot(slot, generation, actions);
        }
    }

    fn grant(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while let Some((slot, generation)) = self.idle().first().copied() {
            let Some(waiter) = self.queue.pop_front() else { return };
            let at = LeaseRef { slot, generation };
            let lease = Lease { key: waiter.key.clone(), granted: now, used: now, ttl: waiter.ttl, bound: false };
            self.slots[slot] = Slot::Leased { generation, lease };
            self.by_key.insert(waiter.key.clone(), at);
            actions.push(Action::Grant { ticket: waiter.ticket, lease: at });
            // Two front ends may have asked for one session: they get one lease.
            self.queue.retain(|other| {
                let same = other.key == waiter.key;
                if same {
                    actions.push(Action::Grant { ticket: other.ticket, lease: at });
                }
                !same
            });
        }
    }

    fn launch(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.launch_after.is_some_and(|after| after > now) {
            return;
        }
        for _ in 0..self.launches_wanted() {
            let Some(slot) = self.slots.iter().position(|slot| *slot == Slot::Empty) else { return };
            let generation = self.next_generation;
            self.next_generation += 1;
            self.slots[slot] = Slot::Starting { generation };
            actions.push(Action::Launch { slot, generation });
        }
    }

    /// How many browsers should be started, if there is room: one for each who waits, and the warm ones.
    fn launches_wanted(&self) -> usize {
        if self.draining.is_some() {
            return 0;
        }
        let counts = self.counts();
        // After failures one launch at a time finds out whether the trouble is over.
        let most = if self.failures > 0 { 1 } else { usize::MAX };
        let wanted = (self.queue.len() + self.limits.min_warm).saturating_sub(counts.starting + counts.idle);
        wanted.min(most.saturating_sub(counts.starting))
    }

    fn end_lease(&mut self, at: LeaseRef, reason: &str, actions: &mut Vec<Action>) {
        let Some(lease) = self.lease(at) else { return };
        self.by_key.remove(&lease.key.clone());
        actions.push(Action::Revoke { lease: at, reason: reason.to_owned() });
        self.end_slot(at.slot, at.generation, actions);
    }

    fn end_slot(&mut self, slot: usize, generation: u64, actions: &mut Vec<Action>) {
        self.slots[slot] = Slot::Ending { generation };
        actions.push(Action::End { slot, generation });
    }

    fn lease_mut(&mut self, at: LeaseRef) -> Option<&mut Lease> {
        match self.slots.get_mut(at.slot) {
            Some(Slot::Leased { generation, lease }) if *generation == at.generation => Some(lease),
            _ => None,
        }
    }

    /// Ready browsers, the one that has waited longest first.
    fn idle(&self) -> Vec<(usize, u64)> {
        let mut idle: Vec<_> = (0..self.slots.len())
            .filter_map(|slot| match self.slots[slot] {
                Slot::Idle { generation, since } => Some((since, slot, generation)),
                _ => None,
            })
            .collect();
        idle.sort_unstable();
        idle.into_iter().map(|(_, slot, generation)| (slot, generation)).collect()
    }

    /// Whether an idle slot is beyond what is kept warm.
    fn surplus_idle(&self, slot: usize) -> bool {
        self.idle().iter().skip(self.limits.min_warm).any(|(other, _)| *other == slot)
    }
}

fn draining() -> Refusal {
    Refusal::retry(ErrorCode::Draining, "the server is shutting down; try again elsewhere", Duration::from_secs(1))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
