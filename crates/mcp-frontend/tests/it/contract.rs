//! What the transport must answer, whatever comes.

use std::{fs, path::Path, sync::Arc};

use browserfleet_mcp_frontend::Fault;
use futures_util::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::world::{Client, World, call, failure, initialize, modern_params, request, text};

fn raw(depth: usize) -> String {
    format!(
        "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\",\"params\":{{\"x\":{}{}}}}}",
        "[".repeat(depth),
        "]".repeat(depth)
    )
}

#[tokio::test]
async fn what_is_no_json_is_a_parse_error_in_both_eras() {
    let world = World::start().await;
    let (legacy, modern) = (world.legacy().await, world.client().for_modern("ping", ""));
    let bodies: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"hello".to_vec(),
        b"{\"jsonrpc\":\"2.0\",".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\"}".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":NaN,\"method\":\"ping\"}".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"id\":2,\"method\":\"ping\"}".to_vec(),
        raw(63).into_bytes(),
        raw(10_000).into_bytes(),
    ];
    for body in bodies {
        for client in [&legacy, &modern] {
            let reply = client.send(Method::POST, "/mcp", body.clone()).await;
            assert_eq!((reply.status.as_u16(), reply.code()), (400, -32700), "{reply:?}");
        }
    }
    assert_eq!(legacy.send(Method::POST, "/mcp", raw(40)).await.status, 200);
}

#[tokio::test]
async fn what_is_no_request_is_invalid_in_both_eras() {
    let world = World::start().await;
    let (legacy, modern) = (world.legacy().await, world.client().for_modern("ping", ""));
    let mut messages = vec![
        json!([request(1, "ping", json!({}))]),
        json!([]),
        json!({ "id": 1, "method": "ping" }),
        json!({ "jsonrpc": "2.0", "method": "tools/list" }),
        json!({ "jsonrpc": "2.0", "id": 1, "method": "ping", "params": [1] }),
    ];
    for id in [json!(null), json!(1.5), json!({}), json!("x".repeat(1000))] {
        messages.push(json!({ "jsonrpc": "2.0", "id": id, "method": "ping" }));
    }
    for message in &messages {
        for client in [&legacy, &modern] {
            let reply = client.post(message).await;
            assert_eq!((reply.status.as_u16(), reply.code()), (400, -32600), "{message}: {reply:?}");
        }
    }
    // Nobody asks a modern client anything, so its response answers nothing.
    let reply = modern.post(&json!({ "jsonrpc": "2.0", "id": 1, "result": {} })).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (400, -32600));
    let reply = legacy.post(&json!({ "jsonrpc": "2.0", "id": "nobody:1", "result": {} })).await;
    assert_eq!(reply.status, 202);
}

#[tokio::test]
async fn calls_that_are_none_are_invalid_params() {
    let world = World::start().await;
    let (legacy, modern) = (world.legacy().await, world.client().for_modern("tools/call", ""));
    for params in [json!({}), json!({ "name": 7 }), json!({ "name": "browser_open", "arguments": [] })] {
        let reply = legacy.post(&request(1, "tools/call", params.clone())).await;
        assert_eq!(reply.code(), -32602, "{reply:?}");
        let reply = modern.post(&request(1, "tools/call", modern_params(params))).await;
        assert_eq!(reply.code(), -32602, "{reply:?}");
    }
    let unknown = call(1, "browser_fly", json!({}));
    let message = json!("Tool \"browser_fly\" not found");
    let reply = legacy.post(&unknown).await;
    assert_eq!((reply.code(), &reply.json()["error"]["message"]), (-32602, &message));
    let reply = world.client().modern("tools/call", json!({ "name": "browser_fly" })).await;
    assert_eq!((reply.code(), &reply.json()["error"]["message"]), (-32602, &message));
    // Arguments that do not fit a tool are the agent's to correct.
    let result = legacy.call("session_list", json!({ "all": true })).await;
    assert_eq!((failure(&result), text(&result).contains("all")), ("invalid_argument", true), "{result}");
}

