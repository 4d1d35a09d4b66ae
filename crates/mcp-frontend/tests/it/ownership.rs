//! What belongs to one principal does not exist for another: every tool and every endpoint, with handles of others, of
//! nobody, and of what has ended, gets one answer, to the byte.

use std::time::Duration;

use browserfleet_common::{
    egress::Egress,
    ids::{Principal, SessionName},
};
use browserfleet_mcp_frontend::{
    keys::command::Create,
    session::{Client as Words, Key, Limits, NewSession, Scope},
    testing::Event,
};
use browserfleet_tools::{Arguments as _, CATALOGUE, ReadCursor, SessionUse, Tool};
use http::Method;
use serde_json::{Value, json};

use crate::{
    keys::{Keyed, legacy, seen},
    world::{Client, call, failure, modern_params, request, text, until},
};

const ALL: &[&str] = &["browser:read", "browser:act", "browser:evaluate", "browser:files", "admin"];

/// Handles that are not the caller's: of another principal, of nobody, of what it had itself.
struct Handles {
    foreign: String,
    unknown: String,
    ended: String,
    expired: String,
}

impl Handles {
    fn all(&self) -> [&str; 4] {
        [&self.foreign, &self.unknown, &self.ended, &self.expired]
    }
}

fn handle(result: &Value) -> String {
    result["structuredContent"]["session_id"].as_str().unwrap_or_else(|| panic!("no handle: {result}")).to_owned()
}

async fn handles(keyed: &Keyed, owner: &Client, caller: &Client) -> Handles {
    let foreign = handle(&owner.modern_call("browser_open", json!({})).await);
    let ended = handle(&caller.modern_call("browser_open", json!({})).await);
    assert_eq!(failure(&caller.modern_call("session_close", json!({ "session_id": ended })).await), "");
    let principal = principal_of(keyed, caller).await;
    let expired = SessionName::mint();
    let key = Key { principal, name: expired.clone() };
    // Long enough for Redis to write it on a busy machine.
    let moment = Duration::from_millis(50);
    let client = Words::default();
    let (connection, egress) = (None, Egress::default());
    let new = NewSession { key: key.clone(), connection, client, idle_ttl: moment, max_lifetime: moment, egress };
    keyed.world.stores.sessions.create(new, Limits { per_principal: 10, total: 100 }).await.unwrap();
    tokio::time::sleep(moment * 2).await;
    Handles { foreign, unknown: SessionName::mint().as_str().to_owned(), ended, expired: expired.as_str().to_owned() }
}

/// The principal behind a client: that of a session of its own.
async fn principal_of(keyed: &Keyed, client: &Client) -> Principal {
    client.modern_call("browser_open", json!({ "session_id": "a-name-of-its-own" })).await;
    let all = keyed.world.stores.sessions.list(Scope::All).await.unwrap();
    let own = all.iter().find(|record| record.name.as_str() == "a-name-of-its-own").unwrap();
    own.principal.clone()
}

#[tokio::test]
async fn every_tool_answers_alike_to_every_handle_that_is_not_the_callers() {
    let keyed = Keyed::replicas().await;
    let (owner, caller) =
        (keyed.client(Create::named("owner", ALL)).await, keyed.client(Create::named("caller", ALL)).await);
    let handles = handles(&keyed, &owner, &caller).await;
    let caller = caller.asking("all");
    let connected = legacy(&caller).await;
    let before = keyed.world.daemon.seen();
    for tool in CATALOGUE.iter().filter(|tool| tool.session != SessionUse::None) {
        let mut answers = Vec::new();
        for handle in handles.all() {
            let arguments = json!({ "session_id": handle });
            let params = json!({ "name": tool.name, "arguments": arguments });
            answers.push(seen(&caller.modern("tools/call", params).await));
            // By header, too.
            let by_header = caller.again().for_modern("tools/call", tool.name).header("x-session-id", handle);
            let params = modern_params(json!({ "name": tool.name, "arguments": {} }));
            answers.push(seen(&by_header.post(&request(1, "tools/call", params)).await));
        }
        for handle in handles.all() {
            let reply = connected.post(&call(1, tool.name, json!({ "session_id": handle }))).await;
            let result = reply.json()["result"].clone();
            assert_eq!(failure(&result), "handle_unknown_or_expired", "{}: {result}", tool.name);
            let modern: Value = serde_json::from_str(&answers[0].1).unwrap();
            assert_eq!(text(&result), text(&modern["result"]), "{}: the same in both eras", tool.name);
            answers.push((200, modern.to_string(), None));
        }
        let (modern, told) = (&answers[..8], &answers[0]);
        assert!(modern.iter().all(|answer| answer == told), "{}: {modern:#?}", tool.name);
        assert!(told.1.contains("handle_unknown_or_expired"), "{}: {}", tool.name, told.1);
    }
    // Tools about all sessions show nothing of it. Whose cursors mean what is in `artifacts`.
    let about_all = |tool: &&Tool| tool.session == SessionUse::None && tool.name != ReadCursor::TOOL;
    for tool in CATALOGUE.iter().filter(about_all) {
        let result = caller.modern_call(tool.name, json!({})).await;
        assert!(failure(&result).is_empty() && !result.to_string().contains(&handles.foreign), "{result}");
    }
    let seen = keyed.world.daemon.seen();
    assert_eq!((seen.released, seen.called), (before.released, before.called), "nothing has reached a browser");
    let still = owner.modern_call("browser_snapshot", json!({ "session_id": handles.foreign })).await;
    assert_eq!(failure(&still), "", "the owner's session is as it was");
}

