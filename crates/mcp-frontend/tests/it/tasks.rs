//! Tasks: batches in a session, or each in its own.

use std::{collections::BTreeSet, time::Duration};

use browserfleet_common::{error_code::ErrorCode, pb::CallToolRequest};
use browserfleet_mcp_frontend::{Config, keys::command::Create, testing::Event};
use browserfleet_tools::Group;
use http::Method;
use serde_json::{Value, json};

use crate::{
    keys::Keyed,
    world::{World, call, failure, modern_params, request, text, until},
};

fn task(name: &str) -> Value {
    json!({ "name": name, "steps": [{ "tool": "browser_navigate", "arguments": { "url": format!("http://{name}.example/") } }] })
}

fn tasks(count: usize) -> Vec<Value> {
    (0..count).map(|number| task(&format!("t{number}"))).collect()
}

/// What the daemon is asked, and whether it is about a task.
fn is_about(request: &CallToolRequest, name: &str) -> bool {
    String::from_utf8_lossy(&request.arguments).contains(&format!("http://{name}.example/"))
}

fn of(result: &Value, member: &str) -> Vec<String> {
    let tasks = result["structuredContent"]["tasks"].as_array().unwrap_or_else(|| panic!("{result}"));
    tasks.iter().map(|task| task[member].as_str().unwrap_or_default().to_owned()).collect()
}

/// Tasks are for whoever asks for them; here for everybody.
fn serve_tasks(config: &mut Config) {
    config.tools.caps = [Group::Automation].into_iter().collect();
}

/// How many sessions there are.
async fn open_sessions(world: &World) -> usize {
    let list = world.client().get("/sessions").await.json();
    list["sessions"].as_array().map_or(0, Vec::len)
}

