//! Several calls in one, through gRPC.

use std::time::Duration;

use browserfleet_tests::{
    daemon::{Answer, Daemon, Lease},
    pages::Pages,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

type Outcome = anyhow::Result<()>;

#[expect(clippy::needless_pass_by_value, reason = "arguments are written where they are used")]
fn step(tool: &str, arguments: Value) -> Value {
    json!({ "tool": tool, "arguments": arguments })
}

/// How each step stands, by its structured form.
fn standings(answer: &Answer) -> Vec<String> {
    let steps = answer.structured.as_ref().and_then(|value| value["steps"].as_array().cloned()).unwrap_or_default();
    let of = |step: &Value| match step["error"]["code"].as_str() {
        Some(code) => code.to_owned(),
        None => step["status"].as_str().unwrap_or_default().to_owned(),
    };
    steps.iter().map(of).collect()
}

fn headings(answer: &Answer) -> Vec<&str> {
    answer.text.lines().filter_map(|line| line.strip_prefix("### ")).collect()
}

async fn text_of(lease: &Lease, id: &str) -> anyhow::Result<String> {
    let function = format!("() => document.getElementById('{id}').textContent");
    Ok(lease.ok("browser_evaluate", json!({ "function": function })).await?.text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_form_is_filled_and_sent_in_one_call() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("batch").await?;
    let steps = json!([
        step("browser_navigate", json!({ "url": pages.at("/") })),
        step("browser_type", json!({ "target": "[name=name]", "text": "Ada" })),
        step("browser_evaluate", json!({ "function": "() => document.querySelector('input').value" })),
        step("browser_click", json!({ "target": "text=Go" })),
    ]);
    let done = lease.ok("browser_batch", json!({ "steps": steps })).await?;
    assert_eq!(standings(&done), ["ok"; 4]);
    assert!(done.text.contains("4 of 4 steps ok, 0 failed, 0 not run\n1. browser_navigate: ok\n"), "{}", done.text);
    assert_eq!(headings(&done), ["Result", "Ran Playwright code", "Step 3", "Page", "Snapshot"], "{}", done.text);
    assert_eq!(done.fenced, [(pages.url.clone(), "\"Ada\"".to_owned())], "words of a page stay in their marks");
    assert!(done.text.contains("/done?name=Ada") && done.text.contains("thank you"), "{}", done.text);
    assert!(done.text.contains("page.goto(") && done.text.contains(".fill('Ada');"), "{}", done.text);
    let structured = done.structured.unwrap_or_default();
    assert_eq!((&structured["ok"], &structured["failed"], &structured["not_run"]), (&json!(4), &json!(0), &json!(0)));
    assert_eq!(structured["steps"][2]["result"]["result"], "Ada", "{structured}");
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_fails_stops_the_others_unless_told_otherwise() -> Outcome {
    let adjust = |config: &mut browserfleet_pool_daemon::config::Config| config.times.action = Duration::from_secs(2);
    let (daemon, pages) = (Daemon::start(adjust)?, Pages::start().await?);
    let lease = daemon.lease("stop").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let steps = json!([
        step("browser_type", json!({ "target": "[name=name]", "text": "Ada" })),
        step("browser_click", json!({ "target": "#nothing" })),
        step("browser_click", json!({ "target": "#press" })),
    ]);
    let stopped = lease.call("browser_batch", json!({ "steps": steps })).await?;
    assert_eq!(stopped.outcome(), "element_not_actionable");
    assert!(stopped.error.as_ref().is_some_and(|error| error.message.starts_with("step 2 (browser_click): ")));
    assert_eq!(standings(&stopped), ["ok", "element_not_actionable", "not_run"]);
    assert!(stopped.text.contains("3. browser_click: not run") && stopped.text.contains("idle"), "{}", stopped.text);

    let went_on = lease.ok("browser_batch", json!({ "steps": steps, "on_error": "continue" })).await?;
    assert_eq!(standings(&went_on), ["ok", "element_not_actionable", "ok"]);
    assert!(went_on.text.contains("pressed 0false"), "{}", went_on.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_runs_of_a_batch_with_a_bad_step() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("checked").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let press = step("browser_click", json!({ "target": "#press" }));
    for bad in [
        step("browser_nonsense", json!({})),
        step("browser_click", json!({ "target": 7 })),
        step("browser_batch", json!({ "steps": [press] })),
        step("browser_open", json!({})),
        step("browser_close", json!({})),
    ] {
        let refused = lease.call("browser_batch", json!({ "steps": [press, bad] })).await?;
        assert_eq!(refused.outcome(), "invalid_argument", "{bad}");
        let message = refused.error.unwrap_or_default().message;
        assert!(message.starts_with("Step 2 (") && message.contains("Nothing of the batch has run"), "{message}");
    }
    assert!(text_of(&lease, "out").await?.contains("idle"));
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dialog_is_answered_by_the_next_step_or_shown_at_the_end() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("dialog").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/dialogs") })).await?;
    let ask = step("browser_click", json!({ "target": "text=Ask" }));
    let answer = step("browser_handle_dialog", json!({ "accept": true, "promptText": "Ada" }));
    let answered = lease.ok("browser_batch", json!({ "steps": [ask, answer] })).await?;
    assert!(answered.text.contains(": Ada") && answered.text.contains("Step 1"), "{}", answered.text);
    let left = lease.call("browser_batch", json!({ "steps": [ask, ask] })).await?;
    assert_eq!(standings(&left), ["ok", "page_hung"]);
    assert!(left.text.contains("can be handled by browser_handle_dialog"), "{}", left.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gets_in_between_and_the_deadline_leaves_a_report() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("turn").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let wait = step("browser_wait_for", json!({ "time": 1 }));
    let mark = step("browser_evaluate", json!({ "function": "() => { document.title = 'mine' }" }));
    let theirs = json!({ "function": "() => { const was = document.title; document.title = 'theirs'; return was }" });
    let batch = lease.call("browser_batch", json!({ "steps": [mark, wait, mark] }));
    let between = async {
        sleep(Duration::from_millis(300)).await;
        lease.call("browser_evaluate", theirs).await
    };
    let (batch, between) = tokio::join!(batch, between);
    assert_eq!(standings(&batch?), ["ok"; 3]);
    let between = between?;
    assert!(between.text.contains("mine"), "it came after all of the batch: {}", between.text);

    let began = Instant::now();
    let slow = json!([mark, step("browser_wait_for", json!({ "time": 30 })), mark]);
    let late = lease.call_within("browser_batch", json!({ "steps": slow }), Duration::from_secs(4)).await?;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(standings(&late), ["ok", "call_timeout", "not_run"], "{}", late.text);
    daemon.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_goes_away_stops_a_batch_in_a_step_and_the_rest_of_it() -> Outcome {
    let (daemon, pages) = (Daemon::start(|_| {})?, Pages::start().await?);
    let lease = daemon.lease("cancel").await?;
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    let say = |name: &str| step("browser_evaluate", json!({ "function": format!("() => fetch('/seen/{name}')") }));
    let wait = step("browser_wait_for", json!({ "time": 20 }));
    let batch = lease.call("browser_batch", json!({ "steps": [say("first"), wait, say("last")] }));
    let began = Instant::now();
    // Dropped as soon as its first step has run.
    let cancelled = async {
        tokio::select! {
            answer = batch => Some(answer),
            () = pages.seen("first") => None,
        }
    };
    anyhow::ensure!(timeout(Duration::from_secs(30), cancelled).await?.is_none(), "it waits in its second step");
    lease.ok("browser_navigate", json!({ "url": pages.at("/") })).await?;
    assert!(began.elapsed() < Duration::from_secs(15), "the turn is free at once: {:?}", began.elapsed());
    assert!(!pages.was_seen("last"));
    daemon.end().await
}
