//! Subscriptions: a bounded queue between the reader and one slow or fast subscriber.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};

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
    /// cancel: nothing is lost. Whoever asks for one has dealt with those before it, see [`Self::watermark`].
    pub async fn recv(&mut self) -> Option<Item> {
        self.queue.all_taken_are_dealt_with();
        loop {
            match self.queue.pop() {
                Popped::Item(item) => return Some(item),
                Popped::End => return None,
                Popped::Empty => self.queue.filled.notified().await,
            }
        }
    }

    /// The next item if one is waiting. Says nothing of those before it.
    pub fn try_recv(&mut self) -> Option<Item> {
        match self.queue.pop() {
            Popped::Item(item) => Some(item),
            Popped::Empty | Popped::End => None,
        }
    }

    /// For those who want to know how far the subscriber has come.
    pub fn watermark(&self) -> Watermark {
        Watermark { queue: Arc::downgrade(&self.queue) }
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

/// How far a subscriber has come. Cheap to clone; does not keep the subscription.
#[derive(Clone, Debug)]
pub struct Watermark {
    queue: Weak<Queue>,
}

impl Watermark {
    /// Waits until the subscriber has dealt with everything that was received before this call, or has gone.
    pub async fn reached(&self) {
        let now = self.queue.upgrade().map(|queue| (queue.lock().received, queue.dealt_with.subscribe()));
        if let Some((received, mut dealt_with)) = now {
            // The other end goes with the subscriber.
            let _gone = dealt_with.wait_for(|count| *count >= received).await;
        }
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
    let queue = Arc::new(Queue {
        capacity: capacity.max(1),
        state: Mutex::default(),
        filled: Notify::new(),
        dealt_with: watch::Sender::new(0),
    });
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
            let mut state = queue.lock();
            state.lost += 1;
            state.received += 1;
            drop(state);
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
    /// Of the events received, those that the subscriber is done with.
    dealt_with: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    items: VecDeque<Event>,
    bytes: usize,
    /// Events that ever came in, whatever became of them.
    received: u64,
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
        state.received += 1;
        state.items.push_back(event);
        drop(state);
        self.filled.notify_one();
        lost
    }

    fn all_taken_are_dealt_with(&self) {
        let state = self.lock();
        // What was lost is dealt with when the subscriber has been told.
        if state.lost == 0 {
            let dealt_with = state.received - state.items.len() as u64;
            drop(state);
            self.dealt_with.send_if_modified(|before| std::mem::replace(before, dealt_with) != dealt_with);
        }
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
    use futures_util::FutureExt as _;

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
    async fn the_watermark_is_reached_when_the_subscriber_comes_back() {
        let (feed, mut events) = subscription(&["A.b"], &[], 2);
        let watermark = events.watermark();
        let is_reached = || watermark.reached().now_or_never().is_some();
        assert!(is_reached(), "nothing has come");
        feed.push(event(1));
        assert!(!is_reached());
        assert!(events.recv().await.is_some() && !is_reached(), "it may still be at work on it");
        assert!(events.try_recv().is_none() && !is_reached(), "it may have more to do at the end of a burst");
        let mut waiting = Box::pin(watermark.reached());
        assert!((&mut waiting).now_or_never().is_none());
        let mut next = Box::pin(events.recv());
        assert!((&mut next).now_or_never().is_none());
        feed.push(event(2));
        assert!(waiting.now_or_never().is_some(), "what came later is not waited for");
        assert!(!is_reached());
        drop(next);
        drop(events);
        assert!(is_reached(), "nobody will deal with it");
    }

    #[tokio::test]
    async fn what_was_lost_is_dealt_with_once_it_is_told() {
        let (feed, mut events) = subscription(&["A.b"], &[], 2);
        let watermark = events.watermark();
        let lost: u64 = (1..=3).map(|bytes| feed.push(event(bytes))).sum();
        assert_eq!(lost, 1);
        for _told in 0..3 {
            assert!(watermark.reached().now_or_never().is_none());
            assert!(events.recv().await.is_some());
        }
        assert!(events.recv().now_or_never().is_none());
        assert!(watermark.reached().now_or_never().is_some());
        assert!(feed.lose("A.b"), "before it was in the queue");
        assert!(watermark.reached().now_or_never().is_none());
        assert!(matches!(events.recv().await, Some(Item::Lagged(1))));
        assert!(events.recv().now_or_never().is_none());
        assert!(watermark.reached().now_or_never().is_some());
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
