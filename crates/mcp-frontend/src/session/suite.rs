//! What every [`Store`] must pass. Time goes by with `tokio::time`: paused for stores in memory, real for others, whose
//! sessions need an idle time that a busy machine keeps.

use std::{sync::Arc, time::Duration};

use browserfleet_common::{
    artifact, checkpoint,
    egress::Egress,
    ids::{Principal, SessionName},
    lifecycle::Tasks,
};
use tokio::time::sleep;

use super::{
    Client, Counts, Created, Full, Key, LeaseRef, LeaseState, Limits, Loss, LossReason, NewSession, Record, Scope,
    Store, Swapped, kept_suite,
};

/// The idle time of sessions that must not expire during a part.
pub(super) const LONG: Duration = Duration::from_mins(1);
pub(super) const MANY: Limits = Limits { per_principal: 1000, total: 10_000 };

/// A place that keeps sessions and what is beside them.
#[derive(Clone, Debug)]
pub struct Place {
    pub sessions: Arc<dyn Store>,
    pub artifacts: Arc<dyn artifact::Store>,
    pub checkpoints: Arc<dyn checkpoint::Store>,
}

/// Runs everything, each part in a place of its own: empty, or holding only what other principals left. Sessions that have to
/// expire do so after `idle`.
///
/// # Panics
/// When the place breaks its contract.
pub async fn run(place: impl Fn() -> Place, idle: Duration) {
    let store = || place().sessions;
    creates_once(store()).await;
    limits_hold_for_creation_only(store()).await;
    expires_when_idle(store(), idle).await;
    ends_at_its_longest_lifetime(store(), idle).await;
    one_of_many_binds(store()).await;
    birth_guards_the_lease(store()).await;
    end_removes_once_and_for_all(store()).await;
    nobody_sees_what_is_not_his(store()).await;
    mass_deletion_leaves_nothing(store()).await;
    kept_suite::run(place, idle).await;
}

pub(super) fn somebody() -> Principal {
    Principal::named(SessionName::mint().as_str())
}

pub(super) fn key(principal: &Principal, name: &str) -> Key {
    Key { principal: principal.clone(), name: SessionName::parse(name).expect("a valid name") }
}

pub(super) fn new(key: &Key) -> NewSession {
    NewSession {
        key: key.clone(),
        connection: Some("connection".to_owned()),
        client: Client { name: Some("suite".to_owned()), ..Client::default() },
        egress: Egress { blocked_origins: vec!["evil.example".to_owned()], ..Egress::default() },
        idle_ttl: LONG,
        max_lifetime: LONG * 100,
    }
}

pub(super) fn lease(id: &str) -> LeaseState {
    let (lease_id, token, daemon) = (id.to_owned(), format!("token of {id}"), "somewhere".to_owned());
    LeaseState::held(LeaseRef { lease_id, token, daemon })
}

pub(super) async fn fresh(store: &dyn Store, key: &Key) -> Record {
    match store.create(new(key), MANY).await {
        Ok(Created::Fresh(record)) => record,
        other => panic!("expected a fresh session, got {other:?}"),
    }
}

pub(super) async fn touched(store: &dyn Store, key: &Key) -> Option<Record> {
    store.touch(key).await.expect("the store answers")
}

/// Runs `count` tasks at once and collects what they answer.
pub(super) async fn race<T, F>(count: usize, task: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let tasks = Tasks::new();
    let running: Vec<_> = (0..count).map(|n| tasks.spawn("racer", task(n))).collect();
    let mut answers = Vec::new();
    for racer in running {
        answers.push(racer.await.expect("no racer is aborted").expect("no racer panics"));
    }
    answers
}

async fn creates_once(store: Arc<dyn Store>) {
    let key = key(&somebody(), "shared");
    let created = race(64, |_| {
        let (store, new) = (Arc::clone(&store), new(&key));
        async move { store.create(new, MANY).await.expect("the store answers") }
    })
    .await;
    assert_eq!(created.iter().filter(|created| matches!(created, Created::Fresh(_))).count(), 1);
    let births: std::collections::HashSet<_> = created
        .iter()
        .map(|created| match created {
            Created::Fresh(record) | Created::Existing(record) => record.birth.clone(),
            Created::Full(_) => panic!("nothing is full"),
        })
        .collect();
    assert_eq!(births.len(), 1, "everybody sees the same session");
    let record = touched(&*store, &key).await.expect("it lives");
    assert_eq!((record.connection.as_deref(), record.client.name.as_deref()), (Some("connection"), Some("suite")));
}

