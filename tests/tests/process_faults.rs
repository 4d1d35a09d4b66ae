//! Browsers that do not start, die, stop, swell or break inside: each is found, named and buried.

use std::{sync::Arc, time::Duration};

use browserfleet_cdp::browser_protocol::{browser, target::GetTargetsParams};
use browserfleet_common::{error_code::ErrorCode, size::MIB};
use browserfleet_pool_daemon::{
    config::Config,
    pool::{Browser, browser::Death},
};
use browserfleet_tests::{
    browsers::Browsers,
    daemon::{Daemon, Lease},
    pages::Pages,
    processes,
};
use futures_util::FutureExt as _;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

type Outcome = anyhow::Result<()>;

/// Longer than any of these takes on a busy machine.
const LIMIT: Duration = Duration::from_mins(1);
const SECOND: Duration = Duration::from_secs(1);

/// What a launch failed with; nothing of it may be left.
async fn launch_error(script: &str, launch_timeout: Duration) -> anyhow::Result<String> {
    let browsers = Browsers::fake(script, |config| config.chromium.launch_timeout = launch_timeout)?;
    let error = match timeout(LIMIT, browsers.launch()).await? {
        Ok(_browser) => anyhow::bail!("it started"),
        Err(error) => error.to_string(),
    };
    assert_eq!(browsers.profiles()?, Vec::<std::path::PathBuf>::new());
    browsers.end().await?;
    Ok(error)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_starts_slowly_is_given_up_with_its_words() -> Outcome {
    let error = launch_error("echo 'still warming up' >&2; sleep 30", SECOND).await?;
    assert_eq!(error, "the browser did not start within 1s; stderr: still warming up");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_ends_at_once_leaves_its_last_4_kib() -> Outcome {
    let flood = "echo first >&2; head -c 9000 /dev/zero | tr '\\0' x >&2; echo last >&2; exit 3";
    let error = launch_error(flood, LIMIT).await?;
    assert!(error.starts_with("the browser ended at once with exit status 3; stderr: xxx"), "{error}");
    assert!(error.ends_with("xxxlast") && !error.contains("first"), "{error}");
    assert!((4000..4300).contains(&error.len()), "{} bytes", error.len());
    Ok(())
}

/// Its pipe stays open for longer than the test waits: only the exit itself tells that nothing will come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_ends_and_leaves_its_pipe_to_a_helper_is_given_up_at_once() -> Outcome {
    let error = launch_error("sleep 90 & echo 'one is left' >&2; exit 3", 2 * LIMIT).await?;
    assert_eq!(error, "the browser ended at once with exit status 3; stderr: one is left");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_says_nothing_is_given_up() -> Outcome {
    assert_eq!(launch_error("exit 0", LIMIT).await?, "the browser ended at once with exit status 0; stderr: ");
    assert_eq!(launch_error("sleep 30", SECOND).await?, "the browser did not start within 1s; stderr: ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_writes_garbage_is_given_up() -> Outcome {
    let garbage = "head -c 300000 /dev/urandom >&4; echo 'wrote garbage' >&2; sleep 30";
    let error = launch_error(garbage, 2 * SECOND).await?;
    assert_eq!(error, "the browser did not start within 2s; stderr: wrote garbage");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_closes_its_pipe_is_given_up_at_once() -> Outcome {
    let error = launch_error("echo 'no debugger here' >&2; exec 3<&- 4>&-; sleep 30", LIMIT).await?;
    assert!(
        error.starts_with("the browser does not get ready: ") && error.ends_with("stderr: no debugger here"),
        "{error}"
    );
    Ok(())
}

/// Real Chromium whose pages are probed every second.
fn probed(config: &mut Config) {
    config.health.probe_interval = SECOND;
}

async fn death_of(browser: &Arc<Browser>) -> anyhow::Result<Death> {
    Ok(timeout(LIMIT, browser.died()).await?)
}

/// Ends a browser that has died; nobody of it may be left, not even as a zombie.
async fn bury(browsers: Browsers, browser: Arc<Browser>) -> Outcome {
    let group = browser.tree.pid();
    assert_eq!(browser.tree.end().await, 0);
    assert_eq!(processes::in_group(group), 0);
    drop(browser);
    browsers.end().await
}

async fn eventually(what: &str, condition: impl Fn() -> bool) -> Outcome {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        anyhow::ensure!(Instant::now() < deadline, "never came: {what}");
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

async fn computes(page: &browserfleet_pool_daemon::page::Page) -> bool {
    page.answers(Instant::now() + LIMIT).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_ends_a_browser_is_a_death() -> Outcome {
    for (signal, expected) in [
        (Signal::SIGKILL, "it ended with signal 9 (SIGKILL)"),
        (Signal::SIGSEGV, "it ended with signal 11 (SIGSEGV)"),
        (Signal::SIGTERM, "it "),
    ] {
        let browsers = Browsers::start(|_| {})?;
        let browser = browsers.launch().await?;
        processes::signal(browser.tree.pid(), signal)?;
        let death = death_of(&browser).await?;
        assert_eq!(death.code, ErrorCode::BrowserGone);
        // Which is seen first, the exit or the closed pipe, is open.
        let pipe = death.reason.starts_with("it closed its pipe");
        assert!(pipe || death.reason.starts_with(expected), "{signal}: {}", death.reason);
        bury(browsers, browser).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_browser_misses_three_probes_and_is_buried() -> Outcome {
    let browsers = Browsers::start(|_| {})?;
    let browser = browsers.launch().await?;
    let dying = death_of(&browser);
    processes::signal(browser.tree.pid(), Signal::SIGSTOP)?;
    let death = dying.await?;
    assert_eq!(death.code, ErrorCode::BrowserGone);
    assert_eq!(death.reason, "it did not answer 3 probes in a row, 2s each");
    // Whoever asks later hears the same.
    assert_eq!(death_of(&browser).await?, death);
    bury(browsers, browser).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_zygote_is_found_by_opening_a_page() -> Outcome {
    let browsers = Browsers::start(probed)?;
    let browser = browsers.launch().await?;
    let page = browser.take_ready().expect("a page is ready").page;
    let zygotes = processes::of_type(browser.tree.pid(), "zygote");
    assert!(!zygotes.is_empty());
    for zygote in zygotes {
        // One may have gone with the other.
        let _gone = processes::signal(zygote, Signal::SIGKILL);
    }
    let death = death_of(&browser).await?;
    assert_eq!(death.code, ErrorCode::BrowserGone);
    assert!(death.reason.starts_with("it opens no pages any more ("), "{}", death.reason);
    drop(page);
    bury(browsers, browser).await
}

/// With our flags graphics and network run in the main process: there is no process whose death would have to be survived,
/// and if a newer Chromium brings one back this test says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn graphics_and_network_have_no_process_and_other_helpers_may_die() -> Outcome {
    let browsers = Browsers::start(probed)?;
    let browser = browsers.launch().await?;
    let page = browser.take_ready().expect("a page is ready").page;
    let group = browser.tree.pid();
    assert_eq!(processes::of_type(group, "gpu-process"), Vec::<u32>::new());
    for utility in processes::of_type(group, "utility") {
        assert!(!processes::command_line(utility).contains("network.mojom"), "a network service of its own");
        processes::signal(utility, Signal::SIGKILL)?;
    }
    assert!(computes(&page).await);
    // Probes go on; three of them find nothing.
    assert!(timeout(5 * SECOND, browser.died()).await.is_err(), "it lives");
    drop(page);
    bury(browsers, browser).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browser_that_takes_too_much_memory_is_ended() -> Outcome {
    let browsers = Browsers::start(|config| config.health.memory_limit = 500 * MIB)?;
    let browser = browsers.launch().await?;
    let page = browser.take_ready().expect("a page is ready").page;
    let watching = death_of(&browser);
    let swelling = async {
        // Not on the heap of the script engine, whose own limit would end the renderer first.
        let code =
            "() => { window.held = []; for (let i = 0; i < 64; i++) held.push(new Uint8Array(1 << 24).fill(1)); }";
        // It may be answered before the end or fail with it.
        let _either = page.evaluate(code, None, Instant::now() + LIMIT).await;
    };
    let (death, ()) = tokio::join!(watching, swelling);
    let death = death?;
    assert_eq!(death.code, ErrorCode::BrowserOutOfMemory);
    assert!(death.reason.contains("browser.memory_limit is 500 MiB"), "{}", death.reason);
    assert!(browser.tree.memory() > 500 * MIB);
    drop(page);
    bury(browsers, browser).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_leave_a_sound_browser_as_it_was() -> Outcome {
    let browsers = Browsers::start(probed)?;
    let browser = browsers.launch().await?;
    let page = browser.take_ready().expect("a page is ready").page;
    let renderers = processes::of_type(browser.tree.pid(), "renderer").len();
    let watched = Arc::clone(&browser);
    let watch = browser.tasks.spawn("test.watch", async move { watched.died().await });
    // Five probes and three pulses, while the page is in use.
    let end = Instant::now() + 7 * SECOND;
    while Instant::now() < end {
        assert!(computes(&page).await);
        sleep(Duration::from_millis(5)).await;
    }
    assert!(!watch.is_finished(), "it lives");
    let calls = browser.connection.browser();
    let limit = Instant::now() + LIMIT;
    loop {
        // A probe may be under way.
        let targets = calls.call(GetTargetsParams::default(), limit).await?.target_infos;
        if targets.iter().filter(|target| target.r#type == "page").count() == 1 {
            break;
        }
        anyhow::ensure!(Instant::now() < limit, "a probe's page is left: {targets:?}");
    }
    eventually("no more renderers than before", || {
        processes::of_type(browser.tree.pid(), "renderer").len() <= renderers
    })
    .await?;
    let memory = browser.tree.memory();
    assert!((50 * MIB..500 * MIB).contains(&memory), "{memory} bytes");
    calls.call(browser::GetVersionParams::default(), Instant::now() + LIMIT).await?;
    drop((page, calls));
    assert_eq!(browser.tree.end().await, 0);
    // Only now: its watch holds the browser too.
    assert!(watch.await?.is_some());
    bury(browsers, browser).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_call_that_took_the_memory_is_told_and_nobody_else() -> Outcome {
    let daemon = Daemon::start(|config| {
        config.health.memory_limit = 500 * MIB;
        config.times.script = LIMIT;
    })?;
    let pages = Pages::start().await?;
    let (greedy, other) = (daemon.lease("greedy").await?, daemon.lease("other").await?);
    for lease in [&greedy, &other] {
        lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    }
    // It never ends by itself: what it answers is how its browser ended.
    let swell = "() => { window.held = []; for (let i = 0; i < 64; i++) held.push(new Uint8Array(1 << 24).fill(1)); \
                 return new Promise(() => {}) }";
    let answer = greedy.call("browser_evaluate", json!({ "function": swell })).await?;
    assert_eq!(answer.outcome(), "browser_out_of_memory", "{answer:?}");
    let told = answer.error.unwrap_or_default().message;
    assert!(told.contains("browser.memory_limit is 500 MiB") && told.contains("browser_navigate"), "{told}");
    // The lease is gone with its browser. Whoever calls later is not the cause.
    let later = greedy.call("browser_snapshot", json!({})).await.expect_err("the lease has ended");
    assert_eq!(ErrorCode::of(&later), ErrorCode::LeaseLost);
    assert!(later.message().contains("browser.memory_limit is 500 MiB"), "{}", later.message());
    other.ok("browser_snapshot", json!({})).await?;
    daemon.end().await
}

/// What befalls one browser, from its lease to its end.
async fn misfortune(daemon: &Daemon, pages: &Pages, n: usize) -> Outcome {
    let victim = daemon.lease(&format!("victim-{n}")).await?;
    victim.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let pid = victim.lease.browser_pid;
    match n % 3 {
        0 => processes::signal(pid, Signal::SIGKILL)?,
        1 => processes::signal(pid, Signal::SIGSTOP)?,
        _ => {
            let endless = victim.call("browser_evaluate", json!({ "function": "() => { for (;;); }" })).await?;
            anyhow::ensure!(endless.outcome() == "page_hung", "{endless:?}");
        }
    }
    // A stopped one answers nothing and is given up; a dead one's lease is lost.
    let _failed = victim.call("browser_evaluate", json!({ "function": "() => 1" })).await;
    daemon.pool().release(victim.released()).await?;
    Ok(())
}

/// How often a caller would like to be answered.
const PACE: Duration = Duration::from_millis(5);

/// How long calls took; one that held up the calls which should have followed counts for those too.
#[derive(Default)]
struct Took(Vec<Duration>);

impl Took {
    fn add(&mut self, mut took: Duration) {
        while !took.is_zero() {
            self.0.push(took);
            took = took.saturating_sub(PACE);
        }
    }

    fn p95(&mut self) -> Duration {
        self.0.sort_unstable();
        self.0[self.0.len() * 95 / 100]
    }
}

/// Calls of the leases, one after the other, until `until` has come.
async fn calls(leases: &[Lease], took: &mut Took, until: impl Future<Output = Outcome>) -> Outcome {
    let mut until = std::pin::pin!(until);
    for lease in leases.iter().cycle() {
        let began = Instant::now();
        let mut call = std::pin::pin!(lease.ok("browser_snapshot", json!({})));
        tokio::select! {
            answer = &mut call => answer?,
            ended = &mut until => {
                call.await?;
                took.add(began.elapsed());
                return ended;
            }
        };
        took.add(began.elapsed());
    }
    anyhow::bail!("nobody calls")
}

/// Calm and misfortune take turns in one run, so that whatever else the machine does meets both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_keep_their_pace_while_a_browser_crashes_stops_or_spins() -> Outcome {
    let daemon = Daemon::start(|config| {
        config.limits.max_browsers = 3;
        config.times.script = SECOND;
    })?;
    let pages = Pages::start().await?;
    let mut others = Vec::new();
    for name in ["one", "other"] {
        let lease = daemon.lease(name).await?;
        lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
        others.push(lease);
    }
    let (mut calm, mut hit) = (Took::default(), Took::default());
    for n in 0..3 {
        calls(&others, &mut calm, sleep(SECOND).map(Ok)).await?;
        calls(&others, &mut hit, misfortune(&daemon, &pages, n)).await?;
    }
    let (calm, hit) = (calm.p95(), hit.p95());
    eprintln!("p95 {calm:?} in calm, {hit:?} beside a fault");
    // Below the floor a ratio says more of the machine's scheduler than of us.
    assert!(hit <= 3 * calm.max(Duration::from_millis(50)), "{hit:?} beside a fault, {calm:?} without");
    daemon.end().await
}
