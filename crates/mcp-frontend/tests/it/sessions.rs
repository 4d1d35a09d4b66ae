//! Which session a call belongs to.

use std::time::Duration;

use browserfleet_common::{
    egress::Egress,
    ids::{Principal, SessionName},
};
use browserfleet_mcp_frontend::session::{Client, Key, Limits, NewSession};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::world::{World, failure, text};

/// The lease a reply came from: one per session.
fn lease(result: &Value) -> &str {
    text(result).lines().find_map(|line| line.strip_prefix("- Lease: ")).unwrap_or_else(|| panic!("no lease: {result}"))
}

fn handle(result: &Value) -> String {
    result["structuredContent"]["session_id"].as_str().unwrap_or_else(|| panic!("no handle: {result}")).to_owned()
}

#[tokio::test]
async fn a_modern_call_without_a_session_gets_one_only_from_tools_that_open() {
    let world = World::start().await;
    let client = world.client();
    for tool in ["browser_snapshot", "browser_click", "browser_close", "session_close"] {
        let result = client.modern_call(tool, json!({ "target": "e1" })).await;
        let told = text(&result).to_owned();
        assert_eq!(failure(&result), "invalid_argument", "{result}");
        assert!(tool == "browser_close" || tool == "session_close" || told.contains("browser_open"), "{told}");
    }
    assert_eq!(world.daemon.seen().acquired, 0);
    let (one, two) = (
        client.modern_call("browser_open", json!({})).await,
        client.modern_call("browser_navigate", json!({ "url": "x" })).await,
    );
    assert_ne!(handle(&one), handle(&two));
    assert_ne!(lease(&one), lease(&two));
}

#[tokio::test]
async fn argument_then_header_then_default() {
    let world = World::start().await;
    let client = world.legacy().await;
    let default = client.call("browser_snapshot", json!({})).await;
    let with_header = client.again().header("x-session-id", "by-header");
    let by_header = with_header.call("browser_snapshot", json!({})).await;
    let by_argument = with_header.call("browser_snapshot", json!({ "session_id": "by-argument" })).await;
    let leases = [lease(&default), lease(&by_header), lease(&by_argument)];
    assert!(leases[0] != leases[1] && leases[1] != leases[2] && leases[0] != leases[2], "{leases:?}");
    assert_eq!(
        lease(&client.call("browser_click", json!({ "target": "e1", "session_id": "by-header" })).await),
        leases[1]
    );
    assert_eq!(lease(&client.call("browser_click", json!({ "target": "e1" })).await), leases[0]);
    // Any connection of the principal reaches it, a modern one too.
    let modern = world.client().modern_call("browser_snapshot", json!({ "session_id": "by-argument" })).await;
    assert_eq!(lease(&modern), leases[2]);
    // The handle of the default session works as a name, too.
    let own = handle(&client.call("browser_open", json!({})).await);
    assert_eq!(lease(&world.client().modern_call("browser_snapshot", json!({ "session_id": own })).await), leases[0]);
}

#[tokio::test]
async fn unknown_expired_and_foreign_handles_get_the_same_answer() {
    let world = World::with(|config| config.session.idle_ttl = Duration::from_millis(300)).await;
    let client = world.legacy().await;
    let expired = handle(&world.client().modern_call("browser_open", json!({})).await);
    sleep(Duration::from_millis(400)).await;
    let foreign = SessionName::mint();
    let new = NewSession {
        key: Key { principal: Principal::named("somebody else"), name: foreign.clone() },
        connection: None,
        client: Client::default(),
        egress: Egress::default(),
        idle_ttl: Duration::from_mins(1),
        max_lifetime: Duration::from_mins(1),
    };
    world.stores.sessions.create(new, Limits { per_principal: 1, total: 10 }).await.unwrap();
    let unknown = SessionName::mint();
    let mut answers = Vec::new();
    for name in [expired.as_str(), foreign.as_str(), unknown.as_str(), "bs_x"] {
        for tool in ["browser_snapshot", "browser_navigate", "browser_close", "session_close"] {
            let result = client.call(tool, json!({ "session_id": name })).await;
            assert_eq!(failure(&result), "handle_unknown_or_expired", "{tool} {result}");
            answers.push(result);
        }
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "not even the text differs");
}

