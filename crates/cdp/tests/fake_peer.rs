//! The client against a peer that behaves well, badly, or not at all.
#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not know as such")]

use std::{io::ErrorKind, sync::Arc, time::Duration};

use browserfleet_cdp::{
    CloseReason, Closed, Connection, Error, Events, Item, Session, SessionState,
    fake::{Peer, Request},
    js_protocol::runtime::EvaluateParams,
};
use browserfleet_common::{lifecycle::Tasks, metrics::metrics};
use serde_json::{Value, json, value::RawValue};
use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};

type Outcome = Result<Box<RawValue>, Error>;

/// Far beyond anything a healthy test needs; reached only when something hangs.
const PATIENCE: Duration = Duration::from_secs(30);

struct Rig {
    tasks: Tasks,
    peer: Peer,
    connection: Connection,
}

impl Rig {
    fn new() -> Self {
        let tasks = Tasks::new();
        let (peer, connection) = Peer::connect(&tasks).unwrap();
        Self { tasks, peer, connection }
    }

    /// Starts a command and lets it arrive at the peer.
    async fn start(&mut self, session: &Session, method: &'static str) -> (JoinHandle<Option<Outcome>>, Request) {
        let call = self.call(session, method);
        (call, timeout(PATIENCE, self.peer.expect(method)).await.unwrap().unwrap())
    }

