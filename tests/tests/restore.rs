//! Sessions outlive their browsers: what is kept of them comes back in the next one.

use std::time::Duration;

use browserfleet_common::{error_code::ErrorCode, pb};
use browserfleet_tests::{
    checkpoints::Kept,
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

type Outcome = anyhow::Result<()>;

const GRACE: Duration = Duration::from_secs(20);

async fn begin() -> anyhow::Result<(Daemon, Pages, Kept)> {
    let kept = Kept::default();
    let daemon = Daemon::start_with(Some(kept.checkpoints.clone()), |config| {
        config.checkpoints.interval = Duration::from_millis(200);
        config.daemon.drain_grace = GRACE;
    })?;
    Ok((daemon, Pages::start().await?, kept))
}

/// Ends a lease and gets another one for the same session.
async fn next_browser(daemon: &Daemon, lease: &Lease, session: &str) -> anyhow::Result<Lease> {
    daemon.pool().release(lease.released()).await?;
    daemon.lease(session).await
}

fn section<'a>(answer: &'a Answer, title: &str) -> Option<&'a str> {
    let (_, rest) = answer.text.split_once(&format!("### {title}\n"))?;
    Some(rest.split("\n###").next().unwrap_or(rest).trim_end())
}

/// What a script answers.
async fn value(lease: &Lease, code: &str) -> anyhow::Result<Value> {
    let answer = lease.ok("browser_evaluate", json!({ "function": code })).await?;
    Ok(serde_json::from_str(section(&answer, "Result").unwrap_or_default())?)
}

async fn navigate(lease: &Lease, url: &str) -> anyhow::Result<Answer> {
    lease.ok("browser_navigate", json!({ "url": url })).await
}

/// What is told of a restored session, in its structured form.
fn restored(answer: &Answer) -> Option<Value> {
    answer.structured.as_ref()?.get("restored").cloned()
}

