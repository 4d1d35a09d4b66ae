//! Leases with real browsers, through gRPC: queueing, idempotence, fencing, expiry, drain, browsers that do not start.

use std::{os::unix::fs::PermissionsExt as _, time::Duration};

use browserfleet_common::{error_code::ErrorCode, pb};
use browserfleet_tests::{daemon::Daemon, processes};
use serde_json::json;
use tonic::{Status, Streaming};

type Outcome = anyhow::Result<()>;
type Acquiring = Streaming<pb::AcquireResponse>;

fn request(session: &str, wait: Duration) -> pb::AcquireRequest {
    pb::AcquireRequest {
        principal: "tester".to_owned(),
        session: session.to_owned(),
        birth: "1".to_owned(),
        ttl: None,
        wait: Some(pb::to_wire(wait)),
        ..pb::AcquireRequest::default()
    }
}

/// The next place in the queue, or the grant.
async fn next(stream: &mut Acquiring) -> Result<Option<pb::acquire_response::Event>, Status> {
    Ok(stream.message().await?.and_then(|message| message.event))
}

async fn place(stream: &mut Acquiring, position: u32) -> anyhow::Result<()> {
    while let Some(event) = next(stream).await? {
        if let pb::acquire_response::Event::Queued(queued) = event
            && queued.position == position
        {
            return Ok(());
        }
    }
    anyhow::bail!("never at place {position}")
}

async fn grant(stream: &mut Acquiring) -> anyhow::Result<pb::Granted> {
    while let Some(event) = next(stream).await? {
        if let pb::acquire_response::Event::Granted(granted) = event {
            return Ok(granted);
        }
    }
    anyhow::bail!("no grant")
}

