//! What operators and their machines read.

use tokio::time::Instant;

use crate::world::World;

#[tokio::test]
async fn metrics_are_served_behind_the_guard() {
    let world = World::start().await;
    browserfleet_common::metrics::metrics().grants.add("process");
    let page = world.client().get("/metrics").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = std::str::from_utf8(&page.body).unwrap();
    assert!(
        text.contains("browserfleet_leases_granted_total{kind=\"process\"}") && text.ends_with("# EOF\n"),
        "{text}"
    );
    assert_eq!(world.client().header("host", "evil.example").get("/metrics").await.status, 403);
}

#[tokio::test]
async fn readiness_says_how_many_daemons_are_in_service() {
    let world = World::fleet(3).await;
    world.daemons[1].reachable(false);
    let ready = world.client().get("/ready").await;
    assert_eq!((ready.status.as_u16(), &ready.json()["daemons"]["in_service"]), (200, &2.into()));
    assert_eq!(ready.json()["daemons"]["total"], 3);
}

#[tokio::test]
async fn daemons_are_not_asked_for_everybody_who_wants_to_know_whether_they_are_ready() {
    let world = World::fleet(1).await;
    let client = world.client();
    let asked = || world.daemon.seen().looked;
    let (before, started) = (asked(), Instant::now());
    for _ in 0..200 {
        assert_eq!(client.get("/ready").await.status, 200);
    }
    // Five times a second for them all, and once a second unasked.
    let seconds = usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!(asked() - before <= 7 * seconds, "{} questions in {seconds} s", asked() - before);
}
