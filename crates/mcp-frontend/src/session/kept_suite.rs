//! What every place that keeps sessions must do with what is beside them: artifacts and checkpoints. Part of `session::suite`.

use std::{sync::Arc, time::Duration};

use browserfleet_common::{
    artifact::{Artifact, COUNT_MAX},
    checkpoint::CHECKPOINTS_MAX,
    ids::random_hex,
};
use tokio::time::sleep;

use super::{
    Created, Full, Key, LeaseState, Limits, NewSession, Owner, Record, Scope, Swapped,
    suite::{LONG, MANY, Place, fresh, key, lease, new, race, somebody, touched},
};

/// More than enough for what a part keeps.
const ROOM: usize = 64 << 20;
const LEASE: &str = "held";

pub(super) async fn run(place: impl Fn() -> Place, idle: Duration) {
    artifacts_are_their_sessions(place()).await;
    artifacts_go_with_their_session(place(), idle).await;
    the_oldest_artifacts_go(place()).await;
    whoever_holds_the_lease_saves(place()).await;
    a_session_that_lapsed_is_brought_back(place(), idle).await;
    limits_hold_for_those_that_come_back(place(), idle).await;
    the_first_to_end_of_too_many_parked_ones_go(place(), idle).await;
    nothing_comes_back_after_its_end(place(), idle).await;
    ends_leave_nothing_and_touch_no_other(place()).await;
}

fn artifact(name: &str, size: usize) -> Artifact {
    let (name, mime_type) = (name.to_owned(), "text/plain".to_owned());
    Artifact { id: random_hex(), name, mime_type, size, created: Duration::from_secs(7) }
}

impl Place {
    async fn keep(&self, of: &Owner, artifact: &Artifact, bytes: &[u8], room: usize) -> bool {
        self.artifacts.keep_artifact(of, artifact, bytes.to_vec(), room).await.expect("the store answers")
    }

    async fn kept(&self, of: &Owner, id: &str) -> Option<(Artifact, Vec<u8>)> {
        self.artifacts.artifact(of, id).await.expect("the store answers")
    }

    async fn all(&self, of: &Owner) -> Vec<Artifact> {
        self.artifacts.artifacts(of).await.expect("the store answers")
    }

    async fn save(&self, of: &Owner, lease: &str, bytes: &[u8]) -> bool {
        self.checkpoints.save_checkpoint(of, lease, bytes.to_vec()).await.expect("the store answers")
    }

    async fn load(&self, of: &Owner) -> Option<Vec<u8>> {
        self.checkpoints.load_checkpoint(of).await.expect("the store answers")
    }

    async fn revive(&self, key: &Key, limits: Limits) -> Option<Created> {
        self.sessions.revive(key, limits, LONG * 100).await.expect("the store answers")
    }

    /// A session that holds a lease and has a checkpoint.
    async fn saved(&self, new: NewSession, checkpoint: &[u8]) -> Record {
        let Ok(Created::Fresh(record)) = self.sessions.create(new, MANY).await else { panic!("nothing is there") };
        let bound = self.sessions.swap_lease(&record.key(), &record.birth, None, lease(LEASE)).await;
        assert_eq!(bound.expect("the store answers"), Swapped::Done);
        assert!(self.save(&record.owner(), LEASE, checkpoint).await);
        record
    }
}