#[tokio::test]
async fn malformed_names_never_reach_the_store() {
    let world = World::start().await;
    let client = world.legacy().await;
    for bad in [json!(""), json!("a b"), json!("a\r\nb"), json!("*"), json!("x".repeat(1 << 16)), json!(1), json!({})] {
        let result = client.call("browser_snapshot", json!({ "session_id": bad })).await;
        assert_eq!(failure(&result), "invalid_argument", "{result}");
    }
    let result = client.again().header("x-session-id", "a b").call("browser_snapshot", json!({})).await;
    assert_eq!(failure(&result), "invalid_argument");
}

#[tokio::test]
async fn what_cannot_run_makes_no_session_and_takes_no_browser() {
    let world = World::start().await;
    let legacy = world.legacy().await;
    for (tool, arguments) in [
        ("browser_navigate", json!({ "url": 5 })),
        ("browser_navigate", json!({})),
        ("browser_navigate", json!({ "url": "x", "speed": 3, "session_id": "mine" })),
        ("browser_navigate", json!({ "url": "x", "snapshot": "most" })),
        ("browser_open", json!({ "width": "wide" })),
        ("browser_click", json!({ "target": ["e1"], "session_id": "mine" })),
        ("browser_batch", json!({ "steps": [], "session_id": "mine" })),
    ] {
        let modern = world.client().modern_call(tool, arguments.clone()).await;
        for result in [legacy.call(tool, arguments.clone()).await, modern] {
            assert_eq!(failure(&result), "invalid_argument", "{tool} {arguments}: {result}");
        }
    }
    assert_eq!(world.daemon.leases(), Vec::<String>::new());
    assert_eq!(world.client().get("/health").await.json()["sessions"], 0);
    // A handle that is nobody's is told first, whatever else is wrong.
    let nobodys = json!({ "target": 5, "session_id": SessionName::mint().as_str() });
    assert_eq!(failure(&legacy.call("browser_click", nobodys).await), "handle_unknown_or_expired");
}

#[tokio::test]
async fn a_principal_has_a_limit() {
    let world = World::with(|config| config.session.per_principal = 2).await;
    let client = world.legacy().await;
    for name in ["a", "b"] {
        assert_eq!(client.call("browser_navigate", json!({ "url": "x", "session_id": name })).await["isError"], false);
    }
    let refused = client.call("browser_navigate", json!({ "url": "x", "session_id": "c" })).await;
    assert_eq!((failure(&refused), text(&refused).contains('2')), ("quota_exceeded", true), "{refused}");
    assert_eq!(failure(&world.client().modern_call("browser_open", json!({})).await), "quota_exceeded");
    assert_eq!(client.call("browser_snapshot", json!({ "session_id": "a" })).await["isError"], false);
    client.call("session_close", json!({ "session_id": "a" })).await;
    assert_eq!(client.call("browser_navigate", json!({ "url": "x", "session_id": "c" })).await["isError"], false);
    let stats = client.call("session_stats", json!({})).await["structuredContent"].clone();
    assert_eq!(stats, json!({ "sessions": 2, "max_sessions": 2, "active_calls": 1 }));
}

#[tokio::test]
async fn closing_the_browser_keeps_the_session_and_closing_the_session_ends_it() {
    let world = World::start().await;
    let client = world.legacy().await;
    // Nothing to close is no mistake.
    for tool in ["browser_close", "session_close"] {
        assert_eq!(client.call(tool, json!({})).await["isError"], false);
        assert_eq!(client.call(tool, json!({ "session_id": "never-used" })).await["isError"], false);
    }
    assert_eq!(world.client().get("/health").await.json()["sessions"], 0);
    let session = json!({ "session_id": handle(&world.client().modern_call("browser_open", json!({})).await) });
    let first = lease(&client.call("browser_snapshot", session.clone()).await).to_owned();
    client.call("browser_close", session.clone()).await;
    assert_eq!(world.daemon.seen().released, std::slice::from_ref(&first));
    let second = client.call("browser_snapshot", session.clone()).await;
    assert_eq!(
        (second["isError"].clone(), lease(&second) != first),
        (json!(false), true),
        "without a word: it was asked for"
    );
    client.call("session_close", session.clone()).await;
    assert_eq!(failure(&client.call("browser_snapshot", session).await), "handle_unknown_or_expired");
    assert_eq!(world.daemon.leases(), Vec::<String>::new());
}

