//! Pages that crash, hang, flood or trap: each costs its call, or less, and never the session. Real Chromium.

use std::time::Duration;

use browserfleet_common::{metrics::metrics, size::GIB};
use browserfleet_pool_daemon::config::Config;
use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
    processes,
};
use nix::sys::signal::Signal;
use serde_json::json;

type Outcome = anyhow::Result<()>;

/// Far beyond what any of these takes: reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(100);

/// A daemon, its pages and a lease that has loaded `path`. Scripts get a second.
async fn begin(name: &str, path: &str, adjust: impl FnOnce(&mut Config)) -> anyhow::Result<(Daemon, Pages, Lease)> {
    let daemon = Daemon::start(|config| {
        config.limits.min_warm = 0;
        config.times.script = Duration::from_secs(1);
        // These pages take a lot, some of them more than a browser usually may, for a moment and depending on the machine.
        // Here that is not the subject; what the limit does is tested in `process_faults`.
        config.health.memory_limit = 8 * GIB;
        adjust(config);
    })?;
    let pages = Pages::start().await?;
    let lease = daemon.lease(name).await?;
    lease.ok("browser_navigate", json!({ "url": pages.at(path) })).await?;
    Ok((daemon, pages, lease))
}

async fn evaluate(lease: &Lease, function: &str) -> anyhow::Result<Answer> {
    Ok(lease.call_within("browser_evaluate", json!({ "function": function }), PATIENCE).await?)
}

