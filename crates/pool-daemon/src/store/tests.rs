//! A pool of fake browsers against a real Redis.

use std::sync::Arc;

use browserfleet_common::{
    egress::{Egress, EgressRules},
    ids::{Principal, SessionName},
    lifecycle::{Shutdown, Tasks},
    redis::{Directory, directory::Entry, looking::Sight, sessions::NewSession, testing::Server},
    session::{self, Client, Created, LeaseRef, LeaseState, Limits},
};
use futures_util::future::join_all;
use tokio::{
    sync::watch,
    time::{Duration, Instant, sleep, timeout},
};

use super::*;
use crate::{
    pool::{self, Key, Leased, Pressure, test_limits},
    testing::FakeLauncher,
};

const SECOND: Duration = Duration::from_secs(1);
/// For what takes a second or two when nothing else runs.
const LIMIT: Duration = Duration::from_secs(20);
const ADDRESS: &str = "http://127.0.0.1:50051";

struct Scene {
    server: Server,
    sessions: Sessions,
    handle: Handle,
    launcher: Arc<FakeLauncher>,
    _pressure: watch::Sender<Pressure>,
    tasks: Tasks,
    shutdown: Shutdown,
}

impl Scene {
    async fn new(max_browsers: usize) -> Self {
        let (tasks, shutdown, server) = (Tasks::new(), Shutdown::new(), Server::start().await);
        let launcher = FakeLauncher::new(&tasks);
        let (pressure, receiver) = watch::channel(Pressure::default());
        let mut limits = test_limits(max_browsers, 0);
        (limits.sessions_are_watched, limits.max_starting, limits.max_queue) = (true, max_browsers, max_browsers);
        (limits.per_principal.max_leases, limits.per_principal.max_waiting) = (max_browsers, max_browsers);
        let handle = pool::driver::start(limits, "pool".to_owned(), Arc::clone(&launcher) as _, receiver, &tasks);
        start(server.settings(), Name::Address(ADDRESS.to_owned()), &handle, &tasks, &shutdown);
        let sessions = Sessions::new(server.client());
        Self { server, sessions, handle, launcher, _pressure: pressure, tasks, shutdown }
    }

    /// A session of this name with a lease, as a front end makes it. Neither the store nor the daemon hears of it again.
    async fn session(&self, name: &str, idle_ttl: Duration) -> Arc<Leased> {
        let (key, birth) = (key(name), "1");
        let created = self.sessions.create(new(&key, birth, idle_ttl)).await.unwrap();
        assert!(matches!(created, Created::Fresh(_)), "{created:?}");
        let asked = Key { principal: "p".to_owned(), session: name.to_owned(), birth: birth.to_owned() };
        let egress = Egress { blocked_origins: vec!["https://a.example".to_owned()], ..Egress::default() };
        let rules: EgressRules = egress.rules().unwrap();
        let acquired = self.handle.acquire(asked, rules, idle_ttl, Instant::now() + LIMIT).await;
        let leased = acquired.unwrap().outcome().await.unwrap();
        let held = LeaseState::held(LeaseRef {
            lease_id: leased.lease_id.clone(),
            token: leased.token.clone(),
            daemon: ADDRESS.to_owned(),
        });
        let swapped = self.sessions.swap_lease(&key, birth, None, &held).await.unwrap();
        assert_eq!(swapped, session::Swapped::Done);
        self.handle.renew(&leased, None).await.unwrap();
        leased
    }

    /// Every browser is gone, and every task.
    async fn end(self) {
        let Self { server, sessions, handle, launcher, _pressure, tasks, shutdown } = self;
        let _stopped = handle.drain(Duration::ZERO).await;
        let mut counts = handle.watch();
        timeout(LIMIT, async { while counts.changed().await.is_ok() {} }).await.expect("drained");
        shutdown.begin();
        shutdown.force();
        assert_eq!(launcher.alive().0, 0, "browsers are left");
        drop((handle, launcher, sessions));
        assert_eq!((tasks.join(LIMIT).await, tasks.panicked()), (0, 0), "tasks are left, or have panicked");
        drop(server);
    }
}

