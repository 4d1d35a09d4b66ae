//! What every [`Store`] must pass.

use std::{collections::HashSet, sync::Arc, time::Duration};

use browserfleet_common::{
    ids::{Principal, SessionName, random_hex},
    lifecycle::Tasks,
};
use browserfleet_tools::{Group, Groups};
use serde_json::json;
use tokio::time::sleep;

use super::{Bounds, Key, NewConnection, Record, SESSIONS_MAX, Store};
use crate::session::Client;

/// Most connections of one principal.
const SHARE: usize = 8;

/// Of a store for [`run`], with room for `most` connections: a thousand.
pub fn bounds(ttl: Duration, most: usize) -> Bounds {
    Bounds { ttl, most, per_principal: SHARE }
}

/// Runs everything, each part on a store of its own that keeps connections for `ttl`: with real time, one that a busy machine
/// keeps.
///
/// # Panics
/// When the store breaks its contract.
pub async fn run(store: impl Fn() -> Arc<dyn Store>, ttl: Duration) {
    lives_while_it_is_touched(store(), ttl).await;
    remembers_the_latest_sessions(store()).await;
    streams_are_numbered_across_racers(store()).await;
    end_forgets_it_once(store()).await;
    nobody_sees_what_is_not_his(store()).await;
    nobody_takes_the_places_of_others(store()).await;
}

fn key() -> Key {
    Key { principal: Principal::named(random_hex()), id: random_hex() }
}

async fn fresh(store: &dyn Store, key: &Key) -> Record {
    let client = Client { name: Some("suite".to_owned()), ..Client::default() };
    let caps = Some(Groups::from_iter([Group::Storage]));
    let new = NewConnection { key: key.clone(), initialize: json!({ "protocolVersion": "2025-11-25" }), client, caps };
    store.create(new).await.expect("the store answers").expect("there is room")
}

async fn nobody_takes_the_places_of_others(store: Arc<dyn Store>) {
    let greedy = || Key { principal: Principal::named("greedy"), id: random_hex() };
    let tried = async |key: Key| {
        let new = NewConnection { key, initialize: json!({}), client: Client::default(), caps: None };
        store.create(new).await.expect("the store answers").is_some()
    };
    let first = greedy();
    assert!(tried(first.clone()).await);
    for _ in 1..SHARE {
        assert!(tried(greedy()).await);
    }
    assert!(!tried(greedy()).await, "it has its share");
    fresh(&*store, &key()).await;
    assert!(store.end(&first).await.expect("the store answers").is_some());
    assert!(tried(greedy()).await, "one that has ended makes room");
}

async fn touched(store: &dyn Store, key: &Key) -> Option<Record> {
    store.touch(key).await.expect("the store answers")
}

async fn lives_while_it_is_touched(store: Arc<dyn Store>, ttl: Duration) {
    let key = key();
    let record = fresh(&*store, &key).await;
    let count = store.count().await.expect("the store answers");
    for _ in 0..4 {
        sleep(ttl * 2 / 3).await;
        let seen = touched(&*store, &key).await.expect("it lives");
        assert_eq!((&seen.initialize, &seen.client, seen.caps), (&record.initialize, &record.client, record.caps));
        assert_eq!(seen.default_session, record.default_session);
    }
    sleep(ttl * 11 / 10).await;
    assert!(touched(&*store, &key).await.is_none());
    assert_eq!(store.take_stream(&key).await.expect("the store answers"), None);
    assert!(store.end(&key).await.expect("the store answers").is_none());
    store.sweep().await.expect("the store answers");
    assert_eq!(store.count().await.expect("the store answers"), count - 1);
}

async fn remembers_the_latest_sessions(store: Arc<dyn Store>) {
    let key = key();
    let default = fresh(&*store, &key).await.default_session;
    let names: Vec<_> = (0..=SESSIONS_MAX).map(|_| SessionName::mint()).collect();
    for name in names.iter().chain(names.last()) {
        store.remember(&key, name).await.expect("the store answers");
    }
    let record = touched(&*store, &key).await.expect("it lives");
    assert_eq!(record.sessions, names[1..], "the oldest gave way, the last is there once");
    assert!(record.knows(&default) && record.knows(&names[1]) && !record.knows(&names[0]));
}

async fn streams_are_numbered_across_racers(store: Arc<dyn Store>) {
    let key = key();
    fresh(&*store, &key).await;
    let tasks = Tasks::new();
    let racers: Vec<_> = (0..64)
        .map(|_| {
            let (store, key) = (Arc::clone(&store), key.clone());
            tasks.spawn("racer", async move { store.take_stream(&key).await.expect("the store answers") })
        })
        .collect();
    let mut numbers = HashSet::new();
    for racer in racers {
        numbers.insert(racer.await.expect("not aborted").expect("no panic").expect("it lives"));
    }
    assert_eq!(numbers.len(), 64);
    let last = store.take_stream(&key).await.expect("the store answers").expect("it lives");
    assert!(numbers.iter().all(|number| *number < last));
}

async fn end_forgets_it_once(store: Arc<dyn Store>) {
    let key = key();
    let record = fresh(&*store, &key).await;
    let ended = store.end(&key).await.expect("the store answers");
    assert_eq!(ended.map(|ended| ended.default_session), Some(record.default_session));
    assert!(store.end(&key).await.expect("the store answers").is_none());
    assert!(touched(&*store, &key).await.is_none());
    store.remember(&key, &SessionName::mint()).await.expect("the store answers");
    assert!(touched(&*store, &key).await.is_none(), "remembering revives nothing");
}

async fn nobody_sees_what_is_not_his(store: Arc<dyn Store>) {
    let mine = key();
    fresh(&*store, &mine).await;
    let his = Key { principal: Principal::named(random_hex()), id: mine.id.clone() };
    assert!(touched(&*store, &his).await.is_none());
    assert_eq!(store.take_stream(&his).await.expect("the store answers"), None);
    assert!(store.end(&his).await.expect("the store answers").is_none());
    assert!(touched(&*store, &mine).await.is_some());
}
