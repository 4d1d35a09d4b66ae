//! The driver with fake browsers under a virtual clock: what only shows when decisions, tasks and callers meet.

use std::sync::Arc;

use browserfleet_common::{error_code::ErrorCode, lifecycle::Tasks};
use tokio::{
    sync::watch,
    time::{Duration, Instant, advance, sleep, timeout},
};

use super::*;
use crate::{
    pool::{Key, audit::INVARIANTS, handle::Acquisition, test_limits},
    testing::{END, FakeLauncher, LAUNCH},
};

const SECOND: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_mins(1);
/// For the tasks of a step that needs no time to run.
const MOMENT: Duration = Duration::from_millis(1);

struct Scene {
    handle: Handle,
    launcher: Arc<FakeLauncher>,
    pressure: watch::Sender<Pressure>,
    tasks: Tasks,
}

impl Scene {
    fn new(max_browsers: usize, adjust: impl FnOnce(&mut Limits)) -> Self {
        let tasks = Tasks::new();
        let launcher = FakeLauncher::new(&tasks);
        let (pressure, receiver) = watch::channel(Pressure::default());
        let mut limits = test_limits(max_browsers, 0);
        adjust(&mut limits);
        let handle = start(limits, "pool".to_owned(), Arc::clone(&launcher) as _, receiver, &tasks);
        Self { handle, launcher, pressure, tasks }
    }

    async fn ask_as(&self, principal: &str, session: &str, wait: Duration) -> Acquisition {
        let key = Key { principal: principal.to_owned(), session: session.to_owned(), birth: "1".to_owned() };
        self.handle.acquire(key, EgressRules::default(), TTL, Instant::now() + wait).await.expect("the driver runs")
    }

    async fn ask(&self, session: &str) -> Acquisition {
        self.ask_as("p", session, 30 * SECOND).await
    }

    async fn lease(&self, session: &str) -> Arc<Leased> {
        self.ask(session).await.outcome().await.expect("a lease")
    }

