//! Batches: what a front end checks before a daemon hears of them.

use browserfleet_mcp_frontend::keys::command::Create;
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