fn key(name: &str) -> session::Key {
    session::Key { principal: Principal::named("p"), name: SessionName::parse(name).unwrap() }
}

fn new<'a>(key: &'a session::Key, birth: &'a str, idle_ttl: Duration) -> NewSession<'a> {
    static NOBODY: std::sync::LazyLock<(Client, Egress, LeaseState)> = std::sync::LazyLock::new(Default::default);
    let (client, egress, lease) = &*NOBODY;
    NewSession {
        key,
        birth,
        connection: None,
        client,
        egress,
        idle_ttl,
        max_lifetime: 3600 * SECOND,
        lease,
        limits: Limits { per_principal: 100, total: 100 },
    }
}

async fn ended(leased: &Leased) {
    timeout(LIMIT, leased.ended().cancelled()).await.expect("the lease ends");
}

#[tokio::test]
async fn a_lease_ends_with_its_session_and_not_before() {
    let scene = Scene::new(5).await;
    let stays = scene.session("stays", 3600 * SECOND).await;
    // On the daemon's own clock it is over at once.
    scene.handle.renew(&stays, Some(Duration::from_millis(1))).await.unwrap();
    let closed = scene.session("closed", 3600 * SECOND).await;
    let anew = scene.session("anew", 3600 * SECOND).await;
    let (elsewhere, doubted) =
        (scene.session("elsewhere", 3600 * SECOND).await, scene.session("doubted", 3600 * SECOND).await);
    scene.sessions.end(&key("closed"), None).await.unwrap();
    ended(&closed).await;
    assert!(closed.lost().unwrap().message.contains("its session has ended"));
    scene.sessions.end(&key("anew"), None).await.unwrap();
    scene.sessions.create(new(&key("anew"), "2", 60 * SECOND)).await.unwrap();
    ended(&anew).await;
    let lost = |leased: &Leased, reason| {
        let lease = LeaseRef { lease_id: leased.lease_id.clone(), token: String::new(), daemon: ADDRESS.to_owned() };
        LeaseState::lost(session::Loss::new(&lease, reason))
    };
    for (name, leased, reason) in [
        ("elsewhere", &elsewhere, session::LossReason::LeaseEnded),
        ("doubted", &doubted, session::LossReason::Unreachable),
    ] {
        let state = lost(leased, reason);
        scene.sessions.swap_lease(&key(name), "1", Some(&leased.lease_id), &state).await.unwrap();
    }
    ended(&elsewhere).await;
    assert!(!doubted.ended().is_cancelled(), "who could not reach us may come back to it");
    assert!(!stays.ended().is_cancelled());
    drop(stays.enter().expect("calls are let in as long as the store says that its session lives"));
    scene.end().await;
}