#[tokio::test]
async fn lists_show_a_connection_its_own() {
    let world = World::start().await;
    let (client, other) = (world.legacy().await, world.legacy().await);
    client.call("browser_snapshot", json!({})).await;
    client.call("browser_snapshot", json!({ "session_id": "mine" })).await;
    other.call("browser_snapshot", json!({ "session_id": "theirs" })).await;
    let list = client.call("session_list", json!({})).await;
    assert!(text(&list).contains("- mine: opened 0 s ago") && !text(&list).contains("theirs"), "{list}");
    assert_eq!(list["structuredContent"]["sessions"].as_array().unwrap().len(), 2);
    let modern = world.client().modern_call("session_list", json!({})).await;
    assert_eq!(modern["structuredContent"], json!({ "count": 3 }));
    assert!(!text(&modern).contains("mine"));
}

#[tokio::test]
async fn operators_see_hashes_and_clients() {
    let world = World::start().await;
    let client = world.legacy().await.header("user-agent", "agent/1");
    client.call("browser_snapshot", json!({ "session_id": "visible-name" })).await;
    let own = handle(&client.call("browser_open", json!({})).await);
    let reply = world.client().get("/sessions").await;
    let shown = String::from_utf8_lossy(&reply.body).into_owned();
    for secret in ["visible-name", own.as_str(), &client.connection(), "token"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
    let overview = reply.json();
    assert_eq!((&overview["total"], &overview["with_browser"]), (&json!(2), &json!(2)));
    let first = &overview["sessions"][0];
    assert_eq!(first["client"], json!({ "name": "test", "version": "1" }));
    assert_eq!(first["user_agent"], "agent/1");
    assert!(overview["oldest_age_seconds"].as_f64() >= overview["average_age_seconds"].as_f64());
    assert!(overview["average_age_seconds"].as_f64() >= overview["newest_age_seconds"].as_f64());
}

#[tokio::test]
async fn sessions_are_filtered_and_come_in_pages() {
    let world = World::start().await;
    let client = world.legacy().await;
    for name in ["a", "b", "c"] {
        client.call("browser_snapshot", json!({ "session_id": name })).await;
    }
    let list = async |query: &str| world.client().get(&format!("/sessions{query}")).await;
    let names = |overview: &Value| {
        let sessions = overview["sessions"].as_array().unwrap();
        sessions.iter().map(|session| session["session"].clone()).collect::<Vec<_>>()
    };
    let all = list("").await.json();
    let hashes = names(&all);
    assert_eq!((hashes.len(), &all["next_offset"]), (3, &Value::Null));
    let first = list("?limit=2").await.json();
    assert_eq!((names(&first), &first["total"], &first["next_offset"]), (hashes[..2].to_vec(), &json!(3), &json!(2)));
    assert_eq!(names(&list("?offset=2&limit=2").await.json()), hashes[2..]);
    let one = list(&format!("?session={}", hashes[1].as_str().unwrap())).await.json();
    assert_eq!((names(&one), &one["total"]), (hashes[1..2].to_vec(), &json!(1)));
    for (query, total) in [("client=test", 3), ("client=other", 0), ("with_browser=true", 3), ("with_browser=false", 0)]
    {
        assert_eq!(list(&format!("?{query}")).await.json()["total"], total, "{query}");
    }
    // A filter that is not understood must not show everything.
    for bad in ["?name=a", "?limit=many", "?with_browser=perhaps"] {
        assert_eq!(list(bad).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn operators_see_where_a_session_s_browser_is() {
    let world = World::fleet(2).await;
    world.client().modern_call("browser_snapshot", json!({ "session_id": "s" })).await;
    let overview = world.client().get("/sessions").await.json();
    let daemon = overview["sessions"][0]["daemon"].as_str().unwrap();
    let pool = world.client().get("/pool").await.json();
    let daemons = pool["daemons"].as_array().unwrap();
    let holder = daemons.iter().find(|known| known["daemon"] == daemon).expect("it is one of the daemons");
    assert_eq!((&holder["leases"], &pool["leased"]), (&json!(0), &json!(1)), "fakes do not count leases");
    world.daemons[1].reachable(false);
    let pool = world.client().get("/pool").await.json();
    let failed = pool["daemons"].as_array().unwrap().iter().filter(|daemon| daemon["error"].is_string()).count();
    assert_eq!(failed, 1, "one that does not answer is listed with its error: {pool}");
}
