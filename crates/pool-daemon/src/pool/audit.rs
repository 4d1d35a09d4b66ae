//! The invariants of the pool's decisions, in words and in code.

use std::collections::HashMap;

use tokio::time::Instant;

use super::{model::Violation, slot::Slot, state::State};

/// Their names.
pub(super) const INVARIANTS: [&str; 10] = [
    "one_slot_a_browser",
    "leases_per_slot",
    "one_principal_a_browser",
    "one_lease_a_session",
    "numbers_grow",
    "queue_length",
    "queue_order",
    "queue_deadline",
    "room_is_used",
    "leases_per_principal",
];

impl State {
    /// Every invariant that does not hold, once everything has been done that can be at this time.
    pub(super) fn violations(&self, now: Instant) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_slots(&mut found);
        self.check_keys(&mut found);
        self.check_quotas(&mut found);
        self.check_waiting(now, &mut found);
        found
    }

    /// A slot has at most as many leases as it may, all of one principal, and no browser is in two slots. Browsers and seats are
    /// numbered upwards: a token never comes back.
    fn check_slots(&self, found: &mut Vec<Violation>) {
        let mut generations = HashMap::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(other) = slot.generation().and_then(|generation| generations.insert(generation, index)) {
                let what = format!("the browser of slot {other} is in slot {index} too");
                found.push(Violation { invariant: "one_slot_a_browser", slot: Some(index), what });
            }
            let newest_seat = slot.leases(index).map(|(at, _)| at.seat).max();
            let repeats = newest_seat.is_some_and(|seat| slot.up().is_some_and(|up| up.uses() <= seat));
            if repeats || slot.generation().is_some_and(|generation| generation >= self.next_generation) {
                let what = "a lease after this one may get its token".to_owned();
                found.push(Violation { invariant: "numbers_grow", slot: Some(index), what });
            }
            let Slot::Up(up) = slot else { continue };
            let contexts = up.leases.len() + up.closing;
            if up.leases.len() > self.limits.contexts_per_browser || contexts > self.limits.most_contexts() {
                let what = format!("{} leases and {} closing contexts", up.leases.len(), up.closing);
                found.push(Violation { invariant: "leases_per_slot", slot: Some(index), what });
            }
            if up.leases.values().any(|lease| up.owner.as_ref() != Some(&lease.key.principal)) {
                let what = "a lease of another principal than the browser's".to_owned();
                found.push(Violation { invariant: "one_principal_a_browser", slot: Some(index), what });
            }
        }
    }

    /// A key leads to its lease, and every lease has its key.
    fn check_keys(&self, found: &mut Vec<Violation>) {
        for (key, at) in &self.by_key {
            if self.lease(*at).is_none_or(|lease| lease.key != *key) {
                let what = "a key does not lead to its lease".to_owned();
                found.push(Violation { invariant: "one_lease_a_session", slot: Some(at.browser.slot), what });
            }
        }
        for (at, lease) in self.leases() {
            if self.by_key.get(&lease.key) != Some(&at) {
                let what = "a lease is not its session's".to_owned();
                found.push(Violation { invariant: "one_lease_a_session", slot: Some(at.browser.slot), what });
            }
        }
    }

    /// Nobody waits longer than he wanted, and no room is left unused that is asked for.
    fn check_waiting(&self, now: Instant, found: &mut Vec<Violation>) {
        let mut broken = |invariant, what: &str| found.push(Violation { invariant, slot: None, what: what.to_owned() });
        if self.queue.next_deadline().is_some_and(|deadline| deadline <= now) {
            broken("queue_deadline", "somebody waits whose time is over");
        }
        let could_be_served = self.queue.heads().any(|waiter| self.place_for(&waiter.key.principal, now).is_some());
        let could_be_started = self.wanted(now).allowed() > 0 && self.slots.contains(&Slot::Empty);
        if could_be_served || could_be_started {
            broken("room_is_used", "a browser is not granted, or not started, that might be");
        }
    }

    /// Nobody has more than he may; the queue is as long as it may be, and is in order.
    fn check_quotas(&self, found: &mut Vec<Violation>) {
        let mut broken = |invariant, what: String| found.push(Violation { invariant, slot: None, what });
        if self.queue.len() > self.limits.max_queue {
            broken("queue_length", format!("{} callers wait", self.queue.len()));
        }
        if !self.queue.is_sound() {
            broken("queue_order", "the queue's parts do not agree".to_owned());
        }
        let mut held: HashMap<&str, usize> = HashMap::new();
        for key in self.by_key.keys() {
            *held.entry(&key.principal).or_default() += 1;
        }
        if held.values().any(|count| *count > self.limits.per_principal.max_leases) {
            broken("leases_per_principal", "a principal has more leases than it may".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use browserfleet_common::error_code::ErrorCode;
    use tokio::time::Duration;

    use super::*;
    use crate::pool::{
        browser::Death,
        model::{Action, BrowserRef, Event, Key, LeaseRef, Ticket},
        queue::Waiter,
        slot::Remains,
        state::tests::limits,
    };

    /// An invariant, and what a defect that breaks it would do.
    type Break = (&'static str, fn(&mut State, Instant));

    const WAIT: Duration = Duration::from_secs(30);

    /// Two browsers with a lease each, of two principals, and a third who waits.
    fn busy(now: Instant) -> State {
        let mut state = State::new(limits(2, 0));
        for (ticket, principal) in (1..).zip(["a", "b", "c"]) {
            let key = Key { principal: principal.to_owned(), session: "s".to_owned(), birth: String::new() };
            state.on(Event::Acquire { ticket: Ticket(ticket), key, ttl: WAIT, deadline: now + WAIT }, now);
        }
        for (slot, generation) in [(0, 1), (1, 2)] {
            state.on(Event::Launched { at: BrowserRef { slot, generation } }, now);
        }
        assert_eq!((state.leases().count(), state.queue.len()), (2, 1));
        assert_eq!(state.violations(now), []);
        state
    }

    fn first(state: &mut State) -> &mut crate::pool::slot::Up {
        let Slot::Up(up) = &mut state.slots[0] else { panic!("it runs") };
        up
    }

    #[test]
    fn each_invariant_is_seen_when_it_is_broken() {
        let breaks: [Break; INVARIANTS.len()] = [
            ("one_slot_a_browser", |state, _| state.slots[1] = Slot::Killing { generation: 1 }),
            ("leases_per_slot", |state, _| first(state).closing = 1),
            ("one_principal_a_browser", |state, _| first(state).owner = Some("somebody else".to_owned())),
            ("one_lease_a_session", |state, _| state.by_key.clear()),
            ("numbers_grow", |state, _| state.next_generation = 2),
            ("queue_length", |state, _| state.limits.max_queue = 0),
            ("queue_order", |state, _| state.queue.forget_turns()),
            ("queue_deadline", |state, now| {
                let key = Key { principal: "d".to_owned(), session: "s".to_owned(), birth: String::new() };
                state.queue.push(Waiter::new(Ticket(9), key, WAIT, now));
            }),
            ("room_is_used", |state, _| state.slots.push(Slot::Empty)),
            ("leases_per_principal", |state, _| state.limits.per_principal.max_leases = 0),
        ];
        assert_eq!(breaks.map(|(name, _)| name), INVARIANTS);
        for (name, break_it) in breaks {
            let now = Instant::now();
            let mut state = busy(now);
            break_it(&mut state, now);
            let found: Vec<_> = state.violations(now).into_iter().map(|violation| violation.invariant).collect();
            assert!(found.contains(&name), "{name}: {found:?}");
        }
    }

    #[test]
    fn a_seat_that_will_be_given_again_is_seen() {
        let now = Instant::now();
        let mut state = busy(now);
        let up = first(&mut state);
        let (_, lease) = up.leases.pop_first().unwrap();
        up.leases.insert(5, lease);
        assert!(state.violations(now).iter().any(|violation| violation.invariant == "numbers_grow"));
    }

    #[test]
    fn what_is_no_ones_slot_is_told_when_it_begins_and_costs_none() {
        let now = Instant::now();
        let mut state = busy(now);
        let told = |actions: Vec<Action>| actions.iter().filter(|action| matches!(action, Action::Report(_))).count();
        for _ in 0..2 {
            let whole = std::mem::replace(&mut state.limits.max_queue, 0);
            assert_eq!(told(state.on(Event::Tick, now)), 1);
            assert_eq!(told(state.on(Event::Tick, now)), 0, "once");
            state.limits.max_queue = whole;
            assert_eq!(told(state.on(Event::Tick, now)), 0, "it is over");
        }
        assert_eq!((state.counts().poisoned, state.counts().leases), (0, 2));
    }

    #[test]
    fn a_broken_invariant_costs_its_slot_and_nothing_else() {
        let now = Instant::now();
        let mut state = busy(now);
        // As a defect would leave it: somebody else's lease in slot 0.
        first(&mut state).owner = Some("somebody else".to_owned());
        let [at, other] = [(0, 1), (1, 2)].map(|(slot, generation)| BrowserRef { slot, generation });
        let actions = state.on(Event::Tick, now);
        let Action::Report(violation) = &actions[0] else { panic!("{actions:?}") };
        assert_eq!((violation.invariant, violation.slot), ("one_principal_a_browser", Some(0)));
        assert!(matches!(&actions[1], Action::Revoke { lease, .. } if lease.browser == at), "{actions:?}");
        assert_eq!(actions[2], Action::End { at });
        assert_eq!(state.counts().poisoned, 1);
        assert!(state.lease(LeaseRef { browser: other, seat: 0 }).is_some(), "the other slot goes on");
        assert_eq!(state.violations(now), []);
        // A drain waits for its end as for any other's.
        state.on(Event::Drain { deadline: now }, now);
        state.on(Event::Ended { at: other }, now);
        assert!(!state.is_drained());
        assert_eq!(state.on(Event::Ended { at }, now), [], "and this one never comes back");
        assert!(state.is_drained());
        assert_eq!((state.counts().poisoned, state.counts().left), (1, 0));
    }

    #[test]
    fn what_comes_up_or_does_not_in_a_poisoned_slot_is_brought_to_its_end() {
        let now = Instant::now();
        let at = BrowserRef { slot: 0, generation: 1 };
        let failed = Event::LaunchFailed { at, reason: "no".to_owned() };
        for (event, action) in [(Event::Launched { at }, Some(Action::End { at })), (failed, None)] {
            let mut state = State::new(limits(1, 1));
            assert_eq!(state.on(Event::Tick, now), [Action::Launch { at }]);
            state.slots[0] = state.slots[0].poisoned();
            state.on(Event::Drain { deadline: now }, now);
            assert!(!state.is_drained(), "it may come up yet");
            assert_eq!(state.on(event, now), Vec::from_iter(action.clone()));
            assert_eq!(state.is_drained(), action.is_none());
            state.on(Event::Ended { at }, now);
            assert!(state.is_drained());
        }
    }

    #[test]
    fn a_pool_whose_slots_are_all_out_of_use_keeps_nobody_waiting() {
        let now = Instant::now();
        let mut state = State::new(limits(2, 0));
        state.slots[0] = Slot::Poisoned(Remains::Nothing);
        assert_eq!(state.counts().unavailable(), None);
        state.slots[1] = Slot::Poisoned(Remains::Processes);
        let counts = state.counts();
        assert!(counts.unavailable().unwrap().contains("started again"), "{counts:?}");
        let key = Key { principal: "p".to_owned(), session: "s".to_owned(), birth: String::new() };
        let asked = state.on(Event::Acquire { ticket: Ticket(1), key, ttl: WAIT, deadline: now + WAIT }, now);
        let [Action::Refuse { refusal, .. }] = &asked[..] else { panic!("{asked:?}") };
        assert_eq!(refusal.code, ErrorCode::BrowserGone);
        assert!(refusal.message.contains("all 2 places"), "{refusal}");
    }

    #[test]
    fn a_death_in_a_poisoned_slot_changes_nothing() {
        let now = Instant::now();
        let mut state = State::new(limits(1, 0));
        state.slots[0] = Slot::Poisoned(Remains::Processes);
        let at = BrowserRef { slot: 0, generation: 1 };
        let death = Death { code: ErrorCode::BrowserGone, reason: "late".to_owned() };
        for event in [Event::Died { at, death }, Event::Ended { at }] {
            assert_eq!(state.on(event, now), []);
            assert_eq!(state.counts().left, 1, "what is left is left");
        }
    }
}