#[tokio::test]
async fn sessions_that_lapse_together_lose_their_leases_together() {
    let scene = Scene::new(20).await;
    let names: Vec<_> = (0..20).map(|number| format!("s{number}")).collect();
    let leases = join_all(names.iter().map(|name| scene.session(name, 3 * SECOND))).await;
    // Whoever uses a session keeps its lease; here nobody does.
    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    let mut last_seen = Instant::now();
    while scene.sessions.look(&keys).await.unwrap().iter().any(|sight| matches!(sight, Sight::Lives(_))) {
        last_seen = Instant::now();
        sleep(Duration::from_millis(50)).await;
    }
    join_all(leases.iter().map(|leased| ended(leased))).await;
    assert!(last_seen.elapsed() <= 2 * SECOND, "revoked after {:?}", last_seen.elapsed());
    timeout(LIMIT, async {
        while scene.launcher.alive().0 > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("their browsers are gone");
    assert!(last_seen.elapsed() <= 5 * SECOND, "gone after {:?}", last_seen.elapsed());
    scene.end().await;
}

#[tokio::test]
async fn a_store_that_is_away_ends_nothing_and_what_has_ended_meanwhile_is_found_later() {
    let mut scene = Scene::new(2).await;
    let (stays, lapses) = (scene.session("stays", 3600 * SECOND).await, scene.session("lapses", 4 * SECOND).await);
    // One sweep has seen both.
    sleep(SECOND + SECOND / 2).await;
    scene.server.freeze(true);
    sleep(4 * SECOND).await;
    assert!(!stays.ended().is_cancelled() && !lapses.ended().is_cancelled());
    scene.server.freeze(false);
    ended(&lapses).await;
    assert!(!stays.ended().is_cancelled());
    // A server that comes back with nothing at all has been emptied.
    scene.server.restart().await;
    written_again(&scene, &stays).await;
    scene.end().await;
}

/// Waits until the store has the session of a lease again.
async fn written_again(scene: &Scene, leased: &Leased) {
    let name = leased.key.session.as_str();
    timeout(LIMIT, async {
        loop {
            if let Ok([Sight::Lives(held)]) = scene.sessions.look(&[key(name)]).await.as_deref() {
                assert_eq!(held.lease_id.as_ref(), Some(&leased.lease_id));
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the session is written again");
    assert!(!leased.ended().is_cancelled());
}

#[tokio::test]
async fn an_emptied_store_gets_the_sessions_back_whose_browsers_live() {
    let scene = Scene::new(2).await;
    let leased = scene.session("s", 3600 * SECOND).await;
    // A sweep has seen it.
    sleep(SECOND + SECOND / 2).await;
    for _ in 0..2 {
        scene.server.empty().await;
        written_again(&scene, &leased).await;
    }
    let record = scene.sessions.touch(&key("s")).await.unwrap().unwrap();
    assert_eq!(record.birth, "1");
    assert_eq!(record.egress.blocked_origins, ["https://a.example"]);
    let lease = record.lease.lease.unwrap();
    assert_eq!((lease.token.as_str(), lease.daemon.as_str()), (leased.token.as_str(), ADDRESS));
    scene.end().await;
}

#[tokio::test]
async fn a_session_that_no_sweep_has_seen_comes_back_as_well() {
    let scene = Scene::new(1).await;
    // A sweep has seen the store, without any lease to look for.
    sleep(SECOND + SECOND / 10).await;
    let leased = scene.session("s", 3600 * SECOND).await;
    scene.server.empty().await;
    written_again(&scene, &leased).await;
    scene.end().await;
}

/// The daemon's entry, once it is as expected.
async fn entry(directory: &Directory, expected: impl Fn(&[Entry]) -> bool) -> Vec<Entry> {
    timeout(LIMIT, async {
        loop {
            let entries = directory.list().await.unwrap();
            if expected(&entries) {
                return entries;
            }
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the directory says so")
}

#[tokio::test]
async fn front_ends_find_the_daemon_as_long_as_it_is_there() {
    let scene = Scene::new(2).await;
    let directory = Directory::new(scene.server.client());
    let free = entry(&directory, |entries| entries.len() == 1).await;
    let identity = scene.handle.identity();
    assert_eq!(
        (&*free[0].address, &free[0].pool_id, &free[0].incarnation),
        (ADDRESS, &identity.pool_id, &identity.incarnation)
    );
    assert_eq!((free[0].idle, free[0].room, free[0].closed), (0, 2, false));
    let _leased = scene.session("s", 3600 * SECOND).await;
    entry(&directory, |entries| entries[0].room == 1).await;
    let _draining = scene.handle.drain(LIMIT).await;
    entry(&directory, |entries| entries[0].closed).await;
    // Somebody else's entry, who is not heard of again.
    let silent = Entry { address: "http://127.0.0.1:1".to_owned(), ..free[0].clone() };
    directory.announce(&silent).await.unwrap();
    scene.shutdown.begin();
    scene.shutdown.force();
    let left = entry(&directory, |entries| entries.len() == 1).await;
    assert_eq!(left, [silent]);
    entry(&directory, <[Entry]>::is_empty).await;
    scene.end().await;
}