async fn artifacts_are_their_sessions(place: Place) {
    let (me, other) = (somebody(), somebody());
    let mine = fresh(&*place.sessions, &key(&me, "same")).await.owner();
    let his = fresh(&*place.sessions, &key(&other, "same")).await.owner();
    let (one, two) = (artifact("one", 3), artifact("two", 4));
    let binary = b"\x00\xff\n\r{}".repeat(30_000);
    assert!(place.keep(&mine, &one, &binary, ROOM).await && place.keep(&mine, &two, b"two", ROOM).await);
    assert_eq!(place.kept(&mine, &one.id).await, Some((one.clone(), binary.clone())));
    assert_eq!(place.all(&mine).await, [one.clone(), two.clone()]);
    // Asked again because an answer was lost: it is kept once, and as it was.
    assert!(place.keep(&mine, &one, b"something else", ROOM).await);
    assert_eq!(place.all(&mine).await, [one.clone(), two]);
    assert_eq!(place.kept(&mine, &one.id).await, Some((one.clone(), binary)));
    let reborn = Owner { birth: random_hex(), ..mine.clone() };
    for foreign in [&his, &reborn] {
        assert_eq!(place.kept(foreign, &one.id).await, None);
        assert_eq!(place.all(foreign).await, []);
    }
    assert!(!place.keep(&reborn, &artifact("late", 1), b"x", ROOM).await, "of a session that is no more");
    assert_eq!(place.kept(&mine, "*").await, None);
}

async fn artifacts_go_with_their_session(place: Place, idle: Duration) {
    let key = key(&somebody(), "idle");
    let Ok(Created::Fresh(record)) = place.sessions.create(NewSession { idle_ttl: idle, ..new(&key) }, MANY).await
    else {
        panic!("nothing is there")
    };
    let one = artifact("one", 1);
    assert!(place.keep(&record.owner(), &one, b"1", ROOM).await);
    for _ in 0..3 {
        sleep(idle * 2 / 3).await;
        assert!(touched(&*place.sessions, &key).await.is_some());
    }
    assert!(place.kept(&record.owner(), &one.id).await.is_some(), "prolonged with its session");
    sleep(idle * 3 / 2).await;
    assert_eq!(place.kept(&record.owner(), &one.id).await, None);
    assert!(!place.keep(&record.owner(), &one, b"1", ROOM).await);
    let again = fresh(&*place.sessions, &key).await;
    assert_eq!(place.all(&again.owner()).await, []);
    place.keep(&again.owner(), &one, b"1", ROOM).await;
    place.sessions.end(&key, None).await.expect("the store answers");
    assert_eq!(place.kept(&again.owner(), &one.id).await, None);
}

async fn the_oldest_artifacts_go(place: Place) {
    let owner = fresh(&*place.sessions, &key(&somebody(), "full")).await.owner();
    let all: Vec<Artifact> = (0..COUNT_MAX + 3).map(|n| artifact(&n.to_string(), 10)).collect();
    for artifact in &all {
        assert!(place.keep(&owner, artifact, &[0; 10], ROOM).await);
    }
    assert_eq!(place.all(&owner).await, all[3..]);
    assert!(place.kept(&owner, &all[2].id).await.is_none() && place.kept(&owner, &all[3].id).await.is_some());
    // Room for three of them.
    let last = artifact("last", 10);
    assert!(place.keep(&owner, &last, &[0; 10], 35).await);
    assert_eq!(place.all(&owner).await, [&all[COUNT_MAX + 1..], &[last]].concat());
    // The latest stays, however large.
    let large = artifact("large", 100);
    assert!(place.keep(&owner, &large, &[0; 100], 35).await);
    assert_eq!(place.all(&owner).await, [large]);
}

async fn whoever_holds_the_lease_saves(place: Place) {
    let key = key(&somebody(), "saved");
    let record = fresh(&*place.sessions, &key).await;
    let owner = record.owner();
    assert!(!record.restorable && !place.save(&owner, LEASE, b"early").await, "it holds nothing yet");
    place.sessions.swap_lease(&key, &record.birth, None, lease(LEASE)).await.expect("the store answers");
    assert!(place.save(&owner, LEASE, b"one\x00\xff").await);
    assert_eq!(place.load(&owner).await.as_deref(), Some(&b"one\x00\xff"[..]));
    assert!(touched(&*place.sessions, &key).await.is_some_and(|record| record.restorable));
    assert!(place.save(&owner, LEASE, b"two").await && !place.save(&owner, "another", b"three").await);
    assert_eq!(place.load(&owner).await.as_deref(), Some(&b"two"[..]));
    let reborn = Owner { birth: random_hex(), ..owner.clone() };
    assert!(!place.save(&reborn, LEASE, b"four").await && place.load(&reborn).await.is_none());
    // It stays when the lease goes, for the next one.
    place
        .sessions
        .swap_lease(&key, &record.birth, Some(LEASE), LeaseState::default())
        .await
        .expect("the store answers");
    assert!(!place.save(&owner, LEASE, b"late").await);
    assert_eq!(place.load(&owner).await.as_deref(), Some(&b"two"[..]));
    place.checkpoints.drop_checkpoint(&owner).await.expect("the store answers");
    assert_eq!(place.load(&owner).await, None);
    assert!(touched(&*place.sessions, &key).await.is_some_and(|record| !record.restorable));
}