    fn call(&self, session: &Session, method: &'static str) -> JoinHandle<Option<Outcome>> {
        let session = session.clone();
        self.tasks.spawn("call", async move { session.call_raw(method, &json!({}), soon()).await })
    }
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

async fn outcome(call: JoinHandle<Option<Outcome>>) -> Outcome {
    timeout(PATIENCE, call).await.unwrap().unwrap().unwrap()
}

async fn until(what: &str, mut met: impl FnMut() -> bool) {
    let patience = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < patience, "waited too long: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn next(events: &mut Events) -> Option<Item> {
    timeout(PATIENCE, events.recv()).await.unwrap()
}

fn value(outcome: Outcome) -> Value {
    browserfleet_cdp::decode(&outcome.unwrap()).unwrap()
}

#[tokio::test]
async fn a_typed_command_gets_its_typed_result() {
    let Rig { tasks, mut peer, connection } = Rig::new();
    let page = connection.session("S");
    let call = tasks.spawn("call", async move { page.call(EvaluateParams::new("1+1"), soon()).await });
    let request = peer.expect("Runtime.evaluate").await.unwrap();
    assert_eq!((request.session.as_deref(), &request.params["expression"]), (Some("S"), &json!("1+1")));
    peer.reply(&request, json!({ "result": { "type": "number", "value": 2 } })).await.unwrap();
    let result = call.await.unwrap().unwrap().unwrap();
    assert_eq!(result.result.value, Some(json!(2)));
}

#[tokio::test]
async fn replies_find_their_callers_in_any_order() {
    let mut rig = Rig::new();
    let browser = rig.connection.browser();
    let mut started = Vec::new();
    for method in ["A.a", "A.b", "A.c"] {
        started.push(rig.start(&browser, method).await);
    }
    for (_, request) in started.iter().rev() {
        rig.peer.reply(request, json!({ "method": request.method })).await.unwrap();
    }
    for (call, request) in started {
        assert_eq!(value(outcome(call).await), json!({ "method": request.method }));
    }
}

#[tokio::test]
async fn a_refusal_and_an_unexpected_form_are_errors_of_their_own() {
    let Rig { tasks, mut peer, connection } = Rig::new();
    let page = connection.session("S");
    let calls = tasks.spawn("call", async move {
        let refused = page.call(EvaluateParams::new("x"), soon()).await;
        (refused, page.call(EvaluateParams::new("x"), soon()).await)
    });
    let request = peer.expect("Runtime.evaluate").await.unwrap();
    peer.refuse(&request, -32_000, "no").await.unwrap();
    let request = peer.expect("Runtime.evaluate").await.unwrap();
    peer.reply(&request, json!({ "unexpected": true })).await.unwrap();
    let (refused, undecodable) = calls.await.unwrap().unwrap();
    assert_eq!(refused.unwrap_err().to_string(), "Runtime.evaluate refused: no (-32000)");
    assert!(matches!(undecodable, Err(Error::Decode { method, .. }) if method == "Runtime.evaluate"));
}

#[tokio::test]
async fn a_deadline_holds_and_the_late_reply_is_stale() {
    let Rig { mut peer, connection, .. } = Rig::new();
    let browser = connection.browser();
    let deadline = Instant::now() + Duration::from_millis(20);
    let late = browser.call_raw("A.slow", &json!({}), deadline).await;
    assert!(matches!(late, Err(Error::Timeout { method }) if method == "A.slow"));
    assert_eq!(connection.stats().pending, 0);
    let request = peer.expect("A.slow").await.unwrap();
    peer.reply(&request, json!({})).await.unwrap();
    until("stale", || connection.stats().stale == 1).await;
    assert_eq!(connection.stats().malformed, 0);
}

#[tokio::test]
async fn a_caller_that_goes_away_leaves_nothing() {
    let mut rig = Rig::new();
    let (call, _request) = rig.start(&rig.connection.browser(), "A.a").await;
    assert_eq!(rig.connection.stats().pending, 1);
    call.abort();
    until("forgotten", || rig.connection.stats().pending == 0).await;
}

#[tokio::test]
async fn a_browser_that_does_not_read_delays_nobody_beyond_the_deadline() {
    let Rig { tasks, mut peer, connection } = Rig::new();
    let large = json!({ "text": "x".repeat(200_000) });
    let deadline = Instant::now() + Duration::from_millis(300);
    let calls: Vec<_> = (0..200)
        .map(|_| {
            let (browser, large) = (connection.browser(), large.clone());
            tasks.spawn("call", async move { browser.call_raw("A.large", &large, deadline).await })
        })
        .collect();
    for call in calls {
        assert!(matches!(outcome(call).await, Err(Error::Timeout { .. })));
    }
    assert_eq!(connection.stats().pending, 0);
    // What had not been written when its caller gave up is never written: at most the one that was under way.
    let browser = connection.browser();
    let call = tasks.spawn("call", async move { browser.call_raw("A.next", &json!({}), soon()).await });
    let mut late = 0;
    loop {
        let request = timeout(PATIENCE, peer.request()).await.unwrap().unwrap().unwrap();
        if request.method == "A.next" {
            peer.reply(&request, json!({})).await.unwrap();
            break;
        }
        late += 1;
    }
    assert!(late <= 2, "{late}");
    outcome(call).await.unwrap();
}

#[tokio::test]
async fn a_crash_fails_all_of_that_session_only_until_a_navigation_revives_it() {
    let mut rig = Rig::new();
    let (page, other) = (rig.connection.session("S"), rig.connection.session("O"));
    let (first, _) = rig.start(&page, "Runtime.evaluate").await;
    let (second, _) = rig.start(&page, "Page.navigate").await;
    let (unharmed, request) = rig.start(&other, "Runtime.evaluate").await;
    rig.peer.event(Some("S"), "Inspector.targetCrashed", json!({})).await.unwrap();
    assert!(matches!(outcome(first).await, Err(Error::PageCrashed)));
    assert!(matches!(outcome(second).await, Err(Error::PageCrashed)));
    assert_eq!((page.state(), other.state()), (SessionState::Crashed, SessionState::Alive));
    assert_eq!(rig.connection.session("S").state(), SessionState::Crashed, "handles share their state");
    assert!(matches!(outcome(rig.call(&page, "Runtime.evaluate")).await, Err(Error::PageCrashed)));
    rig.peer.reply(&request, json!({})).await.unwrap();
    outcome(unharmed).await.unwrap();

    let (navigate, request) = rig.start(&page, "Page.navigate").await;
    rig.peer.reply(&request, json!({ "frameId": "F", "loaderId": "L" })).await.unwrap();
    outcome(navigate).await.unwrap();
    assert_eq!(page.state(), SessionState::Alive);
    let (alive, request) = rig.start(&page, "Runtime.evaluate").await;
    rig.peer.reply(&request, json!({})).await.unwrap();
    outcome(alive).await.unwrap();
}

#[tokio::test]
async fn a_refused_reload_does_not_revive_and_the_inspector_event_does() {
    let mut rig = Rig::new();
    let page = rig.connection.session("S");
    rig.peer.event(Some("S"), "Inspector.targetCrashed", json!({})).await.unwrap();
    until("crashed", || page.state() == SessionState::Crashed).await;
    let (reload, request) = rig.start(&page, "Page.reload").await;
    rig.peer.refuse(&request, -32_000, "no").await.unwrap();
    assert!(matches!(outcome(reload).await, Err(Error::Protocol { .. })));
    assert_eq!(page.state(), SessionState::Crashed);
    rig.peer.event(Some("S"), "Inspector.targetReloadedAfterCrash", json!({})).await.unwrap();
    until("alive", || page.state() == SessionState::Alive).await;
}

#[tokio::test]
async fn a_crash_told_by_the_browser_is_found_by_its_target() {
    let mut rig = Rig::new();
    let attached = json!({ "sessionId": "S", "targetInfo": { "targetId": "T" }, "waitingForDebugger": false });
    rig.peer.event(None, "Target.attachedToTarget", attached).await.unwrap();
    until("attached", || rig.connection.stats().sessions == 1).await;
    let page = rig.connection.session("S");
    let (call, _) = rig.start(&page, "Runtime.evaluate").await;
    rig.peer.event(None, "Target.targetCrashed", json!({ "targetId": "T" })).await.unwrap();
    assert!(matches!(outcome(call).await, Err(Error::PageCrashed)));
}

#[tokio::test]
async fn a_detached_target_fails_its_calls_and_leaves_the_registry() {
    let mut rig = Rig::new();
    let page = rig.connection.session("S");
    let mut events = page.subscribe(&["A.b"], 4);
    let (call, _) = rig.start(&page, "Runtime.evaluate").await;
    rig.peer.event(None, "Target.detachedFromTarget", json!({ "sessionId": "S", "targetId": "T" })).await.unwrap();
    assert!(matches!(outcome(call).await, Err(Error::TargetGone)));
    assert!(matches!(outcome(rig.call(&page, "Page.navigate")).await, Err(Error::TargetGone)));
    assert!(next(&mut events).await.is_none());
    assert!(next(&mut page.subscribe(&["A.b"], 4)).await.is_none());
    let stats = rig.connection.stats();
    assert_eq!((page.state(), stats.sessions, stats.pending, stats.subscribers), (SessionState::Gone, 0, 0, 0));
}

#[tokio::test]
async fn half_a_message_then_the_end_is_the_end() {
    let mut rig = Rig::new();
    let page = rig.connection.session("S");
    let streams = [page.subscribe(&["A.b"], 4), rig.connection.browser().subscribe(&["A.b"], 4)];
    let (on_page, _) = rig.start(&page, "Runtime.evaluate").await;
    let (on_browser, _) = rig.start(&rig.connection.browser(), "Target.getTargets").await;
    rig.peer.raw(br#"{"id":1,"resu"#).await.unwrap();
    drop(rig.peer);
    let expected = Closed { reason: CloseReason::EndOfStream };
    for call in [on_page, on_browser] {
        assert!(matches!(outcome(call).await, Err(Error::Closed(closed)) if closed == expected));
    }
    assert_eq!(timeout(PATIENCE, rig.connection.closed()).await.unwrap(), expected);
    assert!(rig.connection.is_closed());
    for mut events in streams {
        assert!(next(&mut events).await.is_none());
    }
    let later = page.call_raw("A.a", &json!({}), soon()).await;
    assert!(matches!(later, Err(Error::Closed(closed)) if closed == expected));
    assert_eq!(rig.tasks.join(PATIENCE).await, 0, "both tasks have ended");
}

#[tokio::test]
async fn a_message_beyond_the_limit_fails_only_the_command_it_answers() {
    for id_first in [true, false] {
        let tasks = Tasks::new();
        let (mut peer, connection) = Peer::connect_with_frame_limit(&tasks, 100_000).unwrap();
        let (large, small) = (connection.browser(), connection.browser());
        let large = tasks.spawn("call", async move { large.call_raw("A.large", &json!({}), soon()).await });
        let request = peer.expect("A.large").await.unwrap();
        let small = tasks.spawn("call", async move { small.call_raw("A.small", &json!({}), soon()).await });
        let other = peer.expect("A.small").await.unwrap();
        // 20 MB against a limit of 100 kB, with another id inside: what the page sends cannot be taken for the envelope.
        let id = format!("\"id\":{}", request.id);
        let result = format!("\"result\":{{\"id\":{},\"text\":\"", other.id);
        let (head, tail) = if id_first {
            (format!("{{{id},{result}"), "\"}}".to_owned())
        } else {
            (format!("{{{result}"), format!("\"}},{id}}}"))
        };
        peer.raw(head.as_bytes()).await.unwrap();
        for _ in 0..400 {
            peer.raw(&vec![b'x'; 50_000]).await.unwrap();
        }
        peer.raw(tail.as_bytes()).await.unwrap();
        peer.raw(&[0]).await.unwrap();
        let failed = outcome(large).await;
        assert!(
            matches!(&failed, Err(Error::ReplyTooLarge { method, bytes }) if method == "A.large" && *bytes > 20_000_000)
        );
        peer.reply(&other, json!({ "fine": true })).await.unwrap();
        assert_eq!(value(outcome(small).await), json!({ "fine": true }));
        assert_eq!((connection.stats().too_large, connection.is_closed()), (1, false));
    }
    assert!(metrics().frames_skipped.get("too_large") >= 2);
}

#[tokio::test]
async fn an_event_beyond_the_limit_is_a_lag_of_who_asked_for_it() {
    let tasks = Tasks::new();
    let (mut peer, connection) = Peer::connect_with_frame_limit(&tasks, 1000).unwrap();
    let page = connection.session("S");
    let (mut asked, mut others) = (page.subscribe(&["A.b"], 4), page.subscribe(&["A.c"], 4));
    peer.event(Some("S"), "A.b", json!({ "text": "x".repeat(5000) })).await.unwrap();
    peer.event(Some("S"), "A.b", json!({ "fits": true })).await.unwrap();
    assert!(matches!(next(&mut asked).await, Some(Item::Lagged(1))));
    assert!(matches!(next(&mut asked).await, Some(Item::Event(_))));
    assert!(others.try_recv().is_none());
}

#[tokio::test]
async fn an_endless_message_then_the_end_is_the_end() {
    let tasks = Tasks::new();
    let (mut peer, connection) = Peer::connect_with_frame_limit(&tasks, 1000).unwrap();
    let browser = connection.browser();
    let call = tasks.spawn("call", async move { browser.call_raw("A.a", &json!({}), soon()).await });
    peer.expect("A.a").await.unwrap();
    peer.raw(&vec![b'x'; 50_000]).await.unwrap();
    drop(peer);
    let expected = Closed { reason: CloseReason::EndOfStream };
    assert!(matches!(outcome(call).await, Err(Error::Closed(closed)) if closed == expected));
    assert_eq!(tasks.join(PATIENCE).await, 0);
}

#[tokio::test]
async fn nonsense_is_counted_and_ignored() {
    let mut rig = Rig::new();
    let browser = rig.connection.browser();
    let (call, request) = rig.start(&browser, "A.a").await;
    for nonsense in [
        "not json\0",
        "\0",
        "[]\0",
        "{}\0",
        r#"{"id":"7","result":{}}"#.to_owned().as_str(),
        "\0",
        "{\"id\":-1,\"result\":{}}\0",
        "{\"id\":999,\"result\":{}}\0",
        "{\"id\":0,\"result\":{}}\0",
        "{\"error\":{\"code\":-32700,\"message\":\"x\"}}\0",
    ] {
        rig.peer.raw(nonsense.as_bytes()).await.unwrap();
    }
    rig.peer.raw(b"{\"method\":\"\xff\xfe\"}\0").await.unwrap();
    rig.peer.event(Some("nobody"), "Never.heard", json!({ "of": "it" })).await.unwrap();
    rig.peer.reply(&request, json!({ "fine": true })).await.unwrap();
    rig.peer.reply(&request, json!({ "fine": false })).await.unwrap();
    assert_eq!(value(outcome(call).await), json!({ "fine": true }));
    until("all read", || rig.connection.stats().frames == 13).await;
    let stats = rig.connection.stats();
    assert_eq!((stats.malformed, stats.stale), (10, 1));
    // Of the whole process: other tests count as well.
    assert!(metrics().frames_skipped.get("malformed") >= 7 && metrics().frames_skipped.get("unknown_id") >= 3);
    assert!(!rig.connection.is_closed());
}

#[tokio::test]
async fn a_slow_subscriber_lags_and_holds_up_nobody() {
    let mut rig = Rig::new();
    let page = rig.connection.session("S");
    let mut slow = page.subscribe(&["A.tick", "A.tock"], 4);
    let mut elsewhere = rig.connection.browser().subscribe(&["A.tick"], 4);
    for n in 0..1000 {
        rig.peer.event(Some("S"), if n % 2 == 0 { "A.tick" } else { "A.tock" }, json!({ "n": n })).await.unwrap();
        rig.peer.event(Some("S"), "A.unwanted", json!({})).await.unwrap();
    }
    let (call, request) = rig.start(&page, "Runtime.evaluate").await;
    rig.peer.reply(&request, json!({})).await.unwrap();
    outcome(call).await.unwrap();
    assert!(matches!(next(&mut slow).await, Some(Item::Lagged(996))));
    for n in 996..1000 {
        let Some(Item::Event(event)) = next(&mut slow).await else { panic!("expected an event") };
        assert_eq!(event.decode::<Value>().unwrap(), json!({ "n": n }));
        assert_eq!(event.method, if n % 2 == 0 { "A.tick" } else { "A.tock" });
    }
    assert!(elsewhere.try_recv().is_none(), "events of a session stay in it");
    assert_eq!(rig.connection.stats().lagged, 996);
    drop(slow);
    assert_eq!(rig.connection.stats().subscribers, 1);
}

#[tokio::test]
async fn large_results_arrive_whole() {
    let mut rig = Rig::new();
    let browser = rig.connection.browser();
    let text = "x".repeat(20 << 20);
    let (call, request) = rig.start(&browser, "A.large").await;
    rig.peer.reply(&request, json!({ "text": text })).await.unwrap();
    assert_eq!(value(outcome(call).await)["text"].as_str().map(str::len), Some(text.len()));
}

#[tokio::test]
async fn a_command_no_browser_would_read_is_refused_here() {
    let Rig { connection, .. } = Rig::new();
    let text = "x".repeat(browserfleet_cdp::FRAME_LIMIT);
    let refused = connection.browser().call_raw("A.large", &json!({ "text": text }), soon()).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    assert_eq!(connection.stats().pending, 0);
}

#[tokio::test]
async fn dropping_the_last_handle_hangs_up() {
    let Rig { tasks, mut peer, connection } = Rig::new();
    let page = connection.session("S");
    let mut events = page.subscribe(&["A.b"], 4);
    drop(connection);
    let call = tasks.spawn("call", async move { (page.call_raw("A.a", &json!({}), soon()).await, page) });
    let request = peer.expect("A.a").await.unwrap();
    peer.reply(&request, json!({})).await.unwrap();
    let (answered, page) = timeout(PATIENCE, call).await.unwrap().unwrap().unwrap();
    answered.unwrap();
    drop(page);
    assert!(timeout(PATIENCE, peer.request()).await.unwrap().unwrap().is_none());
    assert!(next(&mut events).await.is_none());
    assert_eq!(tasks.join(PATIENCE).await, 0);
}

#[tokio::test]
async fn closing_here_needs_no_answer_from_the_browser() {
    let mut rig = Rig::new();
    let (call, _) = rig.start(&rig.connection.browser(), "A.a").await;
    rig.connection.close();
    let expected = Closed { reason: CloseReason::Local };
    assert!(matches!(outcome(call).await, Err(Error::Closed(closed)) if closed == expected));
    assert_eq!(rig.connection.closed().await, expected);
    assert_eq!(rig.tasks.join(PATIENCE).await, 0);
    assert!(rig.peer.request().await.unwrap().is_none());
}

#[tokio::test]
async fn a_browser_that_closes_only_its_reading_end_is_dead_too() {
    let tasks = Tasks::new();
    let (from_browser, _kept_open) = std::io::pipe().unwrap();
    let (closed_end, to_browser) = std::io::pipe().unwrap();
    drop(closed_end);
    let connection = Connection::open(from_browser.into(), to_browser.into(), &tasks).unwrap();
    let failed = connection.browser().call_raw("A.a", &json!({}), soon()).await;
    let expected = Closed { reason: CloseReason::Write(ErrorKind::BrokenPipe) };
    assert!(matches!(failed, Err(Error::Closed(closed)) if closed == expected));
}

#[tokio::test]
async fn a_descriptor_that_is_no_pipe_is_refused() {
    let tasks = Tasks::new();
    let file = Arc::new(tempfile::tempfile().unwrap());
    let (read, write) = (file.try_clone().unwrap(), file.try_clone().unwrap());
    assert!(Connection::open(read.into(), write.into(), &tasks).is_err());
    assert_eq!(tasks.running(), 0);
}
