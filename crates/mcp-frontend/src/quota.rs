//! How much of something each principal uses on this front end.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use browserfleet_common::ids::Principal;

/// Counts places by principal.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quota {
    /// A plain mutex: every use is one map operation, none waits. Who has no place is not in the map.
    taken: Arc<Mutex<HashMap<Principal, usize>>>,
}

impl Quota {
    /// A place, until it is dropped; `None`: `most` are taken.
    pub(crate) fn take(&self, principal: &Principal, most: Option<usize>) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.get(principal).copied().unwrap_or_default();
        if most.is_some_and(|most| count >= most) {
            return None;
        }
        taken.insert(principal.clone(), count + 1);
        Some(Place { quota: self.clone(), principal: principal.clone() })
    }

    /// How many places a principal has.
    pub(crate) fn taken(&self, principal: &Principal) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(principal).copied().unwrap_or_default()
    }
}

/// A place of a principal.
#[derive(Debug)]
pub(crate) struct Place {
    quota: Quota,
    principal: Principal,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.quota.taken.lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(&self.principal) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.principal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_principal_and_come_back() {
        let (quota, one, other) = (Quota::default(), Principal::named("one"), Principal::named("other"));
        let (first, second) = (quota.take(&one, Some(2)).unwrap(), quota.take(&one, Some(2)).unwrap());
        assert!(quota.take(&one, Some(2)).is_none() && quota.take(&one, Some(0)).is_none());
        assert!(quota.take(&other, Some(1)).is_some(), "others have their own");
        assert_eq!((quota.taken(&one), quota.taken(&other)), (2, 0));
        drop(first);
        assert!(quota.take(&one, Some(2)).is_some());
        drop(second);
        assert!(quota.take(&one, None).is_some());
        assert_eq!(quota.taken.lock().unwrap().len(), 0, "nobody is remembered");
    }
}
