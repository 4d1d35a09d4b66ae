//! What every [`Store`] must pass.

use std::time::Duration;

use browserfleet_common::ids::{Principal, random_hex};
use tokio::time::sleep;
use uuid::Uuid;

use super::{Kind, Pace, Place, Store};
use crate::session::Scope;

/// Runs everything.
///
/// # Panics
/// When the store breaks its contract.
pub(super) async fn run(store: &dyn Store) {
    places_are_counted_by_principal_and_kind(store).await;
    nobody_gives_back_what_is_not_his(store).await;
    requests_come_at_a_pace(store).await;
    bytes_come_at_a_pace_of_their_own(store).await;
}

pub(super) fn place(principal: &Principal) -> Place {
    Place {
        id: Uuid::new_v4(),
        principal: principal.clone(),
        tool: "browser_click".to_owned(),
        session: Some("digest".to_owned()),
        front_end: "here".to_owned(),
        since: Duration::from_secs(7),
    }
}

fn somebody() -> Principal {
    Principal::named(random_hex())
}

async fn take(store: &dyn Store, kind: Kind, place: &Place, most: Option<usize>) -> bool {
    store.take(kind, place, most).await.expect("the store answers")
}

async fn held(store: &dyn Store, kind: Kind, principal: &Principal) -> Vec<Place> {
    store.held(kind, Scope::Of(principal)).await.expect("the store answers")
}

async fn places_are_counted_by_principal_and_kind(store: &dyn Store) {
    let (me, other) = (somebody(), somebody());
    let (first, second, third) = (place(&me), place(&me), place(&me));
    assert!(take(store, Kind::Call, &first, Some(2)).await && take(store, Kind::Call, &second, Some(2)).await);
    assert!(!take(store, Kind::Call, &third, Some(2)).await && !take(store, Kind::Call, &third, Some(0)).await);
    assert!(take(store, Kind::Call, &first, Some(2)).await, "whoever has one keeps it");
    assert!(take(store, Kind::Queue, &third, Some(1)).await, "another kind");
    assert!(take(store, Kind::Call, &place(&other), Some(1)).await, "others have their own");
    assert_eq!((held(store, Kind::Call, &me).await.len(), held(store, Kind::Queue, &me).await.len()), (2, 1));
    assert_eq!(held(store, Kind::Queue, &me).await, std::slice::from_ref(&third));
    store.give_back(Kind::Call, &me, first.id).await.expect("the store answers");
    assert!(take(store, Kind::Call, &third, Some(2)).await);
    assert!(take(store, Kind::Call, &first, None).await, "no limit");
}

async fn nobody_gives_back_what_is_not_his(store: &dyn Store) {
    let (me, other) = (somebody(), somebody());
    let mine = place(&me);
    assert!(take(store, Kind::Call, &mine, None).await);
    store.give_back(Kind::Call, &other, mine.id).await.expect("the store answers");
    store.give_back(Kind::Queue, &me, mine.id).await.expect("the store answers");
    assert_eq!(held(store, Kind::Call, &me).await, [mine]);
    assert!(held(store, Kind::Call, &other).await.is_empty());
}

async fn requests_come_at_a_pace(store: &dyn Store) {
    let (me, other) = (somebody(), somebody());
    let pass = async |who: &Principal| store.pass(Pace::Requests, who, 1, 4).await.expect("the store answers");
    for n in 0..4 {
        assert_eq!(pass(&me).await, None, "request {n} of a second's worth");
    }
    let wait = pass(&me).await.expect("one too many");
    assert!(wait <= Duration::from_millis(250), "{wait:?}");
    assert_eq!(pass(&other).await, None, "others have their own");
    sleep(wait + Duration::from_millis(5)).await;
    assert_eq!(pass(&me).await, None);
    assert!(pass(&me).await.is_some());
}

async fn bytes_come_at_a_pace_of_their_own(store: &dyn Store) {
    let me = somebody();
    let pass = async |pace, amount| store.pass(pace, &me, amount, 1 << 20).await.expect("the store answers");
    let (half, minute) = (1 << 19, Duration::from_mins(1));
    assert_eq!(pass(Pace::Uploads, half).await, None);
    let wait = pass(Pace::Uploads, half + (1 << 18)).await.expect("a quarter of an hour's worth too many");
    assert!(wait <= 15 * minute && wait > 14 * minute, "{wait:?}");
    assert_eq!(pass(Pace::Uploads, half).await, None, "what was refused was not counted");
    assert!(pass(Pace::Uploads, 1).await.is_some());
    assert_eq!(pass(Pace::Downloads, 1 << 20).await, None, "another pace");
    assert_eq!(pass(Pace::Requests, 1).await, None, "another pace");
    let never = store.pass(Pace::Uploads, &somebody(), 2, 1).await.expect("the store answers");
    assert!(never.is_some(), "more than there is at once");
}
