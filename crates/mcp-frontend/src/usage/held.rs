//! The places that this front end holds.
//!
//! Where a principal has a limit, the store is asked before a place is taken and told before the answer goes out. Where it has
//! none, a short call costs the store nothing: it hears of a place at the next [`KEEP`], so that operators see what takes long.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use browserfleet_common::{
    ids::{Principal, random_hex},
    lifecycle::{Shutdown, Tasks},
};
use futures_util::{StreamExt as _, stream};
use tokio::{
    task::JoinHandle,
    time::{interval, timeout},
};
use uuid::Uuid;

use super::{Kind, Pace, Place, Store};
use crate::{Unavailable, session::Scope};

/// How long a place is taken after its front end has last said so.
pub(super) const LAPSE: Duration = Duration::from_secs(15);
/// How often a front end says which places it holds.
const KEEP: Duration = Duration::from_secs(1);
/// How long an answer waits for the store to hear that a place is free.
const SOON: Duration = Duration::from_millis(250);
/// Places that are told of at a time.
const AT_ONCE: usize = 64;

/// What is used here. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Usage {
    store: Arc<dyn Store>,
    /// This front end's name, drawn at its start.
    front_end: Arc<str>,
    /// A plain mutex: every use is a few map operations, none waits.
    held: Arc<Mutex<HashMap<(Kind, Uuid), Entry>>>,
    tasks: Tasks,
}

struct Entry {
    place: Place,
    store: Told,
}

/// Whether the store knows of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// It is being asked whether there is one: nobody else may tell it of this one meanwhile.
    Asked,
    /// No.
    Not,
    /// It may.
    Perhaps,
}

impl Usage {
    pub(crate) fn new(store: Arc<dyn Store>, tasks: Tasks) -> Self {
        let front_end = random_hex()[..12].into();
        Self { store, front_end, held: Arc::default(), tasks }
    }

    pub(crate) fn front_end(&self) -> &str {
        &self.front_end
    }

    /// Takes a place until it is dropped, or given back. `None`: as many are taken as there may be.
    pub(crate) async fn take(
        &self,
        kind: Kind,
        place: Place,
        most: Option<usize>,
    ) -> Result<Option<Held>, Unavailable> {
        let held = Held { usage: self.clone(), kind, id: place.id };
        let told = if most.is_some() { Told::Asked } else { Told::Not };
        self.entries().insert((kind, place.id), Entry { place: place.clone(), store: told });
        // From here on the place goes back whatever happens, also when the caller gives up meanwhile.
        let taken = most.is_none() || self.store.take(kind, &place, most).await?;
        if told == Told::Asked
            && let Some(entry) = self.entries().get_mut(&(kind, place.id))
        {
            entry.store = if taken { Told::Perhaps } else { Told::Not };
        }
        Ok(taken.then_some(held))
    }

    /// The places in scope, of all front ends: those elsewhere that are older than [`KEEP`], and all of those here.
    pub(crate) async fn held(&self, kind: Kind, scope: Scope<'_>) -> Result<Vec<Place>, Unavailable> {
        let mut places = self.store.held(kind, scope).await?;
        let in_scope = |place: &Place| match scope {
            Scope::Of(principal) => place.principal == *principal,
            Scope::All => true,
        };
        let mine = |place: &Place| *place.front_end == *self.front_end;
        // What is held here is known here, and better.
        places.retain(|place| !mine(place));
        let entries = self.entries();
        let here = entries
            .iter()
            .filter(|((of, _), entry)| *of == kind && entry.store != Told::Asked && in_scope(&entry.place));
        places.extend(here.map(|(_, entry)| entry.place.clone()));
        drop(entries);
        places.sort_by_key(|place| (place.since, place.id));
        Ok(places)
    }

    /// See [`Store::pass`].
    pub(crate) async fn pass(
        &self,
        pace: Pace,
        principal: &Principal,
        amount: u64,
        allowance: u64,
    ) -> Result<Option<Duration>, Unavailable> {
        self.store.pass(pace, principal, amount, allowance).await
    }