fn one_browser(config: &mut browserfleet_pool_daemon::config::Config) {
    config.limits.max_browsers = 1;
    config.limits.max_queue = 2;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_wait_in_line_and_hear_of_it() -> Outcome {
    let daemon = Daemon::start(one_browser)?;
    let first = daemon.lease("a").await?;
    let minute = Duration::from_mins(1);
    let mut second = daemon.pool().acquire(request("b", minute)).await?.into_inner();
    place(&mut second, 1).await?;
    let mut third = daemon.pool().acquire(request("c", minute)).await?.into_inner();
    place(&mut third, 2).await?;

    let mut full = daemon.pool().acquire(request("d", minute)).await?.into_inner();
    let refused = next(&mut full).await.expect_err("the queue is full");
    assert_eq!(ErrorCode::of(&refused), ErrorCode::PoolFull);
    assert!(ErrorCode::retry_after(&refused).is_some(), "a refusal says when to come back");

    drop(second);
    place(&mut third, 1).await?;
    daemon.pool().release(first.released()).await?;
    let granted = grant(&mut third).await?;
    assert_eq!(granted.lease.unwrap_or_default().session_hash, browserfleet_common::ids::digest("c"));
    let late = daemon.pool().acquire(request("e", Duration::from_millis(50))).await?.into_inner();
    let mut late = late;
    place(&mut late, 1).await?;
    assert_eq!(ErrorCode::of(&next(&mut late).await.expect_err("the wait is over")), ErrorCode::QueueTimeout);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_has_one_lease_and_its_token_is_checked() -> Outcome {
    let daemon = Daemon::start(|_| {})?;
    let (one, two) = tokio::try_join!(daemon.lease("same"), daemon.lease("same"))?;
    assert_eq!((&one.lease.lease_id, &one.token), (&two.lease.lease_id, &two.token));

    let renew =
        |token: &str| pb::RenewRequest { token: token.to_owned(), lease_id: one.lease.lease_id.clone(), ttl: None };
    daemon.pool().renew(renew(&one.token)).await?;
    for forged in ["", "x", &one.token.replace('/', "-")] {
        let refused = daemon.pool().renew(renew(forged)).await.expect_err("a forged token");
        assert_eq!(ErrorCode::of(&refused), ErrorCode::LeaseLost, "{forged:?}");
    }
    let listed = daemon.pool().list_leases(pb::ListLeasesRequest::default()).await?.into_inner().leases;
    assert_eq!(listed.len(), 1);
    assert!(listed[0].bound && listed[0].browser_pid > 0, "{listed:?}");
    assert!(!format!("{listed:?}").contains("same"), "handles are not listed in clear");

    for _twice in 0..2 {
        daemon.pool().release(one.released()).await?;
    }
    let gone = one.call("browser_snapshot", json!({})).await.expect_err("the lease has ended");
    assert_eq!(ErrorCode::of(&gone), ErrorCode::LeaseLost);
    assert!(gone.message().contains("released"), "the reason is told: {}", gone.message());
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_finds_watches_and_revokes() -> Outcome {
    let daemon = Daemon::start(|_| {})?;
    let mut pools = daemon.pool().watch_pool(pb::WatchPoolRequest {}).await?.into_inner();
    let first = pools.message().await?.and_then(|watched| watched.pool).expect("the state comes at once");
    assert_eq!((first.leases, first.draining), (0, false));
    let (one, two) = tokio::try_join!(daemon.lease("one"), daemon.lease("two"))?;
    while pools.message().await?.and_then(|watched| watched.pool).expect("it goes on").leases < 2 {}

    let list =
        async |wanted: pb::ListLeasesRequest| anyhow::Ok(daemon.pool().list_leases(wanted).await?.into_inner().leases);
    let any = pb::ListLeasesRequest::default;
    let all = list(any()).await?;
    assert_eq!(all.len(), 2);
    let of_one = all.iter().find(|lease| lease.lease_id == one.lease.lease_id).expect("it is listed");
    let by_session = list(pb::ListLeasesRequest { session_hash: of_one.session_hash.clone(), ..any() }).await?;
    assert_eq!(by_session.iter().map(|lease| &lease.lease_id).collect::<Vec<_>>(), [&one.lease.lease_id]);
    let principal_hash = of_one.principal_hash.clone();
    assert_eq!(list(pb::ListLeasesRequest { principal_hash, ..any() }).await?.len(), 2);
    two.ok("browser_snapshot", json!({})).await?;
    daemon
        .pool()
        .renew(pb::RenewRequest { ttl: None, lease_id: two.lease.lease_id.clone(), token: two.token.clone() })
        .await?;
    for (state, lease) in [(pb::LeaseState::Bound, &two), (pb::LeaseState::Unbound, &one)] {
        let found = list(pb::ListLeasesRequest { state: state.into(), ..any() }).await?;
        assert_eq!(found.iter().map(|found| &found.lease_id).collect::<Vec<_>>(), [&lease.lease.lease_id]);
    }

    let revoke = pb::RevokeRequest { lease_id: one.lease.lease_id.clone() };
    daemon.pool().revoke(revoke.clone()).await?;
    let gone = one.call("browser_snapshot", json!({})).await.expect_err("it was taken back");
    assert!(ErrorCode::of(&gone) == ErrorCode::LeaseLost && gone.message().contains("operator"), "{}", gone.message());
    let twice = daemon.pool().revoke(revoke).await.expect_err("it is gone");
    assert_eq!(ErrorCode::of(&twice), ErrorCode::LeaseLost);
    two.ok("browser_snapshot", json!({})).await?;
    while pools.message().await?.and_then(|watched| watched.pool).expect("it goes on").leases > 1 {}
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_lease_ends_and_a_running_call_keeps_it() -> Outcome {
    let adjust =
        |config: &mut browserfleet_pool_daemon::config::Config| config.limits.unbound_ttl = Duration::from_secs(1);
    let daemon = Daemon::start(adjust)?;
    let lease = daemon.lease("idle").await?;
    // Longer than the lease lives unused: the call is what keeps it.
    let long = json!({ "function": "() => new Promise(done => setTimeout(done, 2500))" });
    lease.ok("browser_evaluate", long).await?;
    let forgotten = daemon.lease("forgotten").await?;
    let mut counts = daemon.app.handle().watch();
    tokio::time::timeout(Duration::from_secs(20), counts.wait_for(|counts| counts.leased == 1 && counts.killing == 0))
        .await??;
    let lost = forgotten.call("browser_snapshot", json!({})).await.expect_err("nobody confirmed it");
    assert!(lost.message().contains("not confirmed"), "{}", lost.message());
    assert_eq!(processes::in_group(forgotten.lease.browser_pid), 0);
    lease.ok("browser_snapshot", json!({})).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_a_session_take_turns_and_a_dropped_one_stops() -> Outcome {
    let daemon = Daemon::start(|_| {})?;
    let lease = daemon.lease("turns").await?;
    let add = |n: u32| json!({ "function": format!("() => (window.order ??= []).push({n})") });
    for n in 0..3 {
        lease.ok("browser_evaluate", add(n)).await?;
    }
    let endless = lease.call("browser_evaluate", json!({ "function": "() => { for (;;); }" }));
    // Dropping the call is what a client that goes away does.
    assert!(tokio::time::timeout(Duration::from_millis(300), endless).await.is_err());
    let answer = lease.ok("browser_evaluate", json!({ "function": "() => window.order.join()" })).await?;
    assert!(answer.text.contains("\"0,1,2\""), "{}", answer.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_connection_finishes_its_calls_and_takes_no_new_ones() -> Outcome {
    let daemon = Daemon::start(|config| config.daemon.max_connection_age = Duration::from_secs(1))?;
    let lease = daemon.lease("s").await?;
    let before = daemon.accepted();
    // Whatever connection it begins on becomes too old under it.
    let long = lease.ok("browser_evaluate", json!({ "function": "() => new Promise(done => setTimeout(done, 3000))" }));
    let others = async {
        while daemon.accepted() == before {
            // One that meets the end of the old connection was never sent; a front end tries it again.
            let _unsent = daemon.pool().list_leases(pb::ListLeasesRequest::default()).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (long, others) = tokio::join!(long, tokio::time::timeout(Duration::from_secs(40), others));
    others.expect("there is a new connection");
    long?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_refuses_newcomers_and_ends_the_rest_after_its_grace() -> Outcome {
    let daemon = Daemon::start(|_| {})?;
    let lease = daemon.lease("last").await?;
    let grace = Some(pb::to_wire(Duration::from_secs(2)));
    let running = daemon.pool().drain(pb::DrainRequest { grace }).await?.into_inner().leases;
    assert_eq!(running, 1);
    let mut refused = daemon.pool().acquire(request("new", Duration::from_secs(1))).await?.into_inner();
    assert_eq!(ErrorCode::of(&next(&mut refused).await.expect_err("draining")), ErrorCode::Draining);
    lease.ok("browser_snapshot", json!({})).await?;
    let mut counts = daemon.app.handle().watch();
    tokio::time::timeout(Duration::from_secs(20), async { while counts.changed().await.is_ok() {} }).await?;
    assert_eq!(processes::in_group(lease.lease.browser_pid), 0);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_does_not_start_says_what_it_said() -> Outcome {
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755))?;
    let fake = directory.path().join("chromium");
    processes::write_program(&fake, "echo 'cannot open display of this test' >&2\nexit 7")?;
    let daemon = Daemon::start(|config| config.chromium.executable.clone_from(&fake))?;
    let mut stream = daemon.pool().acquire(request("unlucky", Duration::from_secs(20))).await?.into_inner();
    let refused = loop {
        match next(&mut stream).await {
            Ok(Some(_queued)) => {}
            Ok(None) => anyhow::bail!("the stream ended without an answer"),
            Err(status) => break status,
        }
    };
    assert_eq!(ErrorCode::of(&refused), ErrorCode::BrowserGone);
    assert!(refused.message().contains("cannot open display of this test"), "{}", refused.message());
    assert!(refused.message().contains("exit status 7"), "{}", refused.message());
    daemon.end().await
}
