//! Subscriptions: a bounded queue between the reader and one slow or fast subscriber.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::Notify;

use crate::{Error, wire};

/// How many bytes of events may wait for one subscriber. A page decides how large its console messages are, so a limit on
/// their number alone would bound nothing.
const BYTES_LIMIT: usize = 16 << 20;

/// One event, not yet decoded.
#[derive(Clone, Debug)]
pub struct Event {
    pub method: &'static str,
    pub params: Arc<RawValue>,
}

impl Event {
    /// Reads the parameters.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Error> {
        wire::decode(&self.params).map_err(|source| Error::Decode { method: self.method.to_owned(), source })
    }
}

/// What a subscriber receives.
#[derive(Clone, Debug)]
pub enum Item {
    Event(Event),
    /// The subscriber was too slow: this many events are missing at this place.
    Lagged(u64),
}

/// The receiving end of a subscription. Dropping it ends the subscription.
pub struct Events {
    queue: Arc<Queue>,
}

impl Events {
    /// The next item in order; `None` when the session or the connection has ended and everything was read. Safe to
    /// cancel: nothing is lost.
    pub async fn recv(&mut self) -> Option<Item> {
        loop {
            match self.queue.pop() {
                Popped::Item(item) => return Some(item),
                Popped::End => return None,
                Popped::Empty => self.queue.filled.notified().await,
            }
        }
    }

    /// The next item if one is waiting.
    pub fn try_recv(&mut self) -> Option<Item> {
        match self.queue.pop() {
            Popped::Item(item) => Some(item),
            Popped::Empty | Popped::End => None,
        }
    }

    /// A stream that has already ended.
    pub(crate) fn ended() -> Self {
        let (feed, events) = subscription(&[], &[], 1);
        drop(feed);
        events
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("waiting", &self.queue.lock().items.len()).finish_non_exhaustive()
    }
}

/// The reader's end of a subscription. Dropping it ends the stream.
#[derive(Debug)]
pub(crate) struct Feed {
    methods: Box<[&'static str]>,
    /// Those that must not crowd out the others.
    expendable: Box<[&'static str]>,
    /// Weak: a subscriber that went away frees its queue at once, not at the next event.
    queue: Weak<Queue>,
}

pub(crate) fn subscription(methods: &[&'static str], expendable: &[&'static str], capacity: usize) -> (Feed, Events) {
    let state = Waiting { items: VecDeque::new(), bytes: 0, lost: 0, ended: false };
    let queue = Arc::new(Queue { capacity: capacity.max(1), state: Mutex::new(state), filled: Notify::new() });
    let feed = Feed { methods: methods.into(), expendable: expendable.into(), queue: Arc::downgrade(&queue) };
    (feed, Events { queue })
}

impl Feed {
    /// The name this subscription knows the method by, if it asked for it.
    pub(crate) fn wants(&self, method: &str) -> Option<&'static str> {
        self.methods.iter().chain(&self.expendable).find(|wanted| **wanted == method).copied()
    }

    fn is_expendable(&self, method: &str) -> bool {
        self.expendable.contains(&method)
    }

    pub(crate) fn is_dropped(&self) -> bool {
        self.queue.strong_count() == 0
    }

    /// Queues an event and never waits. Answers how many events are lost by it: older ones that had to go for it, or
    /// itself if it is expendable.
    pub(crate) fn push(&self, event: Event) -> u64 {
        let expendable = self.is_expendable(event.method);
        self.queue.upgrade().map_or(0, |queue| queue.push(event, expendable))
    }

    /// An event of this method was lost before it could be queued. Answers whether the subscriber is told.
    pub(crate) fn lose(&self, method: &str) -> bool {
        let told = self.queue.upgrade().filter(|_| self.wants(method).is_some() && !self.is_expendable(method));
        if let Some(queue) = &told {
            queue.lock().lost += 1;
            queue.filled.notify_one();
        }
        told.is_some()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.lock().ended = true;
            queue.filled.notify_one();
        }
    }
}

