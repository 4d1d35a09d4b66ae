//! What an outside observer sees of a pool: browsers, leases and callers, by events and actions alone; and what may never be seen.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use browserfleet_common::error_code::ErrorCode;
use proptest::prelude::*;
use tokio::time::Instant;

use crate::pool::model::{Action, BrowserRef, Key, LeaseRef, Limits, Ticket};

/// The observer.
pub(super) struct Observer {
    limits: Limits,
    pub(super) starting: Vec<BrowserRef>,
    /// Browsers that are up, since when, and since when each serves nobody or has served somebody last.
    pub(super) up: BTreeMap<BrowserRef, Since>,
    pub(super) killing: Vec<BrowserRef>,
    pub(super) poisoned: HashSet<usize>,
    /// Leases that live, and who has them.
    pub(super) live: BTreeMap<LeaseRef, Key>,
    pub(super) closing: Vec<BrowserRef>,
    /// Every lease there ever was, and when it was granted.
    pub(super) ever: HashMap<LeaseRef, Instant>,
    pub(super) ended: BTreeSet<LeaseRef>,
    /// Whose first lease a browser had.
    owner: HashMap<BrowserRef, String>,
    /// Callers in the order of their arrival, and until when they wait.
    pub(super) waiting: BTreeMap<Ticket, (Key, Instant)>,
    /// Who has had a turn since a principal that waits had its last one.
    turns: HashMap<String, HashSet<String>>,
    /// Who was granted what by the latest step.
    pub(super) granted: Vec<(Ticket, LeaseRef)>,
}

#[derive(Clone, Copy)]
pub(super) struct Since {
    pub(super) up: Instant,
    pub(super) free: Instant,
}