async fn a_session_that_lapsed_is_brought_back(place: Place, idle: Duration) {
    let me = somebody();
    let key = key(&me, "parked");
    assert_eq!(place.revive(&key, MANY).await, None, "there never was one");
    let record = place.saved(NewSession { idle_ttl: idle, ..new(&key) }, b"checkpoint").await;
    place.keep(&record.owner(), &artifact("one", 1), b"1", ROOM).await;
    assert!(matches!(place.revive(&key, MANY).await, Some(Created::Existing(living)) if living.lease == lease(LEASE)));
    sleep(idle * 3 / 2).await;
    assert!(touched(&*place.sessions, &key).await.is_none());
    assert_eq!(place.sessions.counts(&me).await.expect("the store answers").of_principal, 0);
    assert!(place.sessions.list(Scope::Of(&me)).await.expect("the store answers").is_empty());
    place.sessions.sweep().await.expect("the store answers");
    let place = Arc::new(place);
    let revived = race(16, |_| {
        let (place, key) = (Arc::clone(&place), key.clone());
        async move { place.revive(&key, MANY).await }
    })
    .await;
    for revived in revived {
        let Some(Created::Existing(revived)) = revived else { panic!("{revived:?}") };
        assert_eq!((&revived.birth, revived.restorable, revived.lease), (&record.birth, true, LeaseState::default()));
        assert_eq!(
            (revived.connection, revived.client, revived.egress),
            (record.connection.clone(), record.client.clone(), record.egress.clone())
        );
        assert_eq!((revived.created, revived.idle_ttl), (record.created, record.idle_ttl));
    }
    assert!(touched(&*place.sessions, &key).await.is_some_and(|record| record.restorable));
    assert_eq!(place.sessions.counts(&me).await.expect("the store answers").of_principal, 1);
    assert_eq!(place.load(&record.owner()).await.as_deref(), Some(&b"checkpoint"[..]));
    assert_eq!(place.all(&record.owner()).await, [], "artifacts have gone when it lapsed");
    sleep(idle * 3 / 2).await;
    assert!(touched(&*place.sessions, &key).await.is_none(), "it lapses like any other");
    assert!(place.revive(&key, MANY).await.is_some(), "and comes back as often as it is wanted");
}

async fn limits_hold_for_those_that_come_back(place: Place, idle: Duration) {
    let me = somebody();
    let parked = key(&me, "parked");
    place.saved(NewSession { idle_ttl: idle, ..new(&parked) }, b"checkpoint").await;
    sleep(idle * 3 / 2).await;
    let limits = Limits { per_principal: 1, total: 10_000 };
    let other = place.sessions.create(new(&key(&me, "other")), limits).await;
    assert!(matches!(other, Ok(Created::Fresh(_))), "one that has lapsed takes no place");
    assert_eq!(place.revive(&parked, limits).await, Some(Created::Full(Full::Principal)));
    assert!(matches!(place.revive(&parked, MANY).await, Some(Created::Existing(_))));
}