#[tokio::test]
async fn media_types_and_methods() {
    let world = World::start().await;
    let ping = request(1, "ping", json!({}));
    for (content_type, status) in [("text/plain", 415), ("", 415), ("application/json; charset=utf-8", 200)] {
        let client = world.legacy().await.header("content-type", content_type);
        assert_eq!(client.post(&ping).await.status, status, "{content_type}");
    }
    for (accept, status) in [("application/json", 406), ("text/html", 406), ("*/*", 200), ("", 200)] {
        let client = world.legacy().await.header("accept", accept);
        assert_eq!(client.post(&ping).await.status, status, "{accept}");
        let modern = world.client().header("accept", accept);
        assert_eq!(modern.modern("tools/list", json!({})).await.status, status, "{accept}");
    }
    for method in [Method::GET, Method::DELETE, Method::PUT] {
        let reply = world.client().header("mcp-protocol-version", "2026-07-28").send(method, "/mcp", "").await;
        assert_eq!((reply.status.as_u16(), reply.headers["allow"].as_bytes()), (405, &b"POST"[..]));
    }
    let reply = world.legacy().await.send(Method::PUT, "/mcp", "").await;
    assert_eq!((reply.status.as_u16(), reply.headers["allow"].to_str().unwrap()), (405, "POST, GET, DELETE"));
    assert_eq!(world.client().send(Method::POST, "/health", "").await.status, 405);
    assert_eq!(world.client().get("/nowhere").await.status, 404);
}

#[tokio::test]
async fn connection_ids_are_checked_and_stale_ones_forgiven_at_the_handshake() {
    let world = World::start().await;
    let ping = request(1, "ping", json!({}));
    let with = |id: &str| world.client().header("mcp-session-id", id);
    assert_eq!(world.client().post(&ping).await.status, 400);
    for unknown in ["0123456789abcdef0123456789abcdef", "../../etc", "*", &"x".repeat(1000)] {
        for message in [&ping, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" })] {
            assert_eq!(with(unknown).post(message).await.status, 404, "{unknown}");
        }
        assert_eq!(
            (with(unknown).get("/mcp").await.status, with(unknown).delete().await.status.as_u16()),
            (404.try_into().unwrap(), 404)
        );
    }
    assert_eq!(world.client().delete().await.status, 400);
    let probe = world.client().get("/mcp").await;
    assert_eq!((probe.status.as_u16(), probe.headers["allow"].to_str().unwrap()), (405, "POST, DELETE"));

    let afresh = with("0123456789abcdef0123456789abcdef").post(&initialize("2025-11-25")).await;
    assert_eq!(afresh.status, 200);
    let id = afresh.headers["mcp-session-id"].to_str().unwrap().to_owned();
    let reply = with(&id).post(&ping).await;
    assert_eq!((reply.status.as_u16(), reply.headers.get("mcp-session-id")), (200, None), "told once");
}

#[tokio::test]
async fn legacy_version_headers_are_tolerated_as_long_as_we_know_them() {
    let world = World::start().await;
    let client = world.legacy().await;
    for version in ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05", ""] {
        let client = client.again().header("mcp-protocol-version", version);
        assert_eq!(client.call("browser_snapshot", json!({})).await["isError"], false, "{version}");
    }
    for version in ["2020-01-01", "nonsense"] {
        let client = client.again().header("mcp-protocol-version", version);
        assert_eq!(client.post(&request(1, "ping", json!({}))).await.status, 400, "{version}");
        assert_eq!((client.get("/mcp").await.status.as_u16(), client.delete().await.status.as_u16()), (400, 400));
    }
    // At the handshake the body negotiates; a header beside it decides nothing.
    assert_eq!(
        world.client().header("mcp-protocol-version", "2026-07-28").post(&initialize("2025-06-18")).await.status,
        200
    );
}

#[tokio::test]
async fn modern_headers_must_say_what_the_body_says() {
    let world = World::start().await;
    let list = request(1, "tools/list", modern_params(json!({})));
    let future = {
        let mut params = modern_params(json!({}));
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!("2099-01-01");
        request(1, "tools/list", params)
    };
    let modern = || world.client().for_modern("tools/list", "");
    let cases: Vec<(&str, Client, &Value, i64)> = vec![
        ("no version", modern().header("mcp-protocol-version", ""), &list, -32020),
        ("another version", modern().header("mcp-protocol-version", "2025-11-25"), &list, -32020),
        ("unknown version", modern().header("mcp-protocol-version", "2099-01-01"), &future, -32022),
        ("no method", modern().header("mcp-method", ""), &list, -32020),
        ("another method", modern().header("mcp-method", "tools/call"), &list, -32020),
    ];
    for (case, client, message, code) in cases {
        let reply = client.post(message).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (400, code), "{case}: {reply:?}");
    }
    let call = request(1, "tools/call", modern_params(json!({ "name": "session_stats" })));
    for name in ["", "session_list", "=?base64?%%%?="] {
        let reply = world.client().for_modern("tools/call", name).post(&call).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (400, -32020), "{name}: {reply:?}");
    }
    // Metadata is missing although the header promises it.
    let reply = modern().post(&request(1, "tools/list", json!({}))).await;
    assert_eq!((reply.status.as_u16(), reply.code()), (400, -32602), "{reply:?}");
}

