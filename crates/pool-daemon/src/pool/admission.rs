//! Who is let in, who waits, and who is served next.

use std::time::Duration;

use browserfleet_common::error_code::ErrorCode;
use tokio::time::Instant;

use super::{
    model::{Action, BrowserRef, Lease, LeaseRef, Refusal, Term},
    queue::Waiter,
    slot::Slot,
    state::State,
};

/// When somebody who got no browser may try again.
const RETRY: Duration = Duration::from_secs(5);

impl State {
    pub(super) fn acquire(&mut self, waiter: Waiter, now: Instant, actions: &mut Vec<Action>) {
        let ticket = waiter.ticket;
        if let Some(&lease) = self.by_key.get(&waiter.key) {
            actions.push(Action::Grant { ticket, lease });
            return;
        }
        match self.admit(&waiter, now) {
            Ok(evicted) => {
                self.queue.push(waiter);
                if let Some(evicted) = evicted {
                    let message = "the queue is full and others have waited less often; try again later";
                    let refusal = Refusal::retry(ErrorCode::PoolFull, message, RETRY);
                    actions.push(Action::Refuse { ticket: evicted.ticket, refusal });
                }
            }
            Err(refusal) => actions.push(Action::Refuse { ticket, refusal }),
        }
    }

    /// Whether a newcomer may wait; somebody else may have to go for it.
    fn admit(&mut self, waiter: &Waiter, now: Instant) -> Result<Option<Waiter>, Refusal> {
        let (principal, limits) = (&waiter.key.principal, &self.limits);
        if self.draining.is_some() {
            return Err(Refusal::draining());
        }
        // Whoever could have been served before has been: a place is for a principal of whom nobody waits.
        if self.place_for(principal, now).is_some() && self.queue.waiting_of(principal) == 0 && self.has_quota(waiter) {
            return Ok(None);
        }
        if let Some(message) = self.broken() {
            let after = self.breaker.not_before().map_or(RETRY, |at| at.saturating_duration_since(now));
            return Err(Refusal::retry(ErrorCode::BrowserGone, message, after.max(limits.launching.backoff)));
        }
        if !self.has_quota(waiter) {
            let message = format!(
                "you have {} browsers or wait for them, as many as you may; close a session first",
                limits.per_principal.max_leases
            );
            return Err(Refusal::retry(ErrorCode::QuotaExceeded, message, RETRY));
        }
        if self.queue.waiting_of(principal) >= limits.per_principal.max_waiting {
            let message = format!(
                "{} of your calls wait for a browser already, as many as may; try again later",
                limits.per_principal.max_waiting
            );
            return Err(Refusal::retry(ErrorCode::QuotaExceeded, message, RETRY));
        }
        if self.queue.len() < limits.max_queue {
            return Ok(None);
        }
        let full = format!(
            "all {} browsers are in use and {} callers wait; try again later",
            limits.max_browsers,
            self.queue.len()
        );
        let evicted = self.queue.yield_to(principal);
        evicted.map(Some).ok_or_else(|| Refusal::retry(ErrorCode::PoolFull, full, RETRY))
    }

    /// Whether the principal may have one lease more. A second request for a session that waits is not one more.
    fn has_quota(&self, waiter: &Waiter) -> bool {
        let principal = &waiter.key.principal;
        let held = self.by_key.keys().filter(|key| key.principal == *principal).count();
        held + self.queue.waiting_of(principal) < self.limits.per_principal.max_leases || self.queue.has(&waiter.key)
    }

    /// Refuses those who have waited long enough.
    pub(super) fn give_up(&mut self, now: Instant, actions: &mut Vec<Action>) {
        for waiter in self.queue.take(|waiter| waiter.deadline <= now) {
            let why = self.pressure.memory.as_ref().map_or_else(String::new, |memory| format!(" ({memory})"));
            let message = format!("no browser became free in time{why}; try again later");
            let refusal = Refusal::retry(ErrorCode::QueueTimeout, message, RETRY);
            actions.push(Action::Refuse { ticket: waiter.ticket, refusal });
        }
    }

    /// Gives browsers to those who wait, in turn; who cannot be served does not hold up who can.
    pub(super) fn grant(&mut self, now: Instant, actions: &mut Vec<Action>) {
        loop {
            let next = self.queue.heads().find_map(|waiter| {
                let principal = &waiter.key.principal;
                self.place_for(principal, now).map(|slot| (principal.clone(), slot))
            });
            let Some((principal, slot)) = next else { return };
            let (Some(waiter), Slot::Up(up)) = (self.queue.pop_of(&principal), &mut self.slots[slot]) else { return };
            let lease = Lease { key: waiter.key.clone(), term: Term::new(now, waiter.ttl) };
            let browser = BrowserRef { slot, generation: up.generation };
            let at = LeaseRef { browser, seat: up.seat(lease) };
            self.by_key.insert(waiter.key.clone(), at);
            // Counted from the first grant: a stream of them must not put the next warm browser off for ever.
            let from = self.ahead_from.filter(|from| *from > now).unwrap_or(now + self.limits.ahead_delay);
            self.ahead_from = Some(from);
            actions.push(Action::Grant { ticket: waiter.ticket, lease: at });
            // Two front ends may have asked for one session: they get one lease.
            for same in self.queue.take(|other| other.key == waiter.key) {
                actions.push(Action::Grant { ticket: same.ticket, lease: at });
            }
        }
    }

    /// The slot of the best browser for a principal: one it shares already, else the freshest that has waited longest.
    pub(super) fn place_for(&self, principal: &str, now: Instant) -> Option<usize> {
        let takes = |(_, slot): &(usize, &Slot)| slot.up().is_some_and(|up| up.takes(principal, &self.limits, now));
        let rank = |(index, slot): &(usize, &Slot)| slot.up().map(|up| (up.is_fresh(), up.free_since, *index));
        self.slots.iter().enumerate().filter(takes).min_by_key(rank).map(|(index, _)| index)
    }
}