async fn the_first_to_end_of_too_many_parked_ones_go(place: Place, idle: Duration) {
    const BEYOND: usize = 3;
    let (me, other) = (somebody(), somebody());
    let gone = key(&me, "gone");
    place.saved(new(&gone), b"ended by its owner").await;
    place.sessions.end(&gone, None).await.expect("the store answers");
    let ends_first = |key: &Key| NewSession { max_lifetime: LONG * 2, ..new(key) };
    let his = NewSession { idle_ttl: idle, ..ends_first(&key(&other, "his")) };
    let mut stay =
        vec![place.saved(his, b"of another").await, place.saved(ends_first(&key(&me, "lives")), b"lives").await];
    let mut parked = Vec::new();
    // The later it was made, the sooner it ends. With the one that lives they are as many as may be.
    for n in (0..CHECKPOINTS_MAX - 1).rev() {
        let key = key(&me, &format!("parked-{n}"));
        let max_lifetime = LONG * 3 + Duration::from_secs(n.try_into().expect("there are few"));
        parked.push(place.saved(NewSession { idle_ttl: idle, max_lifetime, ..new(&key) }, b"parked").await);
    }
    sleep(idle * 3 / 2).await;
    place.sessions.sweep().await.expect("the store answers");
    for n in 0..BEYOND {
        stay.push(place.saved(new(&key(&me, &format!("new-{n}"))), b"new").await);
    }
    let go = parked.split_off(parked.len() - BEYOND);
    stay.append(&mut parked);
    for (records, there) in [(&stay, true), (&go, false)] {
        for record in records {
            assert_eq!(place.load(&record.owner()).await.is_some(), there, "{:?}", record.name);
        }
    }
}

async fn nothing_comes_back_after_its_end(place: Place, idle: Duration) {
    let me = somebody();
    // Its longest lifetime is over.
    let old = key(&me, "old");
    place.saved(NewSession { idle_ttl: idle, max_lifetime: idle * 2, ..new(&old) }, b"checkpoint").await;
    // Ended after it has lapsed, and before.
    let (parked, living) = (key(&me, "parked"), key(&me, "living"));
    let record = place.saved(NewSession { idle_ttl: idle, ..new(&parked) }, b"checkpoint").await;
    place.saved(new(&living), b"checkpoint").await;
    assert!(place.sessions.end(&living, None).await.expect("the store answers").is_some());
    assert_eq!(place.revive(&living, MANY).await, None);
    sleep(idle * 3 / 2).await;
    assert!(place.sessions.end(&parked, Some("another birth")).await.expect("the store answers").is_none());
    let ended = place.sessions.end(&parked, Some(&record.birth)).await.expect("the store answers");
    assert_eq!(ended.map(|record| record.birth), Some(record.birth.clone()));
    assert_eq!((place.revive(&parked, MANY).await, place.load(&record.owner()).await), (None, None));
    sleep(idle).await;
    assert_eq!(place.revive(&old, MANY).await, None);
}

async fn ends_leave_nothing_and_touch_no_other(place: Place) {
    let me = somebody();
    let payload = random_hex().repeat(4000);
    let mut records = Vec::new();
    for n in 0..50 {
        let record = place.saved(new(&key(&me, &format!("s{n}"))), payload.as_bytes()).await;
        assert!(place.keep(&record.owner(), &artifact("large", payload.len()), payload.as_bytes(), ROOM).await);
        records.push(record);
    }
    let (ended, others) = records.split_at(25);
    for record in ended {
        place.sessions.end(&record.key(), None).await.expect("the store answers");
    }
    for record in ended {
        assert_eq!((place.all(&record.owner()).await, place.load(&record.owner()).await), (Vec::new(), None));
    }
    for record in others {
        let [artifact] = &place.all(&record.owner()).await[..] else { panic!("it has one") };
        let kept = place.kept(&record.owner(), &artifact.id).await.expect("it is there").1;
        assert_eq!(
            (kept, place.load(&record.owner()).await),
            (payload.clone().into_bytes(), Some(payload.clone().into_bytes()))
        );
        place.sessions.end(&record.key(), None).await.expect("the store answers");
    }
}