#[derive(Debug)]
struct Queue {
    capacity: usize,
    /// A std mutex: held for a push or a pop, never across an await.
    state: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Debug)]
struct Waiting {
    items: VecDeque<Event>,
    bytes: usize,
    /// Events dropped since the subscriber last looked. The oldest go first: the newest say how things are now.
    lost: u64,
    ended: bool,
}

enum Popped {
    Item(Item),
    Empty,
    End,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event, expendable: bool) -> u64 {
        let size = event.params.get().len();
        let mut state = self.lock();
        // Half of the room is kept for the others. Nobody is told: nobody relies on these.
        if expendable && (state.items.len() * 2 >= self.capacity || (state.bytes + size) * 2 > BYTES_LIMIT) {
            return 1;
        }
        let mut lost = 0;
        // One event always fits: the frame limit bounds it.
        while !state.items.is_empty() && (state.items.len() >= self.capacity || state.bytes + size > BYTES_LIMIT) {
            state.take();
            lost += 1;
        }
        state.lost += lost;
        state.bytes += size;
        state.items.push_back(event);
        drop(state);
        self.filled.notify_one();
        lost
    }

    fn pop(&self) -> Popped {
        let mut state = self.lock();
        if state.lost > 0 {
            return Popped::Item(Item::Lagged(std::mem::take(&mut state.lost)));
        }
        match state.take() {
            Some(event) => Popped::Item(Item::Event(event)),
            None if state.ended => Popped::End,
            None => Popped::Empty,
        }
    }
}

impl Waiting {
    fn take(&mut self) -> Option<Event> {
        let event = self.items.pop_front()?;
        self.bytes -= event.params.get().len();
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(bytes: usize) -> Event {
        let text = format!("\"{}\"", "x".repeat(bytes));
        Event { method: "A.b", params: Arc::from(RawValue::from_string(text).unwrap()) }
    }

    #[test]
    fn a_slow_subscriber_learns_how_much_it_lost_and_keeps_the_newest() {
        let (feed, mut events) = subscription(&["A.b"], &[], 2);
        let lost: u64 = (1..=5).map(|n| feed.push(event(n))).sum();
        assert_eq!(lost, 3);
        assert!(matches!(events.try_recv(), Some(Item::Lagged(3))));
        assert!(matches!(events.try_recv(), Some(Item::Event(e)) if e.params.get().len() == 6));
        assert!(matches!(events.try_recv(), Some(Item::Event(e)) if e.params.get().len() == 7));
        assert!(events.try_recv().is_none());
    }

    #[test]
    fn waiting_events_are_bounded_in_bytes_too() {
        let (feed, events) = subscription(&["A.b"], &[], 1000);
        for _ in 0..10 {
            feed.push(event(BYTES_LIMIT / 3));
        }
        assert!(events.queue.lock().bytes <= BYTES_LIMIT);
        feed.push(event(BYTES_LIMIT * 2));
        assert_eq!(events.queue.lock().items.len(), 1, "a single large event is let through");
    }

    #[test]
    fn a_flood_of_what_is_expendable_costs_no_other_event() {
        let (feed, mut events) = subscription(&["A.b"], &["A.noise"], 8);
        let noise = || Event { method: "A.noise", ..event(1) };
        feed.push(event(7));
        let lost: u64 = (0..100).map(|_| feed.push(noise())).sum();
        assert_eq!(lost, 97);
        (0..4).for_each(|_| assert_eq!(feed.push(event(1)), 0));
        assert!(matches!(events.try_recv(), Some(Item::Event(e)) if e.params.get().len() == 9), "not even a lag");
        assert!(!feed.lose("A.noise") && feed.lose("A.b"));
        assert!(matches!(events.try_recv(), Some(Item::Lagged(1))));
    }

    #[tokio::test]
    async fn the_end_comes_after_what_was_queued() {
        let (feed, mut events) = subscription(&["A.b"], &[], 2);
        feed.push(event(1));
        drop(feed);
        assert!(matches!(events.recv().await, Some(Item::Event(_))));
        assert!(events.recv().await.is_none());
        assert!(events.recv().await.is_none());
    }
}