#[tokio::test]
async fn unknown_and_undeclared_methods() {
    let world = World::start().await;
    let legacy = world.legacy().await;
    let removed = world.client().modern("initialize", json!({})).await;
    assert_eq!((removed.status.as_u16(), removed.code()), (404, -32601), "{removed:?}");
    let methods = ["prompts/list", "prompts/get", "completion/complete", "logging/setLevel", "no/such"];
    for method in methods {
        let params = if method == "logging/setLevel" { json!({ "level": "info" }) } else { json!({}) };
        let reply = legacy.post(&request(1, method, params.clone())).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (200, -32601), "{method}");
        let reply = world.client().modern(method, params).await;
        assert_eq!((reply.status.as_u16(), reply.code()), (404, -32601), "{method}");
    }
}

#[tokio::test]
async fn hosts_and_origins_are_checked_on_every_path() {
    let world = World::start().await;
    let address = world.addresses[0];
    for path in ["/mcp", "/health", "/ready", "/sessions", "/nowhere"] {
        let status = async |name: &str, value: &str| world.client().header(name, value).get(path).await.status.as_u16();
        assert_eq!(status("host", "evil.example").await, 403, "{path}");
        assert_eq!(status("host", "user@localhost").await, 400, "{path}");
        for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
            assert_eq!(status("origin", origin).await, 403, "{path} {origin}");
        }
        assert_ne!(status("origin", &format!("http://{address}")).await, 403, "{path}");
    }
}

#[tokio::test]
async fn equal_ids_of_many_clients_do_not_mix() {
    let world = World::with(|config| config.session.per_principal = 100).await;
    let asked = join_all((0..64).map(|n| {
        let world = &world;
        async move {
            let marker = format!("https://example.com/{n}");
            let result = if n % 2 == 0 {
                world.legacy().await.call("browser_navigate", json!({ "url": marker })).await
            } else {
                world.client().modern_call("browser_navigate", json!({ "url": marker })).await
            };
            assert!(text(&result).contains(&format!("\"{marker}\"")), "{n}: {result}");
        }
    }));
    asked.await;
    assert_eq!(world.daemon.leases().len(), 64);
}

#[tokio::test]
async fn a_panic_is_answered_and_harms_nobody_else() {
    let fault = Fault(Arc::new(|tool| assert_ne!(tool.name, "browser_click", "on purpose")));
    let world = World::with_fault(fault).await;
    let legacy = world.legacy().await;
    let broken = legacy.call("browser_click", json!({ "target": "e1" })).await;
    assert_eq!((failure(&broken), text(&broken).contains("request id")), ("internal", true), "{broken}");
    let broken = world.client().modern_call("browser_click", json!({ "target": "e1" })).await;
    assert_eq!(failure(&broken), "internal");
    assert_eq!(legacy.call("browser_snapshot", json!({})).await["isError"], false);
    assert_eq!(world.client().get("/health").await.json()["active_calls"], 0);
}

#[tokio::test]
async fn no_tool_runs_code_in_the_server() {
    let world = World::start().await;
    let client = world.client().asking("all").shaken_hands().await;
    let reply = client.post(&request(1, "tools/list", json!({}))).await;
    let tools = reply.json()["result"]["tools"].clone();
    let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"browser_evaluate"), "{names:?}");
    // What Playwright MCP and others have: code of the caller in the server, and raw commands to Chromium.
    for unwanted in ["run_code", "cdp", "exec", "shell", "install", "start_server"] {
        assert!(!names.iter().any(|name| name.contains(unwanted)), "{unwanted}: {names:?}");
    }
}

#[test]
fn no_front_end_starts_a_program() {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut read = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            for unwanted in ["process::Command", "posix_spawn", "libloading"] {
                assert!(!text.contains(unwanted), "{} has {unwanted}", path.display());
            }
            read += 1;
        }
    }
    assert!(read > 50, "{read} files");
}
