//! Every timer of the pool, through the driver, on a clock that only the test moves.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_lease_ends_with_its_longest_lifetime_however_busy_it_is() {
    let scene = Scene::new(1, |limits| limits.max_lifetime = 5 * TTL);
    let leased = scene.lease("s").await;
    for _ in 0..9 {
        drop(leased.enter().expect("it lives"));
        sleep(TTL / 2).await;
    }
    let running = leased.enter().expect("it lives");
    sleep((TTL / 2).saturating_sub(MOMENT)).await;
    assert!(!leased.ended().is_cancelled());
    sleep(2 * MOMENT).await;
    assert!(leased.ended().is_cancelled(), "also under a call");
    assert!(leased.lost().expect("lost").message.contains("longest lifetime"));
    drop(running);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_old_browser_is_replaced_by_itself() {
    let age = 1000 * SECOND;
    let scene = Scene::new(1, |limits| {
        limits.min_warm = 1;
        limits.retirement.max_age = age;
    });
    sleep(age * 9 / 10).await;
    assert_eq!(scene.launcher.launched(), 1);
    sleep(age / 5 + LAUNCH + END + MOMENT).await;
    assert_eq!((scene.launcher.launched(), scene.launcher.alive().0), (2, 1));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_browser_that_nobody_took_ends_after_its_time() {
    let scene = Scene::new(1, |_| {});
    let leaver = scene.ask("leaves").await;
    sleep(LAUNCH / 2).await;
    drop(leaver);
    sleep(LAUNCH / 2 + MOMENT).await;
    let warm_ttl = scene.handle.limits().warm_ttl;
    sleep(warm_ttl.saturating_sub(3 * MOMENT)).await;
    assert_eq!((scene.launcher.alive().0, scene.handle.counts().idle), (1, 1));
    sleep(END + 6 * MOMENT).await;
    assert_eq!((scene.launcher.alive().0, scene.handle.counts()), (0, Counts::default()));
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_refused_at_its_deadline() {
    let scene = Scene::new(1, |_| {});
    let _held = scene.lease("s").await.enter().expect("it lives");
    let begun = Instant::now();
    let refused = scene.ask_as("q", "t", 5 * SECOND).await.outcome().await.expect_err("nothing becomes free");
    assert_eq!(refused.code, ErrorCode::QueueTimeout);
    assert!((5 * SECOND..=5 * SECOND + MOMENT).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_next_warm_browser_is_started_a_while_after_a_grant() {
    let scene = Scene::new(2, |limits| {
        limits.min_warm = 1;
        limits.ahead_delay = 5 * SECOND;
    });
    sleep(LAUNCH + MOMENT).await;
    let leased = scene.lease("s").await;
    let _held = leased.enter().expect("it lives");
    sleep((5 * SECOND).saturating_sub(MOMENT)).await;
    assert_eq!((scene.handle.counts().starting, scene.launcher.launched()), (0, 1));
    sleep(2 * MOMENT).await;
    assert_eq!(scene.handle.counts().starting, 1);
    scene.end().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_next_launch_waits_and_longer_each_time() {
    let scene = Scene::new(1, |limits| limits.min_warm = 1);
    scene.launcher.fail(Some("no"));
    let backoff = scene.handle.limits().launching.backoff;
    let mut due = Instant::now();
    for wait in [backoff, 2 * backoff, 4 * backoff] {
        due += LAUNCH + wait;
        sleep_until(due - 2 * MOMENT).await;
        assert_eq!(scene.handle.counts().starting, 0, "{wait:?}");
        sleep_until(due + 2 * MOMENT).await;
        assert_eq!(scene.handle.counts().starting, 1, "{wait:?}");
    }
    scene.launcher.fail(None);
    scene.end().await;
}
