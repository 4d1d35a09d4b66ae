//! Which browsers are started ahead of and on demand, and which are ended because nobody needs them.

use tokio::time::Instant;

use super::{
    browser::Death,
    model::{Action, BrowserRef, Pressure},
    slot::Slot,
    state::State,
};

impl State {
    /// Ends browsers that serve nobody any more.
    pub(super) fn retire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let needed = self.room_needed(now);
        let mut owned: Vec<_> =
            self.idle().filter(|(_, up)| !up.is_fresh()).map(|(at, up)| (up.free_since, at)).collect();
        owned.sort_unstable();
        let evicted: Vec<_> = owned.into_iter().map(|(_, at)| at).take(needed).collect();
        let kept = self.kept_warm();
        let over: Vec<_> = self
            .running()
            .filter(|(at, up)| {
                let cold = !kept.contains(at) && up.free_for(now) >= self.limits.warm_ttl;
                let worn = up.retiring || up.is_worn(&self.limits, now);
                up.is_free() && (self.draining.is_some() || worn || cold || evicted.contains(at))
            })
            .map(|(at, _)| at)
            .collect();
        for at in over {
            self.end_browser(at, &Death::of_lease("retired"), actions);
        }
    }

    /// How many idle browsers of other principals have to go so that those who wait can have one.
    fn room_needed(&self, now: Instant) -> usize {
        let coming = |slot: &&Slot| matches!(slot, Slot::Empty | Slot::Killing { .. });
        let wanted = self.wanted(now);
        wanted.demanded.min(wanted.may_start).saturating_sub(self.slots.iter().filter(coming).count())
    }

    pub(super) fn launch(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let wanted = self.wanted(now);
        for _ in 0..wanted.allowed() {
            let Some(slot) = self.slots.iter().position(|slot| *slot == Slot::Empty) else { return };
            let at = BrowserRef { slot, generation: self.next_generation };
            self.next_generation += 1;
            self.slots[slot] = Slot::Starting { generation: at.generation };
            actions.push(Action::Launch { at });
        }
    }

    /// The launches that would help, and how many may begin now.
    pub(super) fn wanted(&self, now: Instant) -> Wanted {
        if self.draining.is_some() {
            return Wanted::default();
        }
        let starting = self.slots.iter().filter(|slot| matches!(slot, Slot::Starting { .. })).count();
        // A browser serves one principal; each of its contexts one of the principal's callers.
        let waiting = self.queue.browsers_for(self.limits.contexts_per_browser);
        let fresh = self.idle().filter(|(_, up)| up.is_fresh()).count();
        let ahead = starting.saturating_sub(waiting);
        let demanded = waiting.saturating_sub(starting);
        // While launches keep failing nobody is let in for whom one could be tried: it is tried for nobody.
        let least = usize::from(self.breaker.broken().is_some());
        let warm = self.limits.min_warm.max(least).saturating_sub(fresh + ahead);
        let running = self.slots.iter().any(|slot| matches!(slot, Slot::Up(_) | Slot::Starting { .. }));
        let most = match &self.pressure {
            // Without any browser nothing would ever become free: one is tried all the same.
            Pressure { memory: Some(_), .. } => usize::from(!running),
            Pressure { cpu: Some(_), .. } => self.limits.max_starting.min(1),
            _ => self.limits.max_starting,
        };
        let later = self.pressure != Pressure::default() || self.ahead_from.is_some_and(|from| from > now);
        Wanted {
            demanded,
            warm: if later { 0 } else { warm },
            may_start: self.breaker.most(most, now).saturating_sub(starting),
            busy: starting > 0,
        }
    }

    /// The idle browsers that are kept warm. The others are surplus: those that only their owners may use, and those that
    /// are too many.
    pub(super) fn kept_warm(&self) -> Vec<BrowserRef> {
        let mut fresh: Vec<_> =
            self.idle().filter(|(_, up)| up.is_fresh()).map(|(at, up)| (up.free_since, at)).collect();
        fresh.sort_unstable();
        fresh.into_iter().take(self.limits.min_warm).map(|(_, at)| at).collect()
    }
}

/// Launches that would help.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// For those who wait, beyond those under way.
    demanded: usize,
    /// To be ready for the next ones.
    warm: usize,
    /// How many may begin now.
    may_start: usize,
    /// Whether launches are under way.
    busy: bool,
}

impl Wanted {
    /// Demand comes first. Launching ahead of need must not slow those who wait down: one at a time, and only while
    /// nothing else is being started.
    pub(super) fn allowed(self) -> usize {
        let ahead = if self.busy || self.demanded > 0 { 0 } else { self.warm.min(1) };
        (self.demanded + ahead).min(self.may_start)
    }
}
