//! The client against a real Chromium.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

mod launch;

use std::{fs, path::Path, time::Duration};

use browserfleet_cdp::{
    CloseReason, Error, Event, Events, Item, Session, SessionState,
    browser_protocol::{
        browser::GetVersionParams,
        inspector,
        page::{NavigateParams, NavigateReturns, ReloadParams},
        target::{AttachToTargetParams, CloseTargetParams, CreateTargetParams, TargetId},
    },
    js_protocol::runtime::{self, EvaluateParams},
};
use browserfleet_common::lifecycle::Tasks;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use launch::Browser;

/// Far beyond what a busy machine needs; reached only when something hangs.
const PATIENCE: Duration = Duration::from_mins(1);

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

async fn page(browser: &Session) -> (TargetId, Session) {
    let target = browser.call(CreateTargetParams::new("about:blank"), soon()).await.unwrap().target_id;
    let attach = AttachToTargetParams::builder().target_id(target.clone()).flatten(true).build().unwrap();
    let id = browser.call(attach, soon()).await.unwrap().session_id;
    let session = browser.connection().session(id.inner());
    session.call(inspector::EnableParams::default(), soon()).await.unwrap();
    (target, session)
}

async fn evaluate(session: &Session, expression: &str) -> Result<Value, Error> {
    let result = session.call(EvaluateParams::new(expression), soon()).await?.result;
    Ok(result.value.unwrap_or_default())
}

async fn navigate(session: &Session, url: &str) -> NavigateReturns {
    session.call(NavigateParams::new(url), soon()).await.unwrap()
}

/// A navigation is answered when it commits, before the document is read.
async fn wait_for_title(session: &Session, title: &str) {
    let patience = soon();
    while evaluate(session, "document.title").await.unwrap() != json!(title) {
        assert!(Instant::now() < patience, "the title never becomes {title}");
        sleep(Duration::from_millis(10)).await;
    }
}

async fn event(events: &mut Events) -> Event {
    match timeout(PATIENCE, events.recv()).await.unwrap() {
        Some(Item::Event(event)) => event,
        other => panic!("expected an event, got {other:?}"),
    }
}

/// Starts an endless script and waits until it runs.
async fn start_endless(tasks: &Tasks, session: &Session) -> tokio::task::JoinHandle<Option<Result<Value, Error>>> {
    let mut logs = session.subscribe(&["Runtime.consoleAPICalled"], 16);
    session.call(runtime::EnableParams::default(), soon()).await.unwrap();
    let busy = session.clone();
    let call = tasks.spawn("endless", async move { evaluate(&busy, "console.log('running'); for (;;);").await });
    event(&mut logs).await;
    call
}

