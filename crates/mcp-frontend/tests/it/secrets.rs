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
}
