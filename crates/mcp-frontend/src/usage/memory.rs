//! Usage of one front end, in this process.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use browserfleet_common::ids::Principal;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Kind, Pace, Place, Store};
use crate::{Unavailable, session::Scope};

/// Principals whose pace is remembered before those are forgotten that are not early.
const PACES: usize = 1000;

/// Places in a map. They end with the process, so they need not lapse.
#[derive(Debug, Default)]
pub struct MemoryStore {
    /// Plain mutexes: every use is a few map operations, none waits.
    places: Mutex<HashMap<(Kind, Uuid), Place>>,
    /// When the next of it would be due if it came evenly.
    paces: Mutex<HashMap<(Pace, Principal), Instant>>,
}

#[async_trait]
impl Store for MemoryStore {
    async fn take(&self, kind: Kind, place: &Place, most: Option<usize>) -> Result<bool, Unavailable> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let others = places
            .iter()
            .filter(|((of, id), held)| *of == kind && held.principal == place.principal && *id != place.id);
        if most.is_some_and(|most| others.count() >= most) && !places.contains_key(&(kind, place.id)) {
            return Ok(false);
        }
        places.insert((kind, place.id), place.clone());
        Ok(true)
    }

    async fn give_back(&self, kind: Kind, principal: &Principal, id: Uuid) -> Result<(), Unavailable> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if places.get(&(kind, id)).is_some_and(|place| place.principal == *principal) {
            places.remove(&(kind, id));
        }
        Ok(())
    }

    async fn held(&self, kind: Kind, scope: Scope<'_>) -> Result<Vec<Place>, Unavailable> {
        let in_scope = |place: &Place| match scope {
            Scope::Of(principal) => place.principal == *principal,
            Scope::All => true,
        };
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let held = places.iter().filter(|((of, _), place)| *of == kind && in_scope(place));
        Ok(held.map(|(_, place)| place.clone()).collect())
    }

    async fn pass(
        &self,
        pace: Pace,
        principal: &Principal,
        amount: u64,
        allowance: u64,
    ) -> Result<Option<Duration>, Unavailable> {
        let window = pace.window();
        let nanos = window.as_nanos().saturating_mul(amount.into()) / u128::from(allowance.max(1));
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = Instant::now();
        let mut paces = self.paces.lock().unwrap_or_else(PoisonError::into_inner);
        if paces.len() >= PACES {
            paces.retain(|_, due| *due > now);
        }
        let key = (pace, principal.clone());
        let due = paces.get(&key).copied().unwrap_or(now).max(now);
        let early = (due - now).saturating_add(takes).saturating_sub(window);
        if !early.is_zero() {
            return Ok(Some(early));
        }
        paces.insert(key, due + takes);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::suite;

    #[tokio::test(start_paused = true)]
    async fn keeps_the_contract() {
        suite::run(&MemoryStore::default()).await;
    }
}