impl Observer {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            starting: Vec::new(),
            up: BTreeMap::new(),
            killing: Vec::new(),
            poisoned: HashSet::new(),
            live: BTreeMap::new(),
            closing: Vec::new(),
            ever: HashMap::new(),
            ended: BTreeSet::new(),
            owner: HashMap::new(),
            waiting: BTreeMap::new(),
            turns: HashMap::new(),
            granted: Vec::new(),
        }
    }

    pub(super) fn came_up(&mut self, at: BrowserRef, now: Instant) {
        self.up.insert(at, Since { up: now, free: now });
    }

    /// A browser serves one less.
    pub(super) fn served(&mut self, at: BrowserRef, now: Instant) {
        self.up.entry(at).and_modify(|since| since.free = now);
    }

    /// Takes note of what a pool has done.
    pub(super) fn see(&mut self, actions: &[Action], now: Instant) -> Result<(), TestCaseError> {
        self.granted.clear();
        for action in actions {
            match action {
                Action::Launch { at } => {
                    let all = self.starting.iter().chain(self.up.keys()).chain(&self.killing);
                    prop_assert!(all.clone().all(|other| other.slot != at.slot), "S-02: the slot is taken");
                    prop_assert!(!self.poisoned.contains(&at.slot), "S-02: a poisoned slot is out of use");
                    self.starting.push(*at);
                }
                Action::End { at } => {
                    prop_assert!(self.up.remove(at).is_some(), "only a browser that is up is ended");
                    self.closing.retain(|other| other != at);
                    self.killing.push(*at);
                }
                Action::Grant { ticket, lease } => self.see_grant(*ticket, *lease, now)?,
                Action::Revoke { lease, .. } => {
                    prop_assert!(self.live.remove(lease).is_some(), "only a live lease ends");
                    prop_assert!(self.ended.insert(*lease), "S-01: a lease ends exactly once");
                    self.served(lease.browser, now);
                }
                Action::Close { lease } => self.closing.push(lease.browser),
                Action::Report(violation) => prop_assert!(false, "{violation:?}"),
                Action::Refuse { ticket, refusal } => {
                    let asked = self.waiting.remove(ticket);
                    prop_assert!(asked.is_some(), "L-03: one answer for each caller");
                    // A browser was started for this one, and did not come up: that was the principal's turn.
                    if refusal.code == ErrorCode::BrowserGone {
                        asked.map(|(key, _)| self.turns.remove(&key.principal));
                    }
                }
                Action::Queued { ticket, position, depth } => {
                    prop_assert!(self.waiting.contains_key(ticket));
                    prop_assert!(position <= depth && *depth <= self.limits.max_queue, "S-13");
                }
            }
        }
        self.check(now)
    }

    fn see_grant(&mut self, ticket: Ticket, lease: LeaseRef, now: Instant) -> Result<(), TestCaseError> {
        let asked = self.waiting.get(&ticket);
        prop_assert!(asked.is_some(), "S-14: a grant goes to somebody who waits");
        let key = asked.unwrap().0.clone();
        prop_assert!(self.up.contains_key(&lease.browser), "a granted browser is up");
        let owner = self.owner.entry(lease.browser).or_insert_with(|| key.principal.clone());
        prop_assert_eq!(&*owner, &key.principal, "S-01: a browser has one principal");
        if let Some(holder) = self.live.get(&lease) {
            prop_assert_eq!(holder, &key, "S-01: a lease has one session");
        } else {
            prop_assert!(self.ever.insert(lease, now).is_none(), "S-04: a lease never comes back");
            self.see_turn(ticket, &key.principal)?;
            self.live.insert(lease, key);
        }
        self.waiting.remove(&ticket);
        self.granted.push((ticket, lease));
        Ok(())
    }

    /// L-03: a principal's callers in the order of their arrival. Principals in turn, where any browser will do for any of them.
    fn see_turn(&mut self, ticket: Ticket, principal: &str) -> Result<(), TestCaseError> {
        let first = self.waiting.iter().find(|(_, (key, _))| key.principal == principal).map(|(first, _)| *first);
        prop_assert_eq!(first, Some(ticket), "L-03: first come, first served");
        self.turns.remove(principal);
        let others: HashSet<_> = self.waiting.values().map(|(key, _)| &key.principal).collect();
        for other in others.into_iter().filter(|other| *other != principal) {
            let new = self.turns.entry(other.clone()).or_default().insert(principal.to_owned());
            prop_assert!(new || self.limits.contexts_per_browser > 1, "L-03: {principal} before {other}, and again");
        }
        Ok(())
    }

    fn check(&mut self, now: Instant) -> Result<(), TestCaseError> {
        let waiting: HashSet<_> = self.waiting.values().map(|(key, _)| &key.principal).collect();
        self.turns.retain(|principal, _| waiting.contains(principal));
        let late = self.waiting.iter().find(|(_, (_, until))| *until <= now);
        prop_assert!(late.is_none(), "L-03: {late:?} still waits");
        let browsers = self.starting.len() + self.up.len() + self.killing.len() + self.poisoned.len();
        prop_assert!(browsers <= self.limits.max_browsers, "S-02: more processes than allowed");
        self.check_leases(now)?;
        self.check_browsers(now)
    }

    fn check_leases(&self, now: Instant) -> Result<(), TestCaseError> {
        let sessions: HashSet<_> = self.live.values().collect();
        prop_assert_eq!(sessions.len(), self.live.len(), "S-01: a session has one lease");
        let mut held: HashMap<_, usize> = HashMap::new();
        self.live.values().for_each(|key| *held.entry(&key.principal).or_default() += 1);
        let most = self.limits.per_principal.max_leases;
        prop_assert!(held.values().all(|held| *held <= most), "S-13: more leases than the principal may have");
        let too_old = self.live.keys().find(|lease| self.ever[lease] + self.limits.max_lifetime <= now);
        prop_assert!(too_old.is_none(), "{too_old:?} has outlived the longest lifetime");
        Ok(())
    }

    fn check_browsers(&self, now: Instant) -> Result<(), TestCaseError> {
        let mut cold = 0;
        for (browser, since) in &self.up {
            let leases = self.live.keys().filter(|lease| lease.browser == *browser).count();
            let closing = self.closing.iter().filter(|at| *at == browser).count();
            let most = self.limits.contexts_per_browser;
            prop_assert!(leases <= most, "S-01: more leases than a browser serves");
            prop_assert!(
                leases + closing <= if most > 1 { 2 * most } else { 1 },
                "S-01: more contexts than a browser has"
            );
            if leases + closing == 0 {
                let oldest = self.limits.retirement.max_age.mul_f64(1.1);
                prop_assert!(since.up + oldest > now, "{browser:?} has reached its age and serves nobody");
                cold += usize::from(since.free + self.limits.warm_ttl <= now);
            }
        }
        prop_assert!(cold <= self.limits.min_warm, "{cold} browsers are kept for nobody");
        Ok(())
    }

    /// A lease that reached nobody has never been.
    pub(super) fn forget(&mut self, lease: LeaseRef) {
        self.live.remove(&lease);
        self.ever.remove(&lease);
        if self.ever.keys().all(|other| other.browser != lease.browser) {
            self.owner.remove(&lease.browser);
        }
    }
}