async fn limits_hold_for_creation_only(store: Arc<dyn Store>) {
    let (me, other) = (somebody(), somebody());
    let limits = Limits { per_principal: 2, total: 10_000 };
    for name in ["a", "b"] {
        assert!(matches!(store.create(new(&key(&me, name)), limits).await, Ok(Created::Fresh(_))));
    }
    assert!(matches!(store.create(new(&key(&me, "c")), limits).await, Ok(Created::Full(Full::Principal))));
    assert!(matches!(store.create(new(&key(&me, "a")), limits).await, Ok(Created::Existing(_))));
    assert!(matches!(store.create(new(&key(&other, "c")), limits).await, Ok(Created::Fresh(_))));
    let total = store.counts(&me).await.expect("the store answers").total;
    let limits = Limits { per_principal: 1000, total };
    assert!(matches!(store.create(new(&key(&other, "d")), limits).await, Ok(Created::Full(Full::Total))));
    // A place that became free can be taken.
    store.end(&key(&me, "a"), None).await.expect("the store answers");
    assert!(matches!(store.create(new(&key(&me, "c")), MANY).await, Ok(Created::Fresh(_))));
}

async fn expires_when_idle(store: Arc<dyn Store>, idle: Duration) {
    let me = somebody();
    let key = key(&me, "idle");
    let new = || NewSession { idle_ttl: idle, ..new(&key) };
    let Ok(Created::Fresh(first)) = store.create(new(), MANY).await else { panic!("nothing is there") };
    for _ in 0..4 {
        sleep(idle * 2 / 3).await;
        assert!(touched(&*store, &key).await.is_some(), "a call prolongs it");
    }
    sleep(idle * 2 / 3).await;
    store.list(Scope::Of(&me)).await.expect("the store answers");
    store.counts(&me).await.expect("the store answers");
    store.create(new(), MANY).await.expect("the store answers");
    sleep(idle / 2).await;
    assert!(touched(&*store, &key).await.is_none(), "looking at it does not prolong it");
    assert_eq!(store.counts(&me).await.expect("the store answers").of_principal, 0);
    assert!(store.list(Scope::Of(&me)).await.expect("the store answers").is_empty());
    assert!(store.end(&key, None).await.expect("the store answers").is_none());
    store.sweep().await.expect("the store answers");
    assert!(store.sweep().await.expect("the store answers").is_empty(), "each is swept once");
    assert_ne!(fresh(&*store, &key).await.birth, first.birth);
}

async fn ends_at_its_longest_lifetime(store: Arc<dyn Store>, idle: Duration) {
    let key = key(&somebody(), "old");
    let new = NewSession { idle_ttl: idle, max_lifetime: idle * 2, ..new(&key) };
    store.create(new, MANY).await.expect("the store answers");
    for _ in 0..3 {
        sleep(idle / 2).await;
        assert!(touched(&*store, &key).await.is_some());
    }
    sleep(idle * 3 / 5).await;
    assert!(touched(&*store, &key).await.is_none(), "used all the time, and ended");
}

async fn one_of_many_binds(store: Arc<dyn Store>) {
    let key = key(&somebody(), "raced");
    let birth = fresh(&*store, &key).await.birth;
    let answers = race(64, |n| {
        let (store, key, birth) = (Arc::clone(&store), key.clone(), birth.clone());
        async move { store.swap_lease(&key, &birth, None, lease(&n.to_string())).await.expect("the store answers") }
    })
    .await;
    assert_eq!(answers.iter().filter(|answer| **answer == Swapped::Done).count(), 1);
    let held = touched(&*store, &key).await.expect("it lives").lease;
    assert!(
        answers.iter().all(|answer| *answer == Swapped::Done || *answer == Swapped::Conflict(held.clone())),
        "losers learn who won"
    );
    // Of many that find it lost, one changes it.
    let held_id = held.lease.expect("somebody won").lease_id;
    let loss = LeaseState::lost(Loss {
        lease_id: held_id.clone(),
        daemon: "http://daemon".to_owned(),
        reason: LossReason::LeaseEnded,
        detail: Some("é".to_owned()),
    });
    let answers = race(64, |_| {
        let (store, key, birth, held_id, loss) =
            (Arc::clone(&store), key.clone(), birth.clone(), held_id.clone(), loss.clone());
        async move { store.swap_lease(&key, &birth, Some(&held_id), loss).await.expect("the store answers") }
    })
    .await;
    assert_eq!(answers.iter().filter(|answer| **answer == Swapped::Done).count(), 1);
    assert_eq!(touched(&*store, &key).await.expect("it lives").lease, loss);
}