    /// Ends the pool and says what it left: nothing.
    async fn end(self) {
        // A pool that has ended needs no drain.
        let _ended = self.handle.drain(Duration::ZERO).await;
        let mut counts = self.handle.watch();
        timeout(60 * SECOND, async { while counts.changed().await.is_ok() {} }).await.expect("drained");
        assert_eq!(self.launcher.alive().0, 0, "browsers are left");
        let Self { handle, launcher, pressure, tasks } = self;
        drop((handle, launcher, pressure));
        assert_eq!((tasks.join(60 * SECOND).await, tasks.panicked()), (0, 0), "tasks are left, or have panicked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_by_the_monotonic_clock_and_its_browser_with_it() {
    let scene = Scene::new(1, |_| {});
    let leased = scene.lease("s").await;
    scene.handle.renew(&leased, None).await.expect("renewed");
    sleep(TTL.saturating_sub(MOMENT)).await;
    assert!(scene.handle.check(&leased.lease_id, &leased.token).is_ok());
    sleep(2 * MOMENT).await;
    let lost = scene.handle.check(&leased.lease_id, &leased.token).expect_err("its time is over");
    assert_eq!(lost.code, ErrorCode::LeaseLost);
    assert!(lost.message.contains("idle too long"), "{lost:?}");
    sleep(END + MOMENT).await;
    assert_eq!(scene.launcher.alive().0, 0);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_nobody_confirms_is_back_within_its_bound() {
    let scene = Scene::new(1, |_| {});
    let leased = scene.lease("s").await;
    let second = scene.ask("t").await;
    sleep(10 * SECOND + MOMENT).await;
    assert!(leased.ended().is_cancelled());
    let begun = Instant::now();
    second.outcome().await.expect("the next one's");
    assert!(begun.elapsed() <= LAUNCH + END + 5 * MOMENT, "{:?}", begun.elapsed());
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_running_call_keeps_its_lease_and_its_end_starts_the_clock() {
    let scene = Scene::new(1, |_| {});
    let leased = scene.lease("s").await;
    let running = leased.enter().expect("it lives");
    sleep(3 * TTL).await;
    assert!(!leased.ended().is_cancelled());
    drop(running);
    sleep(TTL.saturating_sub(SECOND)).await;
    assert!(!leased.ended().is_cancelled());
    sleep(2 * SECOND).await;
    assert!(leased.ended().is_cancelled());
    scene.end().await;
}

/// The whole process was stopped: time went on, nothing ran. Whoever says when leases end has not said anything yet, be it the
/// driver by its clock or the sweep by the store.
#[tokio::test(start_paused = true)]
async fn after_a_long_pause_a_stale_call_is_refused_even_before_the_driver_wakes() {
    for watched in [false, true] {
        let scene = Scene::new(1, |limits| limits.sessions_are_watched = watched);
        let leased = scene.lease("s").await;
        scene.handle.renew(&leased, None).await.expect("renewed");
        // Nothing else runs between the advance and the call: the driver has not ticked yet.
        advance(TTL.saturating_sub(SECOND)).await;
        drop(leased.enter().expect("it lives"));
        advance(TTL).await;
        let refused = leased.enter().expect_err("its time was over while nobody looked");
        assert_eq!(refused.code, ErrorCode::LeaseLost);
        assert!(refused.message.contains("idle too long"), "{refused}");
        scene.end().await;
    }
}

/// What uses a session without calling its browser, such as a client that lists tools, prolongs it in the store.
#[tokio::test(start_paused = true)]
async fn a_lease_is_let_in_as_long_as_the_store_says_that_its_session_lives() {
    let scene = Scene::new(1, |limits| limits.sessions_are_watched = true);
    let leased = scene.lease("s").await;
    scene.handle.renew(&leased, None).await.expect("renewed");
    advance(TTL).await;
    leased.enter().expect_err("nobody says so");
    leased.session_lives(Some(Instant::now() + SECOND));
    drop(leased.enter().expect("it lives"));
    advance(TTL).await;
    leased.enter().expect_err("that is long ago");
    leased.session_lives(None);
    advance(10 * TTL).await;
    drop(leased.enter().expect("it has no end"));
    assert!(!leased.ended().is_cancelled(), "the driver has ended nothing: nobody told it to");
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_browser_fails_its_lease_at_once_and_is_replaced() {
    let scene = Scene::new(1, |limits| limits.min_warm = 1);
    let leased = scene.lease("s").await;
    scene.launcher.trees.lock().unwrap()[0].die("it ended with signal 9");
    timeout(MOMENT, leased.ended().cancelled()).await.expect("at once");
    assert!(leased.lost().expect("lost").message.contains("signal 9"));
    timeout(3 * SECOND, async {
        while scene.launcher.launched() < 2 {
            sleep(MOMENT).await;
        }
    })
    .await
    .expect("replaced");
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_condemned_browser_is_ended_like_a_dead_one() {
    let scene = Scene::new(1, |_| {});
    let leased = scene.lease("s").await;
    leased.browser.condemn(Death { code: ErrorCode::BrowserOutOfMemory, reason: "it took 2 GiB".to_owned() });
    timeout(MOMENT, leased.ended().cancelled()).await.expect("at once");
    assert_eq!(leased.lost().expect("lost").code, ErrorCode::BrowserOutOfMemory);
    let later = scene.handle.check(&leased.lease_id, &leased.token).expect_err("gone");
    assert_eq!(later.code, ErrorCode::LeaseLost, "a later call is not the cause");
    sleep(END + MOMENT).await;
    assert!(scene.launcher.trees.lock().unwrap()[0].has_ended());
    scene.end().await;
}

/// Selenium's orphan: a client that goes just before its grant. Swept over the moments around the launch's end.
#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_around_its_grant_costs_no_browser() {
    for offset in 0..6 {
        let scene = Scene::new(1, |_| {});
        let leaver = scene.ask("leaves").await;
        let stayer = scene.ask_as("q", "stays", 30 * SECOND).await;
        sleep(LAUNCH.saturating_sub(3 * MOMENT) + offset * MOMENT).await;
        drop(leaver);
        let leased = timeout(31 * SECOND, stayer.outcome()).await.expect("in time").expect("a lease");
        assert_eq!(leased.key.session, "stays");
        if offset < 3 {
            assert_eq!(scene.launcher.launched(), 1, "the browser goes to the next one, {offset} ms");
        }
        assert_eq!(scene.launcher.alive().1, 1);
        scene.end().await;
    }
}

/// As above, in the one moment in which the driver cannot know yet: it hears of the launch before the departure.
#[tokio::test(start_paused = true)]
async fn a_grant_that_reaches_nobody_leaves_its_browser_to_the_next() {
    let scene = Scene::new(1, |_| {});
    let leaver = scene.ask("leaves").await;
    let stayer = scene.ask_as("q", "stays", 30 * SECOND).await;
    // Nobody listens any more; that the caller is gone is told when the rest of it is dropped.
    drop(leaver.outcome);
    let leased = stayer.outcome().await.expect("a lease");
    assert_eq!((leased.key.session.as_str(), scene.launcher.launched()), ("stays", 1));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_the_queue_starts_nothing() {
    let scene = Scene::new(2, |limits| limits.max_starting = 1);
    let first = scene.ask("first").await;
    drop(scene.ask("leaves").await);
    first.outcome().await.expect("a lease");
    sleep((10 * SECOND).saturating_sub(10 * MOMENT)).await;
    assert_eq!(scene.launcher.launched(), 1);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_principal_leaves_others_their_share() {
    let scene = Scene::new(2, |limits| {
        limits.max_queue = 20;
        limits.per_principal.max_waiting = 10;
    });
    let mut flood = Vec::new();
    for n in 0..1000 {
        flood.push(scene.ask_as("flood", &n.to_string(), 30 * SECOND).await);
    }
    let calm = scene.ask_as("calm", "s", 30 * SECOND).await;
    sleep(MOMENT).await;
    assert!(calm.place.borrow().position <= 4, "{:?}", *calm.place.borrow());
    let refused = flood.iter_mut().filter_map(|acquisition| acquisition.outcome.try_recv().ok());
    let refused: Vec<_> = refused.filter_map(Result::err).map(|refusal| refusal.code).collect();
    assert!(refused.len() >= 988, "{}", refused.len());
    assert!(refused.iter().all(|code| *code == ErrorCode::QuotaExceeded), "{refused:?}");
    // Two browsers serve the flood first, then it is the others' turn.
    let begun = Instant::now();
    calm.outcome().await.expect("a lease");
    assert!(begun.elapsed() <= 10 * SECOND + 2 * (LAUNCH + END) + SECOND, "{:?}", begun.elapsed());
    drop(flood);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn launches_that_always_fail_make_the_pool_unavailable_until_one_works() {
    let scene = Scene::new(2, |limits| limits.min_warm = 1);
    scene.launcher.fail(Some("no sandbox"));
    let refused = scene.ask("s").await.outcome().await.expect_err("no browser");
    assert_eq!(refused.code, ErrorCode::BrowserGone);
    assert!(refused.message.contains("no sandbox") && refused.retry_after.is_some(), "{refused:?}");
    let mut counts = scene.handle.watch();
    timeout(60 * SECOND, counts.wait_for(|counts| counts.unavailable().is_some()))
        .await
        .expect("it opens")
        .expect("runs");
    let begun = Instant::now();
    scene.ask("t").await.outcome().await.expect_err("at once");
    assert!(begun.elapsed() < MOMENT, "nobody is kept waiting");
    scene.launcher.fail(None);
    timeout(60 * SECOND, counts.wait_for(|counts| counts.idle == 1)).await.expect("by itself").expect("runs");
    scene.ask("u").await.outcome().await.expect("a lease");
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_leases_finish_within_its_grace_and_no_longer() {
    let scene = Scene::new(3, |_| {});
    let (returned, kept) = (scene.lease("a").await, scene.lease("b").await);
    drop(kept.enter().expect("it lives"));
    assert_eq!(scene.handle.drain(20 * SECOND).await.expect("runs"), 2);
    let refused = scene.ask("new").await.outcome().await.expect_err("draining");
    assert_eq!((refused.code, refused.retry_after), (ErrorCode::Draining, Some(SECOND)));
    assert!(scene.handle.counts().unavailable().is_some());
    scene.handle.release(&returned).await.expect("runs");
    sleep((20 * SECOND).saturating_sub(MOMENT)).await;
    assert!(!kept.ended().is_cancelled());
    sleep(2 * MOMENT).await;
    assert!(kept.ended().is_cancelled());
    assert!(kept.lost().expect("lost").message.contains("shutting down"));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn pressure_reaches_the_decisions() {
    let scene = Scene::new(2, |_| {});
    let leased = scene.lease("s").await;
    scene.pressure.send_replace(Pressure { memory: Some("memory: full".to_owned()), cpu: None });
    let waiting = scene.ask("t").await;
    sleep(SECOND).await;
    assert_eq!(scene.launcher.launched(), 1);
    assert_eq!(scene.handle.counts().pressure.memory.as_deref(), Some("memory: full"));
    scene.pressure.send_replace(Pressure::default());
    waiting.outcome().await.expect("a lease");
    drop(leased);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn tokens_of_an_earlier_life_are_never_valid() {
    let first = Scene::new(1, |_| {});
    let old = first.lease("s").await;
    let second = Scene::new(1, |_| {});
    let new = second.lease("s").await;
    assert_eq!(old.at, new.at, "the same slot, generation and seat");
    assert_ne!(old.token, new.token);
    assert!(second.handle.check(&new.lease_id, &old.token).is_err());
    assert!(second.handle.check(&old.lease_id, &old.token).is_err());
    first.end().await;
    second.end().await;
}

#[tokio::test]
async fn what_alerts_watch_is_shown_before_it_happens() {
    let scene = Scene::new(1, |_| {});
    let page = metrics().render();
    let invariants = INVARIANTS.map(|invariant| format!("invariant_violations_total{{invariant=\"{invariant}\"}} "));
    let deaths = hands::DEATHS.map(|code| format!("browser_deaths_total{{code=\"{code}\"}} "));
    let refusals = hands::REFUSALS.map(|code| format!("acquire_refusals_total{{code=\"{code}\"}} "));
    for series in invariants.iter().chain(&deaths).chain(&refusals) {
        assert!(page.contains(&format!("browserfleet_{series}")), "{series}\n{page}");
    }
    scene.end().await;
}

/// From the state to the metric and to the browser, which nobody gets any more.
#[tokio::test(start_paused = true)]
async fn a_broken_invariant_is_counted_and_costs_its_browser() {
    let tasks = Tasks::new();
    let launcher = FakeLauncher::new(&tasks);
    let (_pressure, pressure) = watch::channel(Pressure::default());
    let limits = test_limits(1, 1);
    let (mut driver, handle) = Driver::new(limits, "pool".to_owned(), Arc::clone(&launcher) as _, pressure, &tasks);
    driver.step(Event::Tick);
    let report = driver.reports.recv().await.expect("of its launch");
    driver.report(report);
    assert_eq!(handle.counts().idle, 1);
    // As a defect would leave it: this browser's number will be another's.
    driver.state.next_generation = 1;
    let counted = || metrics().invariant_violations.get("numbers_grow");
    let before = counted();
    driver.step(Event::Tick);
    assert_eq!((counted(), handle.counts().poisoned), (before + 1, 1));
    driver.step(Event::Drain { deadline: Instant::now() });
    while !driver.state.is_drained() {
        let report = driver.reports.recv().await.expect("of its end");
        driver.report(report);
    }
    assert_eq!((launcher.alive().0, launcher.launched(), counted()), (0, 1, before + 1));
    drop((driver, handle, launcher));
    assert_eq!((tasks.join(60 * SECOND).await, tasks.panicked()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_ended_keeps_its_place_and_is_told() {
    let scene = Scene::new(2, |_| {});
    let (first, second) = (scene.lease("a").await, scene.lease("b").await);
    scene.launcher.leave(1);
    scene.handle.release(&first).await.expect("runs");
    sleep(END + MOMENT).await;
    assert_eq!((scene.handle.counts().poisoned, scene.handle.counts().left), (1, 1));
    scene.launcher.leave(0);
    let waiting = scene.ask("c").await;
    sleep(SECOND).await;
    assert_eq!(scene.launcher.launched(), 2, "nothing is started beside what is left");
    scene.handle.release(&second).await.expect("runs");
    waiting.outcome().await.expect("the other place");
    let handle = scene.handle.clone();
    scene.end().await;
    assert_eq!(handle.counts().left, 1, "also once the pool has ended: its program's exit code tells");
}

#[tokio::test(start_paused = true)]
async fn processes_are_counted_also_where_no_browser_is_left() {
    let scene = Scene::new(1, |_| {});
    sleep(3 * MEASURED + MOMENT).await;
    assert_eq!(scene.launcher.launched(), 0);
    let measured = scene.launcher.measured.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(measured, 4, "at once, and every few seconds");
    scene.end().await;
}

#[path = "driver_timer_tests.rs"]
mod timers;
