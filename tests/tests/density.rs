//! Browsers that several sessions of one principal share, with real Chromium.

use std::time::Duration;

use browserfleet_common::{metrics::metrics, pb, size::GIB};
use browserfleet_pool_daemon::config::Config;
use browserfleet_tests::{daemon::Daemon, pages::Pages, processes};
use serde_json::json;
use tokio::time::{Instant, sleep};

type Outcome = anyhow::Result<()>;

/// Far beyond what any of these takes.
const PATIENCE: Duration = Duration::from_secs(40);

fn dense(config: &mut Config) {
    config.limits.max_browsers = 2;
    config.limits.contexts_per_browser = 3;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_of_one_principal_share_a_process_and_nothing_they_store() -> Outcome {
    let pages = Pages::start().await?;
    let daemon = Daemon::start(dense)?;
    let one = daemon.lease("one").await?;
    let (two, three) = tokio::try_join!(daemon.lease("two"), daemon.lease("three"))?;
    let pids = [&one, &two, &three].map(|lease| lease.lease.browser_pid);
    assert!(pids.iter().all(|pid| *pid == pids[0]), "one process: {pids:?}");
    let tokens = [&one.token, &two.token, &three.token];
    assert!(tokens[0] != tokens[1] && tokens[1] != tokens[2] && tokens[0] != tokens[2], "each has a token of its own");

    for (lease, name) in [(&one, "one"), (&two, "two"), (&three, "three")] {
        lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
        let write = format!("() => {{ document.cookie = 'who={name}'; localStorage.who = '{name}'; }}");
        lease.ok("browser_evaluate", json!({ "function": write })).await?;
    }
    for (lease, name) in [(&one, "one"), (&two, "two"), (&three, "three")] {
        let read = json!({ "function": "() => document.cookie + ' ' + localStorage.who" });
        let answer = lease.ok("browser_evaluate", read).await?;
        assert!(answer.text.contains(&format!("\"who={name} {name}\"")), "{}", answer.text);
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_session_leaves_nothing_to_the_next_in_the_same_process() -> Outcome {
    let pages = Pages::start().await?;
    let daemon = Daemon::start(dense)?;
    let (keeper, first) = (daemon.lease("keeper").await?, daemon.lease("first").await?);
    let pid = keeper.lease.browser_pid;
    first.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    first.ok("browser_evaluate", json!({ "function": "() => { document.cookie = 'left=over'; }" })).await?;
    daemon.pool().release(first.released()).await?;
    assert!(first.call("browser_snapshot", json!({})).await.is_err(), "its token is of no use any more");
    let second = daemon.lease("second").await?;
    assert_eq!(second.lease.browser_pid, pid);
    second.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let answer = second.ok("browser_evaluate", json!({ "function": "() => document.cookie || 'clean'" })).await?;
    assert!(answer.text.contains("\"clean\""), "{}", answer.text);
    keeper.ok("browser_snapshot", json!({})).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_principal_never_gets_into_the_process() -> Outcome {
    let daemon = Daemon::start(dense)?;
    let mine = daemon.lease("mine").await?;
    let theirs = daemon.lease_as("somebody else", "theirs").await?;
    assert_ne!(mine.lease.browser_pid, theirs.lease.browser_pid);
    // Both browsers are taken; a third principal waits although there is room in each of them.
    let request = pb::AcquireRequest {
        principal: "a third".to_owned(),
        session: "s".to_owned(),
        birth: "1".to_owned(),
        ttl: None,
        wait: Some(pb::to_wire(Duration::from_secs(20))),
        ..pb::AcquireRequest::default()
    };
    let third = {
        let waiting = daemon.granted(request);
        tokio::pin!(waiting);
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut waiting).await.is_err());
        // An idle browser makes room for it.
        daemon.pool().release(mine.released()).await?;
        waiting.await?
    };
    assert_ne!(third.lease.browser_pid, mine.lease.browser_pid, "a process of its own");
    assert_eq!(processes::in_group(mine.lease.browser_pid), 0);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_has_grown_or_served_often_takes_no_more_sessions_and_goes_with_its_last() -> Outcome {
    for (max_memory, max_uses) in [(1, 100), (64 * GIB, 2)] {
        let daemon = Daemon::start(|config| {
            dense(config);
            config.limits.retirement.max_memory = max_memory;
            config.limits.retirement.max_uses = max_uses;
        })?;
        let (stays, leaves) = (daemon.lease("stays").await?, daemon.lease("leaves").await?);
        let pid = stays.lease.browser_pid;
        assert_eq!(leaves.lease.browser_pid, pid);
        let weighed = async || {
            let listed = daemon.app.handle().list().await.unwrap_or_default();
            listed.iter().all(|listed| listed.leased.browser.tree.memory() > 1)
        };
        let began = Instant::now();
        while !weighed().await {
            anyhow::ensure!(began.elapsed() < PATIENCE, "nobody weighs it");
            sleep(Duration::from_millis(50)).await;
        }
        daemon.pool().release(leaves.released()).await?;
        // A context is closed, and its browser judged, a moment after its lease has ended.
        while daemon.app.handle().counts().retiring == 0 && max_uses > 2 {
            anyhow::ensure!(began.elapsed() < PATIENCE, "it goes on: {:?}", daemon.app.handle().counts());
            sleep(Duration::from_millis(20)).await;
        }
        let next = daemon.lease("next").await?;
        assert_ne!(next.lease.browser_pid, pid, "{max_memory} {max_uses}");
        stays.ok("browser_snapshot", json!({})).await?;
        daemon.pool().release(stays.released()).await?;
        while processes::in_group(pid) > 0 {
            anyhow::ensure!(began.elapsed() < 2 * PATIENCE, "it stays");
            sleep(Duration::from_millis(20)).await;
        }
        next.ok("browser_snapshot", json!({})).await?;
        daemon.end().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_dies_ends_all_its_sessions_and_says_so() -> Outcome {
    let daemon = Daemon::start(dense)?;
    let (one, two) = (daemon.lease("one").await?, daemon.lease("two").await?);
    processes::signal(one.lease.browser_pid, nix::sys::signal::Signal::SIGKILL)?;
    for lease in [&one, &two] {
        let lost = loop {
            match lease.call("browser_snapshot", json!({})).await {
                Err(status) => break status,
                Ok(answer) => assert!(answer.error.is_some(), "the browser is dead"),
            }
        };
        let told = lost.message();
        assert!(told.contains("ended with signal 9") || told.contains("closed its pipe"), "{told}");
    }
    daemon.lease("three").await?.ok("browser_snapshot", json!({})).await?;
    daemon.end().await
}

/// The cap counts the tabs of a session, not of its browser.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_tabs_closes_only_those_of_its_own_session() -> Outcome {
    let pages = Pages::start().await?;
    let daemon = Daemon::start(|config| {
        dense(config);
        config.times.script = Duration::from_secs(20);
        // Sixty tabs take more than usual for a moment; the limit has a test of its own.
        config.health.memory_limit = 8 * GIB;
    })?;
    let (calm, stormy) = (daemon.lease("calm").await?, daemon.lease("stormy").await?);
    assert_eq!(calm.lease.browser_pid, stormy.lease.browser_pid);
    for lease in [&calm, &stormy] {
        lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    }
    let open = |count: u32| {
        let tabs =
            format!("() => {{ window.tabs = Array.from({{ length: {count} }}, () => open('about:blank')); return 1 }}");
        json!({ "function": tabs })
    };
    let alive = json!({ "function": "() => tabs.filter(tab => tab && !tab.closed).length" });
    // As many as a session may have, its own page included.
    calm.ok("browser_evaluate", open(9)).await?;
    let closed = || metrics().pages_closed.get("too_many");
    let before = closed();
    stormy.ok("browser_evaluate", open(60)).await?;
    let deadline = Instant::now() + PATIENCE;
    while !stormy.ok("browser_evaluate", alive.clone()).await?.text.starts_with("### Result\n9\n") {
        anyhow::ensure!(Instant::now() < deadline, "never nine");
    }
    assert_eq!(closed() - before, 51, "those beyond the cap of the session that opened them, and no other");
    let kept = calm.ok("browser_evaluate", alive.clone()).await?;
    assert!(kept.text.starts_with("### Result\n9\n") && !kept.text.contains("### Events"), "{}", kept.text);

    // The full one's neighbour has room as before.
    calm.ok("browser_evaluate", json!({ "function": "() => { tabs.pop().close(); return 1 }" })).await?;
    calm.ok("browser_evaluate", json!({ "function": "() => { tabs.push(open('about:blank')); return 1 }" })).await?;
    let again = calm.ok("browser_evaluate", alive).await?;
    assert!(again.text.starts_with("### Result\n9\n") && !again.text.contains("### Events"), "{}", again.text);
    daemon.end().await
}

/// It goes with its lease, and whoever was freeing its page finds nothing there: the browser is sound.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_while_its_page_is_freed_costs_nobody_a_browser() -> Outcome {
    let pages = Pages::start().await?;
    let daemon = Daemon::start(dense)?;
    let (keeper, leaving) = (daemon.lease("keeper").await?, daemon.lease("leaving").await?);
    assert_eq!(keeper.lease.browser_pid, leaving.lease.browser_pid);
    keeper.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    leaving.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let stuck = "() => { const request = new XMLHttpRequest(); request.open('GET', '/never', false); request.send() }";
    let function = json!({ "function": stuck });
    let called = leaving.call_within("browser_evaluate", function, Duration::from_millis(500));
    // Freeing the page takes some seconds from when its call's time is over: it ends in the middle of that.
    let ending = async {
        tokio::time::sleep(Duration::from_millis(1500)).await;
        daemon.pool().release(leaving.released()).await
    };
    let (called, ended) = tokio::join!(called, ending);
    ended?;
    assert!(called.is_err() || called.is_ok_and(|answer| answer.error.is_some()));
    keeper.ok("browser_snapshot", json!({})).await?;
    daemon.end().await
}