async fn birth_guards_the_lease(store: Arc<dyn Store>) {
    let key = key(&somebody(), "reborn");
    let old = fresh(&*store, &key).await;
    store.end(&key, None).await.expect("the store answers");
    let swapped = store.swap_lease(&key, &old.birth, None, lease("late")).await;
    assert_eq!(swapped.expect("the store answers"), Swapped::Gone);
    let reborn = fresh(&*store, &key).await;
    assert_eq!(reborn.lease, LeaseState::default(), "nothing of the old one is left");
    let swapped = store.swap_lease(&key, &old.birth, None, lease("late")).await;
    assert_eq!(swapped.expect("the store answers"), Swapped::Gone);
    assert!(store.end(&key, Some(&old.birth)).await.expect("the store answers").is_none());
    assert_eq!(touched(&*store, &key).await.expect("it lives").birth, reborn.birth);
}

async fn end_removes_once_and_for_all(store: Arc<dyn Store>) {
    let me = somebody();
    let key = key(&me, "ended");
    let birth = fresh(&*store, &key).await.birth;
    store.swap_lease(&key, &birth, None, lease("held")).await.expect("the store answers");
    let ended = race(64, |_| {
        let (store, key) = (Arc::clone(&store), key.clone());
        async move { store.end(&key, None).await.expect("the store answers") }
    })
    .await;
    let mut ended = ended.into_iter().flatten();
    let record = ended.next().expect("one of them ends it");
    assert!(ended.next().is_none(), "only one");
    assert_eq!(record.lease, lease("held"), "and learns which lease to return");
    assert!(touched(&*store, &key).await.is_none());
    assert_eq!(store.counts(&me).await.expect("the store answers").of_principal, 0);
}

async fn nobody_sees_what_is_not_his(store: Arc<dyn Store>) {
    let (me, other) = (somebody(), somebody());
    let (mine, his) = (key(&me, "same-name"), key(&other, "same-name"));
    let birth = fresh(&*store, &mine).await.birth;
    assert!(touched(&*store, &his).await.is_none());
    assert!(store.end(&his, Some(&birth)).await.expect("the store answers").is_none());
    let swapped = store.swap_lease(&his, &birth, None, lease("stolen")).await;
    assert_eq!(swapped.expect("the store answers"), Swapped::Gone);
    assert!(store.list(Scope::Of(&other)).await.expect("the store answers").is_empty());
    assert_eq!(store.counts(&other).await.expect("the store answers").of_principal, 0);
    assert_ne!(fresh(&*store, &his).await.birth, birth);
    let everything = store.list(Scope::All).await.expect("the store answers");
    assert!([&me, &other].iter().all(|who| everything.iter().any(|record| record.principal == **who)));
}

async fn mass_deletion_leaves_nothing(store: Arc<dyn Store>) {
    let me = somebody();
    for n in 0..500 {
        fresh(&*store, &key(&me, &format!("s{n}"))).await;
    }
    let counts = store.counts(&me).await.expect("the store answers");
    assert_eq!(counts.of_principal, 500);
    for record in store.list(Scope::Of(&me)).await.expect("the store answers") {
        let ended = store.end(&record.key(), Some(&record.birth)).await.expect("the store answers");
        assert_eq!(ended.map(|record| record.birth), Some(record.birth));
    }
    let after = store.counts(&me).await.expect("the store answers");
    assert_eq!(after, Counts { of_principal: 0, total: counts.total - 500 });
}