/// Waits until a daemon that drains has no lease any more.
async fn until_moved(daemon: &Daemon) -> Outcome {
    let started = Instant::now();
    // A pool that has ended lists nothing.
    while daemon.app.handle().list().await.is_ok_and(|leases| !leases.is_empty()) {
        anyhow::ensure!(started.elapsed() < GRACE / 2, "the lease was not moved");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn has_tab(kept: &Value, url: &str, scrolled: bool) -> bool {
    let tabs = kept["tabs"].as_array();
    tabs.is_some_and(|tabs| {
        tabs.iter().any(|tab| tab["url"] == url && (tab["scroll"][1].as_f64().unwrap_or_default() > 0.0) == scrolled)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_goes_on_in_its_next_browser_as_it_was() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    let (first, second) = (pages.at("/kept"), pages.at("/kept/second"));
    let shown = navigate(&lease, &first).await?;
    assert_eq!(section(&shown, "Session"), None, "there was nothing to restore: {}", shown.text);
    let stale = shown.find_ref("Go on")?;
    lease.ok("browser_tabs", json!({ "action": "new" })).await?;
    lease.ok("browser_tabs", json!({ "action": "new", "url": second })).await?;
    lease.ok("browser_tabs", json!({ "action": "close", "index": 1 })).await?;
    lease.ok("browser_tabs", json!({ "action": "select", "index": 0 })).await?;
    value(&lease, "() => { localStorage.setItem('ключ', 'ö \\u0001 \"'); scrollTo(0, 1234); return 0 }").await?;
    kept.until("s", |kept| has_tab(kept, &first, true) && has_tab(kept, &second, false)).await?;

    let lease = next_browser(&daemon, &lease, "s").await?;
    let clicked = lease.call("browser_click", json!({ "target": stale })).await?;
    assert_eq!(clicked.outcome(), "element_not_actionable", "a ref from before names nothing: {clicked:?}");
    let message = clicked.error.as_ref().map(|error| error.message.clone()).unwrap_or_default();
    assert!(message.contains("restored in another browser"), "{message}");
    let told = section(&clicked, "Session").unwrap_or_default().to_owned();
    assert!(told.contains(&format!("  - 0: (current) {first}\n  - 2: {second}")), "{told}");
    assert!(told.contains("2 tabs, 1 cookies, 1 sites") && told.contains("typed into forms"), "{told}");
    let told = restored(&clicked).unwrap_or_default();
    assert_eq!(told["cookies"], 1);
    assert_eq!(told["origins"], json!([pages.url]));
    assert_eq!(told["tabs"][1], json!({ "number": 2, "current": false, "url": second }));

    let again = lease.ok("browser_snapshot", json!({})).await?;
    assert_eq!(section(&again, "Session"), None, "it is told once: {}", again.text);
    assert!(again.text.contains("login=ann"), "the server knows it: {}", again.text);
    let seen = value(&lease, "() => document.getElementById('first').textContent").await?;
    let seen: Value = serde_json::from_str(seen.as_str().unwrap_or_default().trim_start_matches("first saw "))?;
    assert_eq!(seen["local"], json!({ "name": "Ann", "ключ": "ö \u{1} \"" }), "at the first line of the page");
    assert_eq!(seen["session"], json!({ "step": "/kept" }));
    assert_eq!(value(&lease, "() => [Math.round(scrollY), history.length]").await?, json!([1234, 1]));
    lease.ok("browser_click", json!({ "target": again.find_ref("Go on")? })).await?;
    lease.ok("browser_tabs", json!({ "action": "select", "index": 2 })).await?;
    assert_eq!(value(&lease, "() => sessionStorage.step").await?, "/kept/second", "each tab has its own");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_another_birth_or_principal_gets_nothing() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    kept.until("s", |kept| has_tab(kept, &pages.at("/kept"), false)).await?;
    daemon.pool().release(lease.released()).await?;
    let request = |principal: &str, birth: &str| pb::AcquireRequest {
        principal: principal.to_owned(),
        session: "s".to_owned(),
        birth: birth.to_owned(),
        ttl: None,
        wait: Some(pb::to_wire(Duration::from_mins(1))),
        ..pb::AcquireRequest::default()
    };
    for (principal, birth) in [("tester", "2"), ("another", "1")] {
        let other = daemon.granted(request(principal, birth)).await?;
        let shown = navigate(&other, &pages.at("/kept")).await?;
        assert_eq!(section(&shown, "Session"), None, "{}", shown.text);
        assert!(shown.text.contains("known by \\\"\\\"") || shown.text.contains("known by \"\""), "{}", shown.text);
        daemon.pool().release(other.released()).await?;
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_goes_elsewhere_takes_cookies_and_storage_along() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    kept.until("s", |kept| kept["local"][&pages.url]["name"] == "Ann").await?;
    // The storage of a site that is not open any more is kept as well.
    let other = pages.at("/menu").replace("127.0.0.1", "localhost");
    navigate(&lease, &other).await?;
    kept.until("s", |kept| has_tab(kept, &other, false) && kept["local"][&pages.url]["name"] == "Ann").await?;
    let lease = next_browser(&daemon, &lease, "s").await?;
    let shown = navigate(&lease, &pages.at("/kept/second")).await?;
    assert!(section(&shown, "Session").is_some(), "{}", shown.text);
    assert!(shown.text.contains("first saw") && shown.text.contains("Ann"), "{}", shown.text);
    assert!(!shown.text.contains("- Page URL: http://localhost"), "{}", shown.text);
    let back = lease.ok("browser_navigate_back", json!({})).await?;
    assert!(back.text.contains("about:blank"), "nothing of ours is in the history: {}", back.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tabs_that_do_not_load_any_more_cost_a_bounded_time() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    let (current, other) = (pages.at("/kept/once/current"), pages.at("/kept/once/other"));
    navigate(&lease, &other).await?;
    lease.ok("browser_tabs", json!({ "action": "new", "url": current })).await?;
    kept.until("s", |kept| has_tab(kept, &current, false) && has_tab(kept, &other, false)).await?;
    let lease = next_browser(&daemon, &lease, "s").await?;
    let started = Instant::now();
    let tabs = lease.ok("browser_tabs", json!({ "action": "list" })).await?;
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    let told = section(&tabs, "Session").unwrap_or_default();
    assert!(told.contains("tab 0 did not load") && told.contains("tab 1 did not load"), "{told}");
    let shown = navigate(&lease, &pages.at("/menu")).await?;
    assert!(shown.text.contains("File"), "the page can be used: {}", shown.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storage_that_is_too_large_is_left_out_and_named() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    value(&lease, "() => { localStorage.huge = 'x'.repeat(3 << 20); return 0 }").await?;
    let too_large = format!("local storage of {}: it is too large", pages.url);
    kept.until("s", |kept| kept["lost"] == json!([too_large])).await?;
    let lease = next_browser(&daemon, &lease, "s").await?;
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    let told = section(&shown, "Session").unwrap_or_default();
    assert!(told.contains(&too_large), "{told}");
    assert_eq!(value(&lease, "() => [localStorage.huge ?? null, sessionStorage.step]").await?, json!([null, "/kept"]));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cookies_come_back_with_everything_that_decides_who_gets_them() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    let site = pages.at("/kept/cookies").replace("127.0.0.1", "localhost");
    navigate(&lease, &site).await?;
    let saved = kept.until("s", |kept| kept["cookies"].as_array().is_some_and(|cookies| cookies.len() == 8)).await?;
    let without_brief = |kept: &Value| {
        let cookies = kept["cookies"].as_array().cloned().unwrap_or_default();
        cookies.into_iter().filter(|cookie| cookie["name"] != "brief").collect::<Vec<_>>()
    };
    let saved = without_brief(&saved);
    daemon.pool().release(lease.released()).await?;
    sleep(Duration::from_secs(4)).await;
    let lease = daemon.lease("s").await?;
    let shown = lease.ok("browser_tabs", json!({ "action": "new" })).await?;
    assert_eq!(restored(&shown).unwrap_or_default()["cookies"], 7, "one has expired: {}", shown.text);
    let told = section(&shown, "Session").unwrap_or_default();
    assert!(told.contains("1 cookies, expired or refused"), "{told}");
    let again = kept.until("s", |kept| kept["tabs"].as_array().is_some_and(|tabs| tabs.len() == 2)).await?;
    // Visiting the site again has set them anew; the one that counts down is known by its end.
    let names = |cookies: &[Value]| {
        cookies
            .iter()
            .map(|cookie| {
                let mut cookie = cookie.clone();
                cookie.as_object_mut().map(|cookie| cookie.remove("expires"));
                cookie
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&without_brief(&again)), names(&saved));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_sees_and_changes_nothing_of_another_one() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    kept.until("s", |kept| kept["local"][&pages.url]["name"] == "Ann").await?;
    let liar = pages.at("/kept/liar").replace("127.0.0.1", "localhost");
    let its_origin = pages.url.replace("127.0.0.1", "localhost");
    navigate(&lease, &liar).await?;
    let saved = kept.until("s", |kept| has_tab(kept, &liar, false)).await?;
    let expected = json!({ (pages.url.clone()): { "name": "Ann" }, (its_origin): { "mine": "true" } });
    assert_eq!(saved["local"], expected, "a page cannot lie about what is stored");
    let lease = next_browser(&daemon, &lease, "s").await?;
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    assert!(shown.text.contains("Liar"), "{}", shown.text);
    let out = value(&lease, "() => document.getElementById('out').textContent").await?;
    let out: Value = serde_json::from_str(out.as_str().unwrap_or_default())?;
    assert_eq!(out, json!({ "real": { "local": { "mine": "true" }, "session": {} }, "heard": [] }));
    navigate(&lease, &pages.at("/kept/second")).await?;
    assert_eq!(value(&lease, "() => ({ ...localStorage })").await?, json!({ "name": "Ann" }));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_of_frames_is_kept_where_it_is_their_sites_own() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let neighbour = Pages::start().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/menu")).await?;
    let framed = [neighbour.at("/kept/second"), pages.at("/kept/second").replace("127.0.0.1", "localhost")];
    let load = "url => new Promise(loaded => { const f = document.createElement('iframe'); f.onload = () => loaded(0); \
                f.src = url; document.body.append(f) })";
    for url in &framed {
        value(&lease, &format!("() => ({load})('{url}')")).await?;
    }
    let saved = kept.until("s", |kept| kept["tabs"][0]["session"][&neighbour.url]["step"] == "/kept/second").await?;
    assert_eq!(saved["local"], json!({ (neighbour.url.clone()): { "name": "Ann" } }), "another site's is parted");
    lease.ok("browser_resize", json!({ "width": 800, "height": 500 })).await?;
    kept.until("s", |kept| kept["looks"]["viewport"] == json!([800, 500])).await?;
    let lease = next_browser(&daemon, &lease, "s").await?;
    navigate(&lease, &neighbour.at("/kept/second")).await?;
    let seen = "() => [localStorage.name, JSON.parse(document.getElementById('first').textContent.slice(10)).local.name, innerWidth]";
    assert_eq!(value(&lease, seen).await?, json!(["Ann", "Ann", 800]));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_without_a_pause_are_kept_too() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    let calling = async {
        loop {
            value(&lease, "() => { localStorage.calls = 'many'; return 0 }").await?;
        }
    };
    tokio::select! {
        called = calling => return called,
        saved = kept.until("s", |kept| kept["local"][&pages.url]["calls"] == "many") => drop(saved?),
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_costs_no_checkpoint() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    kept.until("s", |kept| has_tab(kept, &pages.at("/kept"), false)).await?;
    let lease = next_browser(&daemon, &lease, "s").await?;
    kept.store.away(true);
    let refused = lease.call("browser_snapshot", json!({})).await;
    let status = refused.err().ok_or_else(|| anyhow::anyhow!("a call must not begin on a blank page"))?;
    assert_eq!(ErrorCode::of(&status), ErrorCode::StoreUnavailable, "{status}");
    kept.store.away(false);
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    assert!(section(&shown, "Session").is_some() && shown.text.contains("Ann"), "{}", shown.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_moves_a_session_between_two_calls_and_never_during_one() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    let running = lease.call(
        "browser_evaluate",
        json!({ "function": "async () => { await fetch('/seen/running'); await new Promise(r => setTimeout(r, 1500)); localStorage.last = 'word'; return 'done' }" }),
    );
    let drain = async {
        pages.seen("running").await;
        daemon.app.handle().drain(GRACE).await
    };
    let (answer, drained) = tokio::join!(running, drain);
    assert_eq!(drained.ok(), Some(1));
    let answer = answer?;
    assert!(answer.error.is_none() && answer.text.contains("done"), "{answer:?}");
    let started = Instant::now();
    let status = loop {
        match lease.call("browser_snapshot", json!({})).await {
            Err(status) => break status,
            Ok(_) => anyhow::ensure!(started.elapsed() < GRACE / 2, "the lease was not moved"),
        }
    };
    assert_eq!(ErrorCode::of(&status), ErrorCode::LeaseLost, "{status}");
    assert!(status.message().contains("it moves to another server"), "{status}");
    let saved = kept.of("s").await?.unwrap_or_default();
    assert_eq!(saved["local"][&pages.url]["last"], "word", "what happened last is in it: {saved}");

    let elsewhere = Daemon::start_with(Some(kept.checkpoints.clone()), |_| {})?;
    let lease = elsewhere.lease("s").await?;
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    assert!(shown.text.contains("login=ann") && shown.text.contains("word"), "{}", shown.text);
    daemon.end().await?;
    elsewhere.end().await
}

/// What happened last is in it also when the page is busy just then, as pages are on a busy machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_for_what_a_busy_page_keeps() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    let busy = "() => { setTimeout(() => { localStorage.last = 'word'; fetch('/seen/busy'); \
                const end = Date.now() + 2000; while (Date.now() < end); }, 500); return 'soon' }";
    lease.ok("browser_evaluate", json!({ "function": busy })).await?;
    pages.seen("busy").await;
    assert_eq!(daemon.app.handle().drain(GRACE).await.ok(), Some(1));
    until_moved(&daemon).await?;
    let saved = kept.of("s").await?.unwrap_or_default();
    assert_eq!(saved["local"][&pages.url]["last"], "word", "{saved}");
    daemon.end().await
}

/// Nobody will answer it: behind a dialog nothing of the page runs, and nothing of what it keeps can be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_dismisses_dialogs_and_keeps_what_comes_of_it() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    let asks = "() => { setTimeout(() => { localStorage.last = String(confirm('first')) + confirm('second') }, 0) }";
    lease.ok("browser_evaluate", json!({ "function": asks })).await?;
    let shown = lease.call("browser_snapshot", json!({})).await?;
    assert!(
        shown.text.contains("first") || shown.error.is_some_and(|error| error.message.contains("first")),
        "it asks"
    );
    assert_eq!(daemon.app.handle().drain(GRACE).await.ok(), Some(1));
    until_moved(&daemon).await?;
    let saved = kept.of("s").await?.unwrap_or_default();
    assert_eq!(saved["local"][&pages.url]["last"], "falsefalse", "{saved}");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_keeps_what_a_lease_without_calls_would_restore() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    let saved = kept.until("s", |kept| has_tab(kept, &pages.at("/kept"), false)).await?;
    let _unused = next_browser(&daemon, &lease, "s").await?;
    daemon.end().await?;
    assert_eq!(kept.of("s").await?, Some(saved));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_dies_says_that_the_session_goes_on() -> Outcome {
    let (daemon, pages, kept) = begin().await?;
    let lease = daemon.lease("s").await?;
    navigate(&lease, &pages.at("/kept")).await?;
    kept.until("s", |kept| has_tab(kept, &pages.at("/kept"), false)).await?;
    let hanging = lease.call(
        "browser_evaluate",
        json!({ "function": "async () => { await fetch('/seen/hanging'); await new Promise(() => {}) }" }),
    );
    let kill = async {
        pages.seen("hanging").await;
        let pid = nix::unistd::Pid::from_raw(lease.lease.browser_pid.cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL)
    };
    let (answer, killed) = tokio::join!(hanging, kill);
    killed?;
    let error = answer?.error.ok_or_else(|| anyhow::anyhow!("the call must fail"))?;
    assert_eq!(error.code, "browser_gone");
    assert!(error.message.contains("goes on in a new browser with what was kept"), "{}", error.message);
    let lease = daemon.lease("s").await?;
    let shown = lease.ok("browser_snapshot", json!({})).await?;
    assert!(shown.text.contains("login=ann"), "{}", shown.text);
    daemon.end().await
}
