//! Whole conversations, also across front ends.

use serde_json::{Value, json};

use crate::world::{World, call, failure, initialize, request, text};

/// A client's life, one request after the other.
async fn legacy_journey(world: &World) {
    let client = world.legacy().await;
    let tools = client.post(&request("list", "tools/list", json!({}))).await.json();
    assert_eq!((&tools["id"], tools["result"]["tools"].as_array().unwrap().len() > 5), (&json!("list"), true));
    assert_eq!(client.post(&request(7, "ping", json!({}))).await.json()["result"], json!({}));

    let opened = client.call("browser_navigate", json!({ "url": "https://example.com" })).await;
    assert!(text(&opened).starts_with("### Result\nbrowser_navigate {\"url\":\"https://example.com\"}"), "{opened}");
    assert!(!text(&opened).contains("session_id"), "a default session is not named again and again");
    assert_eq!(opened["isError"], false);
    let lease = world.daemon.leases();
    for _ in 0..4 {
        let clicked = client.call("browser_click", json!({ "target": "e1" })).await;
        assert!(text(&clicked).contains(&format!("- Lease: {}", lease[0])), "the same browser: {clicked}");
    }
    let own = client.call("browser_open", json!({})).await;
    assert!(own["structuredContent"]["session_id"].as_str().unwrap().starts_with("bs_"));

    let second = client.call("browser_navigate", json!({ "url": "x", "session_id": "worker-2" })).await;
    assert_eq!(second["isError"], false);
    assert_eq!(world.daemon.leases().len(), 2);
    let listed = client.call("session_list", json!({})).await;
    assert_eq!(listed["structuredContent"]["sessions"].as_array().unwrap().len(), 2, "{listed}");

    let closed = client.call("browser_close", json!({ "session_id": "worker-2" })).await;
    let expected = "### Result\nNo open tabs. Navigate to a URL to create one.\n### Ran Playwright code\n```js\nawait \
                    page.close()\n```";
    assert_eq!(text(&closed), expected);
    assert_eq!(world.daemon.leases(), lease);
    assert_eq!(client.delete().await.status, 204);
    assert_eq!(world.daemon.leases(), Vec::<String>::new(), "the default session ended with its connection");
    assert_eq!(client.delete().await.status, 404);
    assert_eq!(client.post(&call(1, "browser_snapshot", json!({}))).await.status, 404);
}

#[tokio::test]
async fn a_legacy_client_through_one_front_end() {
    legacy_journey(&World::start().await).await;
}

#[tokio::test]
async fn a_legacy_client_through_two_front_ends_in_turn() {
    legacy_journey(&World::replicas(2).await).await;
}

#[tokio::test]
async fn a_legacy_client_through_three_front_ends_in_turn() {
    legacy_journey(&World::replicas(3).await).await;
}

#[tokio::test]
async fn a_modern_client_through_two_front_ends_in_turn() {
    let world = World::replicas(2).await;
    let client = world.client();
    let discovered = client.modern("server/discover", json!({})).await.json()["result"].clone();
    assert_eq!(discovered["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "browserfleet", "{discovered}");
    let listed = client.modern("tools/list", json!({})).await;
    assert_eq!(listed.headers.get("mcp-session-id"), None);
    let listed = listed.json()["result"].clone();
    assert_eq!((&listed["cacheScope"], listed["ttlMs"].as_u64() > Some(0)), (&json!("private"), true));

    let opened = client.modern_call("browser_open", json!({})).await;
    let handle = opened["structuredContent"]["session_id"].as_str().unwrap().to_owned();
    assert!(text(&opened).ends_with(&format!(
        "### Session\n- session_id: {handle}\n- Pass this session_id to later calls to use the same browser"
    )));
    for _ in 0..3 {
        let clicked = client.modern_call("browser_click", json!({ "target": "e1", "session_id": handle })).await;
        assert!(text(&clicked).contains("- Lease: lease-1") && !text(&clicked).contains("session_id"), "{clicked}");
    }
    assert_eq!(client.modern_call("session_close", json!({ "session_id": handle })).await["isError"], false);
    assert_eq!(world.daemon.leases(), Vec::<String>::new());
    let gone = client.modern_call("browser_snapshot", json!({ "session_id": handle })).await;
    assert_eq!(failure(&gone), "handle_unknown_or_expired");
}

#[tokio::test]
async fn tools_are_described_alike_to_everybody_in_a_fixed_order() {
    let world = World::start().await;
    let names = |tools: &Value| -> Vec<String> {
        tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    };
    let all = world.client().asking("all");
    let connected = all.again().shaken_hands().await;
    let legacy = connected.post(&request(1, "tools/list", json!({}))).await.json()["result"].clone();
    let modern = all.modern("tools/list", json!({})).await.json()["result"].clone();
    assert_eq!(legacy["tools"], modern["tools"]);
    let catalogue: Vec<_> = browserfleet_tools::CATALOGUE.iter().map(|tool| tool.name.to_owned()).collect();
    assert_eq!(names(&modern["tools"]), catalogue);
    assert!(legacy.get("cacheScope").is_none() && legacy.get("resultType").is_none(), "{legacy}");
    let snapshot = modern["tools"].as_array().unwrap().iter().find(|tool| tool["name"] == "browser_snapshot").unwrap();
    assert_eq!(snapshot["annotations"], json!({ "readOnlyHint": true }), "the others are as MCP assumes");
    assert_eq!(snapshot["title"], "Snapshot of the page");
    let page = world.client().modern("tools/list", json!({ "cursor": "forged" })).await;
    assert_eq!(page.code(), -32602);
}

#[tokio::test]
async fn handshakes_agree_on_a_version_both_know() {
    let world = World::start().await;
    let cases = [
        ("2025-11-25", "2025-11-25"),
        ("2024-11-05", "2024-11-05"),
        ("2026-07-28", "2025-11-25"),
        ("1999-01-01", "2025-11-25"),
    ];
    for (asked, agreed) in cases {
        let reply = world.client().post(&initialize(asked)).await.json();
        assert_eq!(reply["result"]["protocolVersion"], agreed, "{asked}");
    }
}
