//! Secrets by name: what a daemon gets of them, and what a client never does.

use std::{os::unix::fs::PermissionsExt as _, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browserfleet_common::error_code::ErrorCode;
use browserfleet_mcp_frontend::{secrets::Secrets, testing::Event};
use serde_json::json;

use crate::world::{World, failure, modern_params, request, text};

const VALUE: &str = "hunter2-and-more";

async fn guarded() -> World {
    let file = tempfile::NamedTempFile::new().unwrap();
    let entries = json!({ "LOGIN": { "value": VALUE, "origins": ["https://a.example"] } });
    std::fs::write(file.path(), entries.to_string()).unwrap();
    std::fs::set_permissions(file.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let secrets = Arc::new(Secrets::read(file.path()).unwrap());
    let world = World::with(|config| config.secrets = Arc::clone(&secrets)).await;
    world.daemon.answer(|request| {
        let got: Vec<_> = request.secrets.iter().map(|secret| (secret.value.as_str(), &secret.origins)).collect();
        let got = json!({ "got": got, "arguments": String::from_utf8_lossy(&request.arguments) }).to_string();
        let told = format!("{} secrets; {VALUE}", request.secrets.len());
        let end = if request.tool == "browser_evaluate" {
            Event::failed(ErrorCode::ScriptError, &told)
        } else {
            Event::end()
        };
        vec![
            Event::started(),
            Event::text("Result", &told),
            Event::structured(&got),
            Event::download(VALUE, VALUE.as_bytes()),
            end,
        ]
    });
    world
}

#[tokio::test]
async fn a_daemon_gets_what_a_call_names_and_a_client_nothing() {
    let world = guarded().await;
    let client = world.client();
    let typed = json!({ "tool": "browser_type", "arguments": { "target": "e1", "text": "${secret:LOGIN}" } });
    for (tool, arguments, secrets) in [
        ("browser_type", json!({ "target": "e1", "text": "a ${secret:LOGIN} b" }), 1),
        (
            "browser_fill_form",
            json!({ "fields": [{ "target": "e1", "type": "textbox", "value": "${secret:LOGIN}" }] }),
            1,
        ),
        ("browser_batch", json!({ "steps": [typed, typed] }), 1),
        ("browser_type", json!({ "target": "e1", "text": "plain" }), 0),
        ("browser_navigate", json!({ "url": "https://h/${secret:LOGIN}" }), 0),
        ("browser_evaluate", json!({ "function": "'${secret:LOGIN}'" }), 0),
    ] {
        let mut arguments = arguments;
        arguments["session_id"] = json!("mine");
        let result = client.modern_call(tool, arguments).await;
        assert!(text(&result).contains(&format!("{secrets} secrets; ${{secret:LOGIN}}")), "{tool}: {result}");
        assert!(!result.to_string().contains(VALUE), "{tool}: {result}");
        // What the page gave away is kept, without it.
        let links: Vec<_> =
            result["content"].as_array().unwrap().iter().filter_map(|part| part["uri"].as_str()).collect();
        assert_eq!(links.len(), 1, "{result}");
        let reader = client.again().for_modern("resources/read", links[0]);
        let read = reader.post(&request(1, "resources/read", modern_params(json!({ "uri": links[0] })))).await;
        let read = String::from_utf8_lossy(&read.body).into_owned();
        let shown = BASE64_STANDARD.encode("${secret:LOGIN}");
        assert!(read.contains(&shown) && !read.contains(&BASE64_STANDARD.encode(VALUE)), "{read}");
    }
}

#[tokio::test]
async fn a_secret_that_there_is_not_reaches_no_daemon() {
    let world = guarded().await;
    let arguments = json!({ "session_id": "mine", "target": "e1", "text": "${secret:OTHER}" });
    let refused = world.client().modern_call("browser_type", arguments).await;
    assert!(failure(&refused) == "invalid_argument" && text(&refused).contains("OTHER"), "{refused}");
    assert!(world.daemon.seen().called.is_empty());
    let list = world.client().get("/sessions").await.json();
    assert_eq!(list["sessions"], json!([]), "a call that cannot succeed makes no session");
    let arguments =
        json!({ "session_id": "bs_00000000000000000000000000000000", "target": "e1", "text": "${secret:OTHER}" });
    let foreign = world.client().modern_call("browser_type", arguments).await;
    assert_eq!(failure(&foreign), "handle_unknown_or_expired", "that is told first: {foreign}");
}

/// Wherever a result is cut, nothing is left of a value there.
#[tokio::test]
async fn no_beginning_of_a_value_is_shown_where_a_result_is_cut() {
    let world = guarded().await;
    let before = "x".repeat(4096 - 6);
    let result = json!({ "steps": [{ "status": "ok", "result": format!("{before}{VALUE} and {}", "y".repeat(100)) }] });
    let page = format!("{}{VALUE}", "x".repeat((1 << 20) - 6));
    world.daemon.answer(move |_| {
        vec![Event::started(), Event::text("Page", &page), Event::structured(&result.to_string()), Event::end()]
    });
    let steps = json!([{ "tool": "browser_snapshot" }]);
    let told = world.client().modern_call("browser_batch", json!({ "session_id": "mine", "steps": steps })).await;
    let step = told["structuredContent"]["steps"][0]["result"].as_str().unwrap();
    assert!(step.ends_with("x${secr\n[cut: the first of 4210 bytes]"), "{}", &step[4000..]);
    let mut cursor = told["structuredContent"]["next_cursor"].clone();
    let mut shown = told.to_string();
    while cursor.is_string() {
        let page =
            world.client().modern_call("browser_read_cursor", json!({ "cursor": cursor, "max_bytes": 500_000 })).await;
        cursor = page["structuredContent"]["next_cursor"].clone();
        shown.push_str(&page.to_string());
    }
    assert!(shown.contains("[cut here: ") && !shown.contains("hunt"), "the end of it: {}", &shown[shown.len() - 300..]);
}