    /// Starts telling the store what is held here.
    pub(crate) fn start(&self, shutdown: &Shutdown) {
        let (usage, hard) = (self.clone(), shutdown.hard().clone());
        self.tasks.spawn("usage", async move {
            let mut ticks = interval(KEEP);
            loop {
                tokio::select! {
                    _ = ticks.tick() => usage.keep().await,
                    () = hard.cancelled() => return,
                }
            }
        });
    }

    async fn keep(&self) {
        let held: Vec<(Kind, Place)> = self
            .entries()
            .iter_mut()
            .filter(|(_, entry)| entry.store != Told::Asked)
            .map(|((kind, _), entry)| {
                entry.store = Told::Perhaps;
                (*kind, entry.place.clone())
            })
            .collect();
        let telling = stream::iter(held).for_each_concurrent(AT_ONCE, |(kind, place)| async move {
            if let Err(error) = self.store.take(kind, &place, None).await {
                tracing::debug!(%error, "a place could not be kept; it lapses unless the next try succeeds");
            }
            // Given back while it was being told of.
            let is_held = self.entries().contains_key(&(kind, place.id));
            if !is_held {
                self.tell_back(kind, &place.principal, place.id).await;
            }
        });
        telling.await;
    }

    async fn tell_back(&self, kind: Kind, principal: &Principal, id: Uuid) {
        if let Err(error) = self.store.give_back(kind, principal, id).await {
            tracing::debug!(%error, "a place could not be given back; it lapses");
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<(Kind, Uuid), Entry>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Usage").field("store", &self.store).finish_non_exhaustive()
    }
}

/// A place that is held. Dropped, it goes back soon.
#[derive(Debug)]
pub(crate) struct Held {
    usage: Usage,
    kind: Kind,
    id: Uuid,
}

impl Held {
    /// Gives it back: whoever asks for a place from now on finds it free. No answer waits long for a store that is slow:
    /// that is told in the background.
    pub(crate) async fn give_back(self) {
        if let Some(telling) = self.leave() {
            let _told_later = timeout(SOON, telling).await;
        }
    }

    /// Holds it no more; answers who tells the store, if that has heard of it.
    fn leave(&self) -> Option<JoinHandle<Option<()>>> {
        let Entry { place, store } = self.usage.entries().remove(&(self.kind, self.id))?;
        if store == Told::Not {
            return None;
        }
        let (usage, kind) = (self.usage.clone(), self.kind);
        let telling = async move { usage.tell_back(kind, &place.principal, place.id).await };
        Some(self.usage.tasks.spawn("give back", telling))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _in_the_background = self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::{MemoryStore, suite::place};

    #[tokio::test(start_paused = true)]
    async fn the_store_hears_of_what_is_limited_at_once_and_of_the_rest_when_it_takes_long() {
        let (store, me) = (Arc::new(MemoryStore::default()), Principal::named("me"));
        let usage = Usage::new(Arc::clone(&store) as Arc<dyn Store>, Tasks::new());
        let place = |principal: &Principal| Place { front_end: usage.front_end().to_owned(), ..place(principal) };
        let known = async || store.held(Kind::Call, Scope::Of(&me)).await.unwrap().len();
        let limited = usage.take(Kind::Call, place(&me), Some(1)).await.unwrap().unwrap();
        assert_eq!(known().await, 1);
        assert!(usage.take(Kind::Call, place(&me), Some(1)).await.unwrap().is_none());
        assert_eq!(usage.held(Kind::Call, Scope::All).await.unwrap().len(), 1, "who got no place holds none");
        limited.give_back().await;
        let short = usage.take(Kind::Call, place(&me), None).await.unwrap().unwrap();
        assert_eq!((known().await, usage.held(Kind::Call, Scope::Of(&me)).await.unwrap().len()), (0, 1));
        usage.keep().await;
        assert_eq!(known().await, 1);
        drop(short);
        tokio::task::yield_now().await;
        assert_eq!((known().await, usage.held(Kind::Call, Scope::All).await.unwrap().len()), (0, 0));
    }
}