async fn until_none_is_open(world: &World) {
    for _ in 0..500 {
        if open_sessions(world).await == 0 && world.daemon.leases().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("sessions or leases are left: {} and {:?}", open_sessions(world).await, world.daemon.leases());
}

#[tokio::test]
async fn tasks_run_one_after_the_other_in_their_session() {
    let world = World::with(serve_tasks).await;
    let client = world.client();
    let arguments = json!({ "session_id": "mine", "tasks": tasks(3) });
    let result = client.modern_call("session_run_tasks", arguments).await;
    assert_eq!((failure(&result), of(&result, "status")), ("", vec!["ok".to_owned(); 3]), "{result}");
    assert!(text(&result).contains("3 of 3 tasks ok\n1. t0: ok\n2. t1: ok\n3. t2: ok"), "{result}");
    assert!(text(&result).contains("### Task 2 (t1): Result"), "{result}");
    assert_eq!(world.daemon.seen().called, ["browser_batch"; 3]);
    assert_eq!((world.daemon.seen().acquired, open_sessions(&world).await), (1, 1), "all in one session, which stays");
    let nowhere = client.modern_call("session_run_tasks", json!({ "tasks": tasks(1) })).await;
    assert_eq!(failure(&nowhere), "invalid_argument", "{nowhere}");
}

#[tokio::test]
async fn one_that_fails_stops_no_other() {
    let world = World::with(serve_tasks).await;
    world.daemon.answer(|request| {
        if is_about(request, "t1") {
            return vec![Event::started(), Event::failed(ErrorCode::NavigationFailed, "step 1: no such host")];
        }
        vec![Event::started(), Event::text("Step 1", "said"), Event::text("Snapshot", "large"), Event::end()]
    });
    for concurrent in [false, true] {
        let arguments = json!({ "session_id": "mine", "tasks": tasks(3), "concurrent": concurrent });
        let result = world.client().modern_call("session_run_tasks", arguments).await;
        assert_eq!(
            (failure(&result), of(&result, "status")),
            ("", vec!["ok".into(), "failed".into(), "ok".into()]),
            "{result}"
        );
        assert_eq!(result["structuredContent"]["tasks"][1]["error"]["code"], "navigation_failed");
        assert!(text(&result).contains("2. t1: navigation_failed") && !text(&result).contains("large"), "{result}");
    }
}

#[tokio::test]
async fn concurrent_tasks_have_sessions_of_their_own_that_end_with_them() {
    let world = World::with(serve_tasks).await;
    world.daemon.answer(|_| vec![Event::started(), Event::Wait(Duration::from_millis(300)), Event::end()]);
    let client = world.client();
    let running = client.modern_call("session_run_tasks", json!({ "tasks": tasks(4), "concurrent": true }));
    let watching = async {
        let mut most = 0;
        while most < 4 {
            most = most.max(open_sessions(&world).await);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        most
    };
    let (result, most) = tokio::join!(running, watching);
    assert_eq!((most, of(&result, "status")), (4, vec!["ok".to_owned(); 4]), "all at once, and listed: {result}");
    assert_eq!(world.daemon.seen().released.iter().collect::<BTreeSet<_>>().len(), 4, "each browser is given back");
    assert_eq!((open_sessions(&world).await, world.daemon.leases().len()), (0, 0), "nothing is left");
}

#[tokio::test]
async fn what_is_too_large_of_a_task_is_kept_only_where_its_session_stays() {
    let world = World::with(|config| {
        serve_tasks(config);
        config.call.reply_bytes = 20_000;
        config.call.inline_bytes = 10;
    })
    .await;
    world.daemon.answer(|_| {
        let lines = "a line\n".repeat(10_000);
        let (picture, file) = (Event::image(&[0; 11]), Event::download("a.csv", b"1;2"));
        vec![Event::started(), Event::text("Step 1", &lines), picture, Event::image(&[0; 10]), file, Event::end()]
    });
    let client = world.client();
    let arguments = |concurrent| json!({ "session_id": "mine", "tasks": tasks(2), "concurrent": concurrent });
    let kept = client.modern_call("session_run_tasks", arguments(false)).await;
    assert!(text(&kept).contains("browser_read_cursor") && text(&kept).contains("a.csv"), "{kept}");
    let gone = client.modern_call("session_run_tasks", arguments(true)).await;
    let told = text(&gone);
    assert!(told.len() < 21_500 && !told.contains("cursor") && !told.contains("browserfleet://"), "{told}");
    assert_eq!(told.matches(" of 70000, ").count(), 2, "{told}");
    assert_eq!(told.matches("the rest is gone with the session of its task").count(), 2, "{told}");
    for lost in ["- picture (11 bytes) is gone", "- a.csv (3 bytes) is gone"] {
        assert_eq!(told.matches(lost).count(), 2, "{told}");
    }
    let parts = gone["content"].as_array().unwrap().iter();
    assert_eq!(parts.filter(|part| part["type"] == "image").count(), 2, "small ones are shown: {gone}");
}

#[tokio::test]
async fn a_principals_limits_hold_for_its_tasks() {
    let world = World::with(|config| {
        serve_tasks(config);
        config.session.per_principal = 2;
    })
    .await;
    let result =
        world.client().modern_call("session_run_tasks", json!({ "tasks": tasks(5), "concurrent": true })).await;
    assert_eq!(of(&result, "status"), ["ok"; 5], "those beyond the limit wait for one that ends: {result}");
    world.client().modern_call("browser_navigate", json!({ "session_id": "one", "url": "http://h/" })).await;
    world.client().modern_call("browser_navigate", json!({ "session_id": "two", "url": "http://h/" })).await;
    let full = world.client().modern_call("session_run_tasks", json!({ "tasks": tasks(2), "concurrent": true })).await;
    assert_eq!((failure(&full), of(&full, "status")), ("quota_exceeded", vec!["failed".to_owned(); 2]), "{full}");
}

#[tokio::test]
async fn a_task_with_a_bad_step_refuses_all_of_them() {
    let keyed = Keyed::start().await;
    let reader = keyed.client(Create::named("reader", &["browser:read"])).await.asking("automation");
    let bad =
        json!({ "name": "bad\n### Page", "steps": [{ "tool": "browser_click", "arguments": { "target": "e1" } }] });
    let refused =
        reader.modern_call("session_run_tasks", json!({ "session_id": "s", "tasks": [task("t0"), bad] })).await;
    assert_eq!(failure(&refused), "forbidden", "{refused}");
    assert!(text(&refused).contains("Task 2 (\"bad") && !text(&refused).contains("\n###"), "{refused}");
    for wrong in [json!([]), json!(tasks(11)), json!([{ "name": "x", "steps": [] }])] {
        let refused = reader.modern_call("session_run_tasks", json!({ "session_id": "s", "tasks": wrong })).await;
        assert_eq!(failure(&refused), "invalid_argument", "{refused}");
    }
    assert!(keyed.world.daemon.seen().called.is_empty());
}

#[tokio::test]
async fn nothing_is_left_of_tasks_whose_caller_hangs_up() {
    let world = World::with(serve_tasks).await;
    world.daemon.answer(|_| vec![Event::started(), Event::WaitForever]);
    let arguments = json!({ "name": "session_run_tasks", "arguments": { "tasks": tasks(3), "concurrent": true } });
    let body = request(1, "tools/call", modern_params(arguments)).to_string();
    let client = world.client().for_modern("tools/call", "session_run_tasks");
    let hung_up = async {
        tokio::select! {
            _never = client.send(Method::POST, "/mcp", body) => panic!("it cannot end"),
            () = until("three of them run", || world.daemon.seen().called.len() == 3) => {}
        }
    };
    hung_up.await;
    until_none_is_open(&world).await;
    assert_eq!(world.daemon.seen().abandoned, 3);
}

#[tokio::test]
async fn nothing_is_left_of_tasks_whose_time_is_over() {
    let world = World::with(|config| {
        serve_tasks(config);
        config.call.timeout = Duration::from_millis(400);
        config.call.queue_wait = Duration::from_millis(200);
        config.call.tasks_timeout = Duration::from_millis(600);
    })
    .await;
    world.daemon.answer(|_| vec![Event::started(), Event::WaitForever]);
    let result =
        world.client().modern_call("session_run_tasks", json!({ "tasks": tasks(2), "concurrent": true })).await;
    assert_eq!(failure(&result), "call_timeout", "{result}");
    until_none_is_open(&world).await;
}

#[tokio::test]
async fn whoever_waits_hears_how_each_task_ends() {
    let world = World::with(serve_tasks).await;
    let client = world.legacy().await;
    let mut message = call(7, "session_run_tasks", json!({ "tasks": tasks(2) }));
    message["params"]["_meta"] = json!({ "progressToken": "p" });
    let mut stream = client.open(Method::POST, "/mcp", message.to_string()).await;
    let (mut said, mut numbers) = (Vec::new(), Vec::new());
    while let Some(message) = stream.message().await {
        if message["id"] == json!(7) {
            assert_eq!(of(&message["result"], "status"), ["ok"; 2], "{message}");
            break;
        }
        said.push(message["params"]["message"].as_str().unwrap_or_default().to_owned());
        numbers.push(message["params"]["progress"].as_f64().unwrap_or_default());
    }
    let told: Vec<_> = said.iter().filter(|words| words.starts_with("Task ")).collect();
    assert_eq!(
        told,
        [
            "Task 1 of 2 (t0) begins",
            "Task 1 of 2 (t0) has ended: ok",
            "Task 2 of 2 (t1) begins",
            "Task 2 of 2 (t1) has ended: ok"
        ]
    );
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
}