/// Asks until the answer is as wanted.
async fn until(
    mut ask: impl AsyncFnMut() -> anyhow::Result<Answer>,
    wanted: impl Fn(&Answer) -> bool,
) -> anyhow::Result<Answer> {
    let patience = tokio::time::Instant::now() + PATIENCE;
    loop {
        let answer = ask().await?;
        if wanted(&answer) {
            return Ok(answer);
        }
        anyhow::ensure!(tokio::time::Instant::now() < patience, "never as wanted: {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The session goes on, in the page it was in.
async fn still_there(lease: &Lease) -> Outcome {
    let page = lease.ok("browser_snapshot", json!({})).await?;
    anyhow::ensure!(page.text.contains("Hello"), "{}", page.text);
    Ok(())
}

fn message(answer: &Answer) -> String {
    answer.error.clone().unwrap_or_default().message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_fails_the_running_call_at_once_and_nobody_elses() -> Outcome {
    let patient = |config: &mut Config| config.times.script = Duration::from_mins(1);
    let (daemon, pages, lease) = begin("crash", "/", patient).await?;
    let other = daemon.lease("other").await?;
    other.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let pid = lease.lease.browser_pid;
    let running = evaluate(&lease, "() => fetch('/seen/running').then(() => new Promise(() => {}))");
    let killing = async {
        pages.seen("running").await;
        processes::renderer_of(pid).map(|renderer| processes::signal(renderer, Signal::SIGKILL))
    };
    let (answer, killed) = tokio::time::timeout(PATIENCE, async { tokio::join!(running, killing) }).await?;
    killed.expect("a loaded page has a renderer")?;
    assert_eq!(answer?.outcome(), "browser_page_crashed");
    let next = lease.call("browser_click", json!({ "target": "a" })).await?;
    assert_eq!(next.outcome(), "browser_page_crashed", "{next:?}");
    still_there(&other).await?;
    let revived = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(revived.text.contains("Hello"), "{}", revived.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_out_of_memory_crashes_and_says_why() -> Outcome {
    let small = |config: &mut Config| {
        config.chromium.extra_args = vec!["--js-flags=--max-old-space-size=48".to_owned()];
        config.times.script = Duration::from_mins(1);
    };
    let (daemon, _pages, lease) = begin("heap", "/", small).await?;
    let bomb =
        evaluate(&lease, "() => { const all = []; for (;;) all.push(new Array(1e5).fill(all.length + 0.5)) }").await?;
    assert_eq!(bomb.outcome(), "browser_page_crashed", "{bomb:?}");
    assert!(message(&bomb).contains("memory"), "{bomb:?}");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_frame_does_not_take_its_page_along() -> Outcome {
    let isolated = |config: &mut Config| {
        config.chromium.extra_args = vec!["--site-per-process".to_owned()];
        config.times.script = Duration::from_secs(10);
    };
    let (daemon, pages, lease) = begin("frame", "/", isolated).await?;
    let load = format!(
        "() => new Promise(done => {{ const f = document.createElement('iframe'); f.onload = () => done(1); f.src = '{}/inner'; document.body.append(f) }})",
        pages.url.replace("127.0.0.1", "localhost")
    );
    lease.ok("browser_evaluate", json!({ "function": load })).await?;
    let page = lease.ok("browser_snapshot", json!({})).await?;
    let inside = page.find_ref("button \"In the frame\"")?;
    let renderer = processes::renderer_of(lease.lease.browser_pid).expect("the newest renderer is the frame's");
    processes::signal(renderer, Signal::SIGKILL)?;
    let gone = |answer: &Answer| !answer.text.contains("In the frame");
    let page = until(async || lease.ok("browser_snapshot", json!({})).await, gone).await?;
    assert!(page.text.contains("Hello"), "{}", page.text);
    let click = lease.call("browser_click", json!({ "target": inside })).await?;
    assert_eq!(click.outcome(), "element_not_actionable", "{click:?}");
    still_there(&lease).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_scripts_end_with_their_call_and_the_page_is_as_it_was() -> Outcome {
    let (daemon, _pages, lease) = begin("loops", "/", |_| {}).await?;
    let wasm = "() => new WebAssembly.Instance(new WebAssembly.Module(new Uint8Array([0,97,115,109,1,0,0,0,1,4,1,96,0,0,3,2,1,0,7,5,1,1,102,0,0,10,9,1,7,0,3,64,12,0,11,11]))).exports.f()";
    for endless in [
        "() => { for (;;); }",
        "() => { for (;;) try { for (;;); } catch {} }",
        "() => /(a+)+$/.test('a'.repeat(50) + 'b')",
        wasm,
        "() => ({ get x() { for (;;); } })",
        "() => new Proxy({}, { ownKeys() { for (;;); } })",
        "() => new Promise(() => {})",
    ] {
        let answer = evaluate(&lease, endless).await?;
        assert_eq!(answer.outcome(), "page_hung", "{endless}: {answer:?}");
        assert!(!message(&answer).contains("blank"), "{endless}: {answer:?}");
        still_there(&lease).await?;
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_page_is_worked_in() -> Outcome {
    // These do not stop the page, only use what there is of the processor: on a small machine that takes its time.
    let patient = |config: &mut Config| config.times.script = Duration::from_secs(20);
    let (daemon, _pages, lease) = begin("busy", "/", patient).await?;
    let worker = "() => { window.w = new Worker(URL.createObjectURL(new Blob(['for (;;);']))); return 1 }";
    let timers = "() => { const f = () => { setTimeout(f, 0); setTimeout(f, 5); const end = performance.now() + 20; while (performance.now() < end); }; f(); return 2 }";
    for busy in [worker, timers] {
        assert_eq!(evaluate(&lease, busy).await?.outcome(), "ok");
        still_there(&lease).await?;
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_cannot_be_freed_is_replaced_and_its_lease_kept() -> Outcome {
    let (daemon, pages, lease) = begin("stuck", "/", |_| {}).await?;
    let replaced = metrics().recoveries.get("replaced");
    let stuck = "() => { const request = new XMLHttpRequest(); request.open('GET', '/never', false); request.send() }";
    let answer = evaluate(&lease, stuck).await?;
    assert_eq!(answer.outcome(), "page_hung", "{answer:?}");
    assert!(message(&answer).contains("blank one is open"), "{answer:?}");
    assert!(metrics().recoveries.get("replaced") > replaced);
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(page.text.contains("Hello"), "{}", page.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_renderer_is_left_behind_and_ends_with_its_lease() -> Outcome {
    let (daemon, pages, lease) = begin("stopped", "/", |_| {}).await?;
    let renderer = processes::renderer_of(lease.lease.browser_pid).expect("a loaded page has a renderer");
    processes::signal(renderer, Signal::SIGSTOP)?;
    let answer = evaluate(&lease, "() => 1").await?;
    assert_eq!(answer.outcome(), "page_hung", "{answer:?}");
    let page = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(page.text.contains("Hello"), "{}", page.text);
    let (pid, released) = (lease.lease.browser_pid, tokio::time::Instant::now());
    assert!(processes::of_group(pid).contains(&renderer), "it is there still, stopped");
    daemon.pool().release(lease.released()).await?;
    while processes::in_group(pid) > 0 {
        anyhow::ensure!(released.elapsed() < PATIENCE, "it outlives its lease");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_opens_no_page_any_more_is_given_up() -> Outcome {
    let (daemon, _pages, lease) = begin("given-up", "/", |_| {}).await?;
    let pid = lease.lease.browser_pid;
    processes::signal(pid, Signal::SIGSTOP)?;
    let answer = evaluate(&lease, "() => 1").await?;
    assert_eq!(answer.outcome(), "browser_gone", "{answer:?}");
    assert!(lease.call("browser_snapshot", json!({})).await.is_err(), "the lease has ended");
    daemon.end().await?;
    assert_eq!(processes::in_group(pid), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loop_of_dialogs_costs_its_call() -> Outcome {
    let (daemon, _pages, lease) = begin("alerts", "/", |_| {}).await?;
    let mut answer = evaluate(&lease, "() => { for (let n = 0;; n++) alert(n) }").await?;
    let mut answered = 0;
    while answer.text.contains("### Modal state") {
        answered += 1;
        assert!(answered < 10, "the session is not an answering machine: {answer:?}");
        answer = lease.call("browser_handle_dialog", json!({ "accept": true })).await?;
    }
    assert!(answered >= 2, "the first dialogs are the agent's: {answer:?}");
    assert!(answer.text.contains("### Events") && answer.text.contains("dialogs were dismissed"), "{answer:?}");
    until(async || Ok(lease.call("browser_snapshot", json!({})).await?), |answer| answer.outcome() == "ok").await?;
    still_there(&lease).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_keeps_anybody_from_leaving_a_page() -> Outcome {
    let (daemon, pages, lease) = begin("leaving", "/staying", |_| {}).await?;
    lease.ok("browser_click", json!({ "target": "button" })).await?;
    let left = lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(left.text.contains("Hello") && left.text.contains("it was left"), "{}", left.text);
    assert_eq!(evaluate(&lease, "() => { print(); return 1 }").await?.outcome(), "ok");
    let locked = lease.ok("browser_navigate", json!({ "url": pages.at("/locked") })).await?;
    assert!(locked.text.contains("HTTP status: 401") && locked.text.contains("no entry"), "{}", locked.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_tabs_is_capped_and_told() -> Outcome {
    let (daemon, _pages, lease) = begin("tabs", "/", |config| config.times.script = Duration::from_secs(20)).await?;
    let closed = metrics().pages_closed.get("too_many");
    let storm = "() => { window.tabs = Array.from({ length: 60 }, (_, n) => open('about:blank', '_blank', n % 2 ? 'noopener' : '')); return 1 }";
    let mut told = evaluate(&lease, storm).await?.text;
    until(
        async || {
            let answer = evaluate(&lease, "() => tabs.filter(tab => tab && !tab.closed).length").await?;
            told.push_str(&answer.text);
            Ok(answer)
        },
        |answer| answer.text.starts_with("### Result\n5\n"),
    )
    .await?;
    assert_eq!(metrics().pages_closed.get("too_many") - closed, 51, "nine tabs and the page are left");
    assert!(told.contains("### Events") && told.contains("closed: a session may have 10"), "{told}");
    still_there(&lease).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_are_denied_and_it_is_said() -> Outcome {
    let (daemon, pages, lease) = begin("downloads", "/downloads", |config| config.chromium.download_bytes = 0).await?;
    for link in ["First", "Second"] {
        let mut told = lease.ok("browser_click", json!({ "target": format!("text={link}") })).await?.text;
        until(
            async || {
                let answer = lease.ok("browser_snapshot", json!({})).await?;
                told.push_str(&answer.text);
                Ok(Answer { text: told.clone(), ..answer })
            },
            |answer| answer.text.contains("1 download was denied, the last one: \"a.bin\""),
        )
        .await?;
    }
    let direct = lease.call("browser_navigate", json!({ "url": pages.at("/download") })).await?;
    assert_eq!(direct.outcome(), "navigation_failed", "{direct:?}");
    assert!(message(&direct).contains("downloads are denied"), "{direct:?}");
    assert!(lease.ok("browser_snapshot", json!({})).await?.text.contains("Second"), "the page has not changed");
    // What is said is also so: each of the three was broken off, and none goes on to a disk.
    tokio::time::timeout(PATIENCE, pages.seen("download-3")).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_a_script_returns_or_throws_is_bounded_and_readable() -> Outcome {
    let (daemon, pages, lease) = begin("bombs", "/", |config| config.times.script = Duration::from_secs(20)).await?;
    for (function, code, words) in [
        ("() => 'x'.repeat(1e8)", "result_too_large", "262144"),
        ("() => new Array(1e6).fill(1)", "result_too_large", "262144"),
        ("() => new Array(2 ** 32 - 1)", "result_too_large", "262144"),
        ("() => { JSON.stringify = () => 'x'.repeat(1e8); return 1 }", "result_too_large", "262144"),
        (
            "() => { String.prototype.toWellFormed = () => ({ length: 1, x: 'x'.repeat(1e8) }); return 1 }",
            "result_too_large",
            "",
        ),
        ("() => { throw { reason: 'because', n: 1n } }", "script_error", "because"),
        ("() => { throw new Error('x'.repeat(1e8)) }", "script_error", "Error: xxx"),
        ("() => { throw 'x'.repeat(1e8) }", "script_error", "xxx"),
        ("() => Promise.reject(new TypeError('late'))", "script_error", "TypeError: late"),
        ("() => { throw { toJSON() { throw 1 } } }", "script_error", "cannot be shown"),
        ("() => { throw undefined }", "script_error", "undefined"),
        ("() => ({ toJSON() { throw new Error('in toJSON') } })", "script_error", "in toJSON"),
        (
            "() => { let deep = {}; for (let n = 0; n < 1e5; n++) deep = { deep }; return deep }",
            "script_error",
            "RangeError",
        ),
    ] {
        // Some of them spoil what later ones need.
        lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
        let answer = evaluate(&lease, function).await?;
        assert_eq!(answer.outcome(), code, "{function}: {answer:?}");
        assert!(message(&answer).contains(words) && message(&answer).len() < 2000, "{function}: {answer:?}");
    }
    let shown =
        evaluate(&lease, "() => { const a = { n: 1n, s: '\\ud800' }; a.a = [a]; return new Proxy(a, {}) }").await?;
    assert!(shown.text.contains("\"1n\"") && shown.text.contains("[Circular]"), "{}", shown.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_and_monsters_of_pages_are_answered_within_bounds() -> Outcome {
    let (daemon, pages, lease) = begin("floods", "/", |config| {
        // Some take half a minute on a machine that is compiling; how fast they are is not the subject.
        config.times.script = Duration::from_secs(90);
        config.times.action = Duration::from_secs(90);
    })
    .await?;
    for monster in [
        "() => { for (let n = 0; n < 200000; n++) console.log(n); return 1 }",
        "() => { console.log('x'.repeat(1e8)); return 1 }",
        "() => { document.title = 'x'.repeat(1e7); history.replaceState(0, '', '?' + 'y'.repeat(1e6)); return 1 }",
        "() => { let at = document.body; for (let n = 0; n < 2000; n++) at = at.appendChild(document.createElement('div')); at.textContent = 'deep'; return 1 }",
        "() => { document.body.insertAdjacentHTML('beforeend', '<button>b</button>'.repeat(1e5)); return 1 }",
    ] {
        let made = evaluate(&lease, monster).await?;
        assert_eq!(made.outcome(), "ok", "{monster}: {made:?}");
        let page = lease.ok("browser_snapshot", json!({})).await?;
        assert!(page.text.contains("Hello") && page.text.len() < 2 << 20, "{monster}: {} bytes", page.text.len());
        lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    }
    // Chromium's own layout runs out of stack here. That is a crash, and said.
    let deepest = "() => { let at = document.body; for (let n = 0; n < 20000; n++) at = at.appendChild(document.createElement('div')); return 1 }";
    assert_eq!(evaluate(&lease, deepest).await?.outcome(), "ok");
    let shown = lease.call("browser_snapshot", json!({})).await?;
    assert!(matches!(shown.outcome(), "ok" | "browser_page_crashed"), "{shown:?}");
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert_eq!(evaluate(&lease, "() => { setTimeout(() => alert('x'.repeat(1e8))); return 1 }").await?.outcome(), "ok");
    let modal =
        until(async || Ok(lease.call("browser_snapshot", json!({})).await?), |a| a.text.contains("### Modal")).await?;
    assert!(modal.text.len() < 5000, "{}", modal.text.len());
    lease.ok("browser_handle_dialog", json!({ "accept": true })).await?;
    still_there(&lease).await?;
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn awkward_documents_are_worked_in() -> Outcome {
    let (daemon, pages, lease) =
        begin("awkward", "/sandboxed", |config| config.times.action = Duration::from_secs(10)).await?;
    lease.ok("browser_click", json!({ "target": "text=Go" })).await?;
    let hidden = lease.call("browser_click", json!({ "target": "text=Hidden" })).await?;
    assert_eq!(hidden.outcome(), "element_not_actionable", "{hidden:?}");
    assert!(message(&hidden).contains("visible"), "{hidden:?}");

    lease.ok("browser_navigate", json!({ "url": pages.at("/reloading") })).await?;
    // On a busy machine a document may not live long enough to be clicked in, several times in a row.
    let click = async || Ok(lease.call("browser_click", json!({ "target": "button" })).await?);
    until(click, |click| click.outcome() == "ok").await?;
    let restless = lease.ok("browser_navigate", json!({ "url": pages.at("/restless") })).await?;
    assert!(restless.text.contains("Restless") && restless.text.contains("inside"), "{}", restless.text);

    lease.ok("browser_navigate", json!({ "url": pages.at("/awkward-form") })).await?;
    let form = lease.call("browser_type", json!({ "target": "#form", "text": "x" })).await?;
    assert!(message(&form).contains("is not an <input>"), "{form:?}");

    lease.ok("browser_navigate", json!({ "url": pages.at("/files") })).await?;
    lease.ok("browser_click", json!({ "target": "button" })).await?;
    let asked = |answer: &Answer| answer.text.contains("- [File chooser]: can be handled by browser_file_upload");
    until(async || lease.ok("browser_snapshot", json!({})).await, asked).await?;
    daemon.end().await
}
