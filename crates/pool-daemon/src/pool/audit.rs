//! The invariants of the pool's decisions, in words and in code.

use std::collections::HashMap;

use super::{model::Violation, slot::Slot, state::State};

/// Their names.
pub(super) const INVARIANTS: [&str; 7] = [
    "one_slot_a_browser",
    "leases_per_slot",
    "one_principal_a_browser",
    "one_lease_a_session",
    "queue_length",
    "queue_order",
    "leases_per_principal",
];

impl State {
    /// Every invariant that does not hold.
    pub(super) fn violations(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        self.check_slots(&mut found);
        self.check_keys(&mut found);
        self.check_quotas(&mut found);
        found
    }

    /// A slot has at most as many leases as it may, all of one principal, and no browser is in two slots.
    fn check_slots(&self, found: &mut Vec<Violation>) {
        let mut generations = HashMap::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if let Some(other) = slot.generation().and_then(|generation| generations.insert(generation, index)) {
                let what = format!("the browser of slot {other} is in slot {index} too");
                found.push(Violation { invariant: "one_slot_a_browser", slot: Some(index), what });
            }
            let Slot::Up(up) = slot else { continue };
            if up.leases.len() + up.closing > self.limits.contexts_per_browser {
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
    use super::*;

    #[test]
    fn every_invariant_is_in_the_list() {
        let (code, _tests) = include_str!("audit.rs").split_once("#[cfg(test)]").unwrap();
        let named = |before| code.split(before).skip(1).map(|rest| rest.split('"').next().unwrap());
        let checked: Vec<&str> = named("invariant: \"").chain(named("broken(\"")).collect();
        assert!(checked.len() >= INVARIANTS.len(), "{checked:?}");
        assert!(checked.iter().all(|name| INVARIANTS.contains(name)), "{checked:?}");
        assert!(INVARIANTS.iter().all(|name| checked.contains(name)), "{checked:?}");
    }
}