/// The renderer of this browser that runs an endless script: sooner or later it has used far more time than any other.
async fn busy_renderer(group: u32) -> Pid {
    let patience = soon();
    loop {
        let mut used: Vec<(u64, i32)> =
            processes().filter_map(|pid| Some((renderer_ticks(group, pid)?, pid))).collect();
        used.sort_unstable();
        let second = used.iter().rev().nth(1).map_or(0, |(ticks, _)| *ticks);
        match used.last() {
            Some((ticks, pid)) if *ticks > second + 50 => return Pid::from_raw(*pid),
            _ => assert!(Instant::now() < patience, "no renderer is busy: {used:?}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

fn processes() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Processor time of a process, if it is a renderer in this group. One that has just ended reads as nothing.
fn renderer_ticks(group: u32, pid: i32) -> Option<u64> {
    let process = Path::new("/proc").join(pid.to_string());
    let stat = fs::read_to_string(process.join("stat")).ok()?;
    // After "pid (name)": state, parent, group, …; user time is the twelfth.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let renderer = fs::read_to_string(process.join("cmdline")).ok()?.contains("--type=renderer");
    (renderer && fields.get(2)?.parse() == Ok(group)).then(|| fields.get(11)?.parse().ok())?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_and_events_of_a_page() {
    let tasks = Tasks::new();
    let browser = Browser::launch(&tasks);
    let root = browser.connection.browser();
    let version = root.call(GetVersionParams::default(), soon()).await.unwrap();
    assert!(version.product.contains("Chrome/"), "{}", version.product);

    let (_, session) = page(&root).await;
    assert_eq!(evaluate(&session, "1+1").await.unwrap(), json!(2));
    // Half an emoji, which no Rust string can hold, and a result of several megabytes.
    assert_eq!(evaluate(&session, "'😀'.slice(0, 1) + '!'").await.unwrap(), json!("\u{fffd}!"));
    let large = evaluate(&session, "'x'.repeat(8 << 20)").await.unwrap();
    assert_eq!(large.as_str().map(str::len), Some(8 << 20));

    let refused = root.call_raw("No.such", &json!({}), soon()).await;
    assert!(matches!(refused, Err(Error::Protocol { code: -32601, .. })), "{refused:?}");
    let unknown = browser.connection.session("0123456789ABCDEF0123456789ABCDEF");
    assert!(matches!(evaluate(&unknown, "1").await, Err(Error::TargetGone)));
    let stats = browser.connection.stats();
    assert_eq!((stats.malformed, stats.stale, stats.pending, stats.sessions), (0, 0, 0, 1), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_renderer_fails_its_page_only_and_navigation_revives_it() {
    let tasks = Tasks::new();
    let browser = Browser::launch(&tasks);
    let root = browser.connection.browser();
    let (_, victim) = page(&root).await;
    let (_, other) = page(&root).await;
    navigate(&other, "data:text/html,<title>other</title>").await;

    let endless = start_endless(&tasks, &victim).await;
    kill(busy_renderer(browser.group()).await, Signal::SIGKILL).unwrap();
    assert!(matches!(timeout(PATIENCE, endless).await.unwrap().unwrap().unwrap(), Err(Error::PageCrashed)));
    assert_eq!(victim.state(), SessionState::Crashed);
    assert!(matches!(evaluate(&victim, "1").await, Err(Error::PageCrashed)));
    assert_eq!(other.state(), SessionState::Alive);
    wait_for_title(&other, "other").await;

    navigate(&victim, "data:text/html,<title>revived</title>").await;
    assert_eq!(victim.state(), SessionState::Alive);
    wait_for_title(&victim, "revived").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_crashes_itself_is_revived_by_reload_and_by_an_error_page() {
    let tasks = Tasks::new();
    let browser = Browser::launch(&tasks);
    let root = browser.connection.browser();
    let (_, session) = page(&root).await;
    let mut crashes = session.subscribe(&["Inspector.targetCrashed", "Inspector.targetReloadedAfterCrash"], 16);
    navigate(&session, "data:text/html,<title>one</title>").await;
    wait_for_title(&session, "one").await;

    let crash = session.call_raw("Page.crash", &json!({}), soon()).await;
    assert!(matches!(crash, Err(Error::PageCrashed)), "{crash:?}");
    assert_eq!(event(&mut crashes).await.method, "Inspector.targetCrashed");
    session.call(ReloadParams::default(), soon()).await.unwrap();
    wait_for_title(&session, "one").await;
    assert_eq!(event(&mut crashes).await.method, "Inspector.targetReloadedAfterCrash");

    let crash = session.call_raw("Page.crash", &json!({}), soon()).await;
    assert!(matches!(crash, Err(Error::PageCrashed)), "{crash:?}");
    // Nothing listens there: what revives the page is Chromium's own error page.
    let failed = navigate(&session, "http://127.0.0.1:9/").await;
    assert!(failed.error_text.is_some());
    let revived = Instant::now() + PATIENCE;
    while session.state() == SessionState::Crashed && Instant::now() < revived {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(evaluate(&session, "1+1").await.unwrap(), json!(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_target_is_gone() {
    let tasks = Tasks::new();
    let browser = Browser::launch(&tasks);
    let root = browser.connection.browser();
    let (target, session) = page(&root).await;
    let endless = start_endless(&tasks, &session).await;
    root.call(CloseTargetParams::new(target), soon()).await.unwrap();
    assert!(matches!(timeout(PATIENCE, endless).await.unwrap().unwrap().unwrap(), Err(Error::TargetGone)));
    assert!(matches!(evaluate(&session, "1").await, Err(Error::TargetGone)));
    assert_eq!((session.state(), browser.connection.stats().sessions), (SessionState::Gone, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_browser_fails_everything_at_once() {
    let tasks = Tasks::new();
    let browser = Browser::launch(&tasks);
    let root = browser.connection.browser();
    let (_, session) = page(&root).await;
    let endless = start_endless(&tasks, &session).await;
    let (_, other) = page(&root).await;
    let other_endless = start_endless(&tasks, &other).await;
    kill(Pid::from_raw(browser.group().try_into().unwrap()), Signal::SIGKILL).unwrap();
    for call in [endless, other_endless] {
        let outcome = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap();
        let Err(Error::Closed(closed)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(closed.reason, CloseReason::EndOfStream);
    }
    timeout(PATIENCE, browser.connection.closed()).await.unwrap();
    assert_eq!(tasks.join(PATIENCE).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_the_connection_ends_the_browser() {
    let tasks = Tasks::new();
    let mut browser = Browser::launch(&tasks);
    browser.connection.browser().call(GetVersionParams::default(), soon()).await.unwrap();
    browser.connection.close();
    let patience = soon();
    while browser.exit_status().is_none() {
        assert!(Instant::now() < patience, "the browser outlives its pipe");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(tasks.join(PATIENCE).await, 0);
}