#[tokio::test]
async fn a_name_of_ones_own_is_ones_own() {
    let keyed = Keyed::replicas().await;
    let (one, other) = (keyed.client(Create::named("one", ALL)).await, keyed.client(Create::named("other", ALL)).await);
    let lease = async |client: &Client| {
        let result = client.modern_call("browser_snapshot", json!({ "session_id": "shared" })).await;
        text(&result).lines().find_map(|line| line.strip_prefix("- Lease: ")).unwrap().to_owned()
    };
    let (mine, theirs) = (lease(&one).await, lease(&other).await);
    assert_ne!(mine, theirs);
    other.modern_call("session_close", json!({ "session_id": "shared" })).await;
    assert_eq!(lease(&one).await, mine);
    assert_eq!(keyed.world.daemon.seen().released, [theirs]);
}

#[tokio::test]
async fn every_endpoint_answers_alike_to_every_connection_that_is_not_the_callers() {
    let keyed = Keyed::replicas().await;
    keyed.world.daemon.answer(|call| {
        let last = if call.tool == "browser_wait_for" { Event::WaitForever } else { Event::end() };
        vec![Event::started(), last]
    });
    let (owner, caller) =
        (keyed.client(Create::named("owner", ALL)).await, keyed.client(Create::named("caller", ALL)).await);
    let owners = legacy(&owner).await;
    let ended = legacy(&caller).await;
    assert_eq!(ended.delete().await.status, 204);
    let unknown = "0123456789abcdef0123456789abcdef".to_owned();
    let mut stream = owners.again().header("accept", "text/event-stream").open(Method::GET, "/mcp", "").await;
    assert_eq!((stream.status.as_u16(), stream.event().await.as_deref()), (200, Some(": open")));
    let running = owners.again();
    let message = call(77, "browser_wait_for", json!({ "session_id": "runs" }));
    let runs = async {
        let reply = running.post(&message).await;
        panic!("the owner's call was touched: {reply:?}");
    };
    let walk = async {
        until("the owner's call runs", || keyed.world.daemon.seen().called.len() == 1).await;
        let ids = [owners.connection(), unknown, ended.connection()];
        let with = |id: &str| ended.again().header("mcp-session-id", id);
        for message in [
            call(1, "browser_snapshot", json!({})),
            request(2, "ping", json!({})),
            request(3, "tools/list", json!({})),
            request(4, "resources/list", json!({})),
            json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }),
            json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 77 } }),
            json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": 1, "progress": 1 } }),
            json!({ "jsonrpc": "2.0", "id": "0:0", "result": {} }),
        ] {
            assert_alike(ids.each_ref().map(|id| with(id)), Method::POST, &message.to_string()).await;
        }
        let streams = ids.each_ref().map(|id| with(id).header("accept", "text/event-stream"));
        assert_alike(streams, Method::GET, "").await;
        assert_alike(ids.each_ref().map(|id| with(id)), Method::DELETE, "").await;
        assert_eq!(keyed.world.daemon.seen().abandoned, 0, "nobody has cancelled the owner's call");
    };
    tokio::select! {
        () = runs => {}
        () = walk => {}
    }
    let ping = owners.post(&request(9, "ping", json!({}))).await;
    assert_eq!(ping.status, 200, "the owner's connection lives");
    assert_eq!(owners.delete().await.status, 204);
    assert_eq!(stream.event().await, None, "the owner's stream was its own until now");
}

async fn assert_alike(clients: [Client; 3], method: Method, body: &str) {
    let mut answers = Vec::new();
    for client in &clients {
        answers.push(seen(&client.send(method.clone(), "/mcp", body.to_owned()).await));
    }
    assert!(answers[0].0 == 404 && answers.iter().all(|answer| *answer == answers[0]), "{method} {body}: {answers:#?}");
}
