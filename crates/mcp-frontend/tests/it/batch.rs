//! Batches: what a front end checks before a daemon hears of them.

use browserfleet_mcp_frontend::{keys::command::Create, testing::Event};
use http::Method;
use serde_json::{Value, json};

use crate::{
    keys::Keyed,
    world::{World, failure, text},
};

fn batch(steps: &Value) -> Value {
    json!({ "session_id": "mine", "steps": steps })
}

#[tokio::test]
async fn a_batch_is_one_call_of_a_daemon() {
    let world = World::start().await;
    let steps = json!([{ "tool": "browser_snapshot" }, { "tool": "browser_click", "arguments": { "target": "e1" } }]);
    let result = world.client().modern_call("browser_batch", batch(&steps)).await;
    assert_eq!(failure(&result), "", "{result}");
    assert_eq!(world.daemon.seen().called, ["browser_batch"]);
}

#[tokio::test]
async fn a_step_needs_what_its_tool_needs_and_is_refused_before_any_of_them_runs() {
    let keyed = Keyed::start().await;
    let reader = keyed.client(Create::named("reader", &["browser:read"])).await;
    let look = json!({ "tool": "browser_snapshot" });
    let allowed = reader.modern_call("browser_batch", batch(&json!([look]))).await;
    assert_eq!(failure(&allowed), "", "{allowed}");
    for (step, needed) in [
        (json!({ "tool": "browser_click", "arguments": { "target": "e1" } }), "browser:act"),
        (json!({ "tool": "browser_evaluate", "arguments": { "function": "1" } }), "browser:evaluate"),
    ] {
        let refused = reader.modern_call("browser_batch", batch(&json!([look, step]))).await;
        assert_eq!(failure(&refused), "forbidden", "{refused}");
        assert!(text(&refused).contains(needed) && text(&refused).contains("Step 2"), "{refused}");
    }
    let all = keyed.client(Create::named("all", &["browser:read", "browser:act", "browser:evaluate"])).await;
    let unserved = all.modern_call("browser_batch", batch(&json!([{ "tool": "browser_cookie_list" }]))).await;
    assert!(failure(&unserved) == "forbidden" && text(&unserved).contains("caps=storage"), "{unserved}");
    let wrong = all.modern_call("browser_batch", batch(&json!([{ "tool": "browser_open" }]))).await;
    assert!(failure(&wrong) == "invalid_argument" && text(&wrong).contains("opens none"), "{wrong}");
    assert_eq!(keyed.world.daemon.seen().called, ["browser_batch"], "of all these one has reached a browser");
}

fn upload(uri: &str) -> Value {
    json!({ "tool": "browser_file_upload", "arguments": { "files": [{ "artifact": uri }] } })
}

#[tokio::test]
async fn nothing_is_read_for_a_batch_that_could_not_run() {
    let world = World::start().await;
    let client = world.client();
    let nowhere = upload("browserfleet://mine/0123");
    let read = client.modern_call("browser_batch", batch(&json!([nowhere]))).await;
    assert!(text(&read).contains("there is no artifact"), "{read}");
    let long = client.modern_call("browser_batch", batch(&json!(vec![nowhere.clone(); 21]))).await;
    assert!(failure(&long) == "invalid_argument" && text(&long).contains("has 21"), "{long}");
    let mixed = client.modern_call("browser_batch", batch(&json!([nowhere, { "tool": "browser_nonsense" }]))).await;
    assert!(text(&mixed).contains("no such tool"), "{mixed}");
    let mut foreign = batch(&json!([nowhere]));
    foreign["session_id"] = json!("bs_00000000000000000000000000000000");
    let foreign = client.modern_call("browser_batch", foreign).await;
    assert_eq!(failure(&foreign), "handle_unknown_or_expired", "{foreign}");
    assert!(world.daemon.seen().called.is_empty());
}

#[tokio::test]
async fn the_files_of_all_steps_share_one_room() {
    let world = World::start().await;
    world.daemon.answer(|_| vec![Event::started(), Event::end()]);
    let client = world.client();
    client.modern_call("browser_navigate", json!({ "session_id": "mine", "url": "x" })).await;
    let sender = client.again().header("x-session-id", "mine");
    let sent = sender.send(Method::PUT, "/artifacts/a.bin", vec![7; 2 << 20]).await.json();
    let step = upload(sent["uri"].as_str().unwrap());
    let one = client.modern_call("browser_batch", batch(&json!([step]))).await;
    assert_eq!(failure(&one), "", "{one}");
    let five = client.modern_call("browser_batch", batch(&json!(vec![step; 5]))).await;
    assert!(failure(&five) == "invalid_argument" && text(&five).contains("8 MiB together"), "{five}");
}

#[tokio::test]
async fn what_programs_get_of_the_steps_is_bounded_by_the_budget_of_the_reply() {
    let world = World::with(|config| config.call.reply_bytes = 20_000).await;
    let steps = json!([{ "result": { "a": "x".repeat(30_000) }, "status": "ok" }, { "result": "y".repeat(5000), "status": "ok" }]);
    let structured = json!({ "steps": steps, "ok": 2 }).to_string();
    world.daemon.answer(move |_| vec![Event::started(), Event::structured(&structured), Event::end()]);
    let look = json!({ "tool": "browser_snapshot" });
    let told = world.client().modern_call("browser_batch", batch(&json!([look, look]))).await;
    let steps = &told["structuredContent"]["steps"];
    assert_eq!(steps[0], json!({ "status": "ok", "omitted": ["result"] }), "{told}");
    assert!(steps[1]["result"].as_str().unwrap().ends_with("y\n[cut: the first of 5000 bytes]"), "{told}");
}
