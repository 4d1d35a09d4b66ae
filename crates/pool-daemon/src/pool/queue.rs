//! Who waits, and who is next: first come first served within a principal, principals in turn.
//!
//! A full queue makes room for somebody of a principal that has few places at the cost of the one that has most: a
//! flood of one principal costs the others nothing.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::model::{Key, Ticket};

/// A caller who waits.
#[derive(Clone, Debug)]
pub(super) struct Waiter {
    pub(super) ticket: Ticket,
    pub(super) key: Key,
    pub(super) ttl: Duration,
    pub(super) deadline: Instant,
    /// The last place told, so that the same news is not told twice.
    told: (usize, usize),
}

impl Waiter {
    pub(super) fn new(ticket: Ticket, key: Key, ttl: Duration, deadline: Instant) -> Self {
        Self { ticket, key, ttl, deadline, told: (0, 0) }
    }
}

/// The queue.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// Principals who wait; the first one's turn is next. Exactly the keys of `waiting`.
    turns: VecDeque<String>,
    /// Never an empty list.
    waiting: HashMap<String, VecDeque<Waiter>>,
    len: usize,
    /// Whether places have changed since they were last told.
    moved: bool,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many callers of a principal wait.
    pub(super) fn waiting_of(&self, principal: &str) -> usize {
        self.waiting.get(principal).map_or(0, VecDeque::len)
    }

    /// Whether somebody waits for this session.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.waiting.get(&key.principal).is_some_and(|line| line.iter().any(|waiter| waiter.key == *key))
    }

    /// How many browsers would serve everybody, if each serves `contexts` callers of one principal.
    pub(super) fn browsers_for(&self, contexts: usize) -> usize {
        self.waiting.values().map(|line| line.len().div_ceil(contexts)).sum()
    }

    pub(super) fn push(&mut self, waiter: Waiter) {
        let principal = waiter.key.principal.clone();
        if !self.waiting.contains_key(&principal) {
            self.turns.push_back(principal.clone());
        }
        self.waiting.entry(principal).or_default().push_back(waiter);
        self.len += 1;
        self.moved = true;
    }

    /// Everybody's first in line, in the order of turns.
    pub(super) fn heads(&self) -> impl Iterator<Item = &Waiter> {
        self.turns.iter().filter_map(|principal| self.waiting.get(principal)?.front())
    }

    /// Takes a principal's first in line; its next turn comes after everybody else's.
    pub(super) fn pop_of(&mut self, principal: &str) -> Option<Waiter> {
        let line = self.waiting.get_mut(principal)?;
        let waiter = line.pop_front()?;
        let more = !line.is_empty();
        self.turns.retain(|other| other != principal);
        if more {
            self.turns.push_back(principal.to_owned());
        } else {
            self.waiting.remove(principal);
        }
        self.len -= 1;
        self.moved = true;
        Some(waiter)
    }

    /// Takes the one whose turn it is.
    pub(super) fn pop(&mut self) -> Option<Waiter> {
        let principal = self.turns.front()?.clone();
        self.pop_of(&principal)
    }

    /// Makes room in a full queue for a caller of `principal`: takes the newest of whoever has most places, if that is
    /// somebody else who has at least two more.
    pub(super) fn yield_to(&mut self, principal: &str) -> Option<Waiter> {
        let own = self.waiting_of(principal);
        // The turn breaks ties, so that the same history has the same outcome.
        let (most, count) = self
            .turns
            .iter()
            .map(|other| (other.clone(), self.waiting_of(other)))
            .max_by_key(|(_, count)| *count)
            .filter(|(_, count)| *count > own + 1)?;
        let waiter = self.waiting.get_mut(&most)?.pop_back()?;
        debug_assert!(count >= 2, "the longest line keeps somebody");
        self.len -= 1;
        self.moved = true;
        Some(waiter)
    }

    /// Takes everybody who satisfies a condition, in the order of their arrival within each principal.
    pub(super) fn take(&mut self, condition: impl Fn(&Waiter) -> bool) -> Vec<Waiter> {
        let mut taken = Vec::new();
        for principal in &self.turns {
            let Some(line) = self.waiting.get_mut(principal) else { continue };
            let (out, stay) = line.drain(..).partition::<VecDeque<_>, _>(&condition);
            *line = stay;
            taken.extend(out);
        }
        self.waiting.retain(|_, line| !line.is_empty());
        self.turns.retain(|principal| self.waiting.contains_key(principal));
        self.len -= taken.len();
        self.moved |= !taken.is_empty();
        taken
    }

    /// The earliest moment at which somebody has waited long enough.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.waiting.values().flatten().map(|waiter| waiter.deadline).min()
    }

    /// Everybody whose place is not what they were told last: ticket and place, 1 is next.
    pub(super) fn news(&mut self) -> Vec<(Ticket, usize)> {
        if !std::mem::take(&mut self.moved) {
            return Vec::new();
        }
        let depth = self.len;
        let mut news = Vec::new();
        let mut place = 0;
        // One round of turns after the other, as they would be served if nobody came or went.
        for round in 0.. {
            let before = place;
            for principal in &self.turns {
                let Some(waiter) = self.waiting.get_mut(principal).and_then(|line| line.get_mut(round)) else {
                    continue;
                };
                place += 1;
                if waiter.told != (place, depth) {
                    waiter.told = (place, depth);
                    news.push((waiter.ticket, place));
                }
            }
            if place == before {
                break;
            }
        }
        news
    }

    /// As a defect would leave it, for tests of what notices.
    #[cfg(test)]
    pub(super) fn forget_turns(&mut self) {
        self.turns.clear();
    }

    /// Whether the parts agree with each other.
    pub(super) fn is_sound(&self) -> bool {
        self.len == self.waiting.values().map(VecDeque::len).sum::<usize>()
            && self.turns.len() == self.waiting.len()
            && self.turns.iter().all(|principal| self.waiting_of(principal) > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(arrivals: &[&str]) -> Queue {
        let mut queue = Queue::default();
        for (ticket, principal) in (1..).zip(arrivals) {
            let key = Key { principal: (*principal).to_owned(), session: ticket.to_string(), birth: String::new() };
            queue.push(Waiter::new(Ticket(ticket), key, Duration::ZERO, Instant::now()));
        }
        queue
    }

    fn order(mut queue: Queue) -> Vec<u64> {
        std::iter::from_fn(|| queue.pop()).map(|waiter| waiter.ticket.0).collect()
    }

    #[test]
    fn principals_take_turns_and_their_own_callers_come_in_order() {
        assert_eq!(order(queue(&["a", "a", "a", "b", "c", "b"])), [1, 4, 5, 2, 6, 3]);
    }

    #[test]
    fn places_are_told_as_they_will_be_served_and_only_when_they_change() {
        let mut queue = queue(&["a", "a", "b"]);
        assert_eq!(queue.news(), [(Ticket(1), 1), (Ticket(3), 2), (Ticket(2), 3)]);
        assert_eq!(queue.news(), []);
        queue.pop();
        assert_eq!(queue.news(), [(Ticket(3), 1), (Ticket(2), 2)]);
    }

    #[test]
    fn a_flood_makes_room_for_others() {
        let mut flooded = queue(&["flood", "flood", "flood", "calm"]);
        assert_eq!(
            flooded.yield_to("new").map(|waiter| waiter.ticket),
            Some(Ticket(3)),
            "the newest of the longest line"
        );
        assert!(flooded.yield_to("calm").is_none(), "two against one is not a flood");
        assert!(flooded.yield_to("flood").is_none(), "nobody makes room for himself");
        assert!(flooded.is_sound());
    }

    #[test]
    fn those_who_leave_keep_the_turns_of_the_others() {
        let mut queue = queue(&["a", "a", "b", "c"]);
        let left: Vec<_> = queue.take(|waiter| waiter.ticket.0 == 3).iter().map(|waiter| waiter.ticket.0).collect();
        assert_eq!((left, queue.len()), (vec![3], 3));
        assert!(queue.is_sound());
        assert_eq!(order(queue), [1, 4, 2]);
    }
}
